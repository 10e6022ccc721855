"""The released streaming generator as a world.

Four distilled steps and a clean pass make a chunk; softmax blocks see the first chunk and the one
before. Prompts are encoded once and kept on disk; the text encoder is then freed.
"""

from __future__ import annotations

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.refiner import CHUNK_CAUSAL
from sana_wm_gym.models.vae import CausalVae, VideoVae
from sana_wm_gym.weights.components import load_vae
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, FRAMES_PER_LATENT
from sana_wm_gym.world.learned.sampler import velocity_prediction
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule
from sana_wm_gym.world.procedural.renderer import default_intrinsics
from sana_wm_gym.world.released.files import STREAMING, ReleaseFiles
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offload import offloaded
from sana_wm_gym.world.world_model import WorldSpec

SIZE = (704, 1280)
FPS = 16.0

HORIZONTAL_FOV_DEG = 70.0
"""Assumed where an image has no intrinsics: about the main camera of a telephone."""

WINDOW = MemoryWindow(2, sink=True)
"""Memory of the release's softmax blocks: the first chunk and the latest."""

StreamingWorld = SanaWorld[CausalVae]


def load_streaming(
    files: ReleaseFiles,
    loading: Loading = Loading(),  # noqa: B008 - a frozen value
    *,
    size: tuple[int, int] = SIZE,
    schedule: NoiseSchedule = SELF_FORCING_4,
    window: MemoryWindow = WINDOW,
) -> StreamingWorld:
    """Load the released streaming world.

    Args:
        files: Where its parts are: `STREAMING.within(folder)` or `STREAMING.here()`.
        loading: Type, device, precision, offloading, second stage; see `Loading`.
        size: Frame (height, width) in pixels, multiples of the VAE's cell.
        schedule: Noise levels.
        window: Memory of softmax blocks.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: diffusers or transformers is not installed.
        ValueError: A file is damaged or of another variant, memory is short, or the parts do not
            fit one another or `size`.
    """
    vae = load_vae(CausalVae, files.vae, loading.dtype, loading.vae_place)
    if vae.channels != loading.config.latent_channels or vae.group != FRAMES_PER_LATENT:
        raise ValueError(
            f"given a VAE of {vae.channels} channels and {vae.group} frames per latent frame; "
            f"expected {loading.config.latent_channels} and {FRAMES_PER_LATENT}"
        )
    name = STREAMING.release + ("-refined" if loading.refined else "")
    if loading.offload.vae is not None:
        offloaded(vae, loading.place, "encode_image", "decode")
    return SanaWorld(
        released_spec(name, vae, size),
        loading.generator(files),
        vae,
        schedule,
        window,
        flow=velocity_prediction,
        caption=loading.captions(files),
        second_stage=loading.second_stage(files, CHUNK_CAUSAL),
    )


def released_spec(name: str, vae: VideoVae, size: tuple[int, int]) -> WorldSpec:
    """The spec of a released world for frames (height, width).

    Raises:
        ValueError: The size is not a multiple of the VAE's cell.
    """
    height, width = size
    if min(size) < 2 * vae.cell or height % vae.cell or width % vae.cell:
        raise ValueError(f"given frames of {size}; expected multiples of {vae.cell}, two at least")
    return WorldSpec(
        name=name,
        height=height,
        width=width,
        fps=FPS,
        frames_per_chunk=CHUNK_FRAMES,
        latent_shape=(vae.channels, height // vae.cell, width // vae.cell),
        intrinsics=assumed_intrinsics(height, width),
        limits=MotionLimits(),
        scenes=(),
        prompts=True,
    )


def assumed_intrinsics(height: int, width: int) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) of a frame of an unknown camera: `HORIZONTAL_FOV_DEG` wide."""
    return default_intrinsics(height, width, HORIZONTAL_FOV_DEG)
