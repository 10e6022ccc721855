"""The released streaming generator as a world: from a folder, or from what `fetch` left.

Where the parts are, says `release_files`. Four distilled steps and a clean pass make a chunk;
softmax blocks see the first chunk and the one before. Prompts are encoded once and kept on disk,
and the text encoder is let go.
"""

from __future__ import annotations

import math

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.refiner import CHUNK_CAUSAL
from sana_wm_gym.models.vae import CausalVae, VideoVae
from sana_wm_gym.weights.components import load_vae
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, FRAMES_PER_LATENT
from sana_wm_gym.world.learned.sampler import velocity_prediction
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule
from sana_wm_gym.world.released.files import STREAMING, ReleaseFiles
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offload import offloaded
from sana_wm_gym.world.world_model import WorldSpec

NAME = STREAMING.release
REFINED = f"{NAME}-refined"
FOLDER_VARIABLE = STREAMING.variable
"""Environment variable with a folder of the release's parts; it goes before the hub's cache."""
GENERATOR, VAE = STREAMING.generator, STREAMING.vae
"""Folders of the release's generator and VAE."""

SIZE = (704, 1280)
FPS = 16.0

HORIZONTAL_FOV_DEG = 70.0
"""Assumed where an image comes without intrinsics: about the main camera of a telephone."""

WINDOW = MemoryWindow(2, sink=True)
"""What the release remembers in softmax blocks: the first chunk and the latest."""

StreamingWorld = SanaWorld[CausalVae]

streaming_files = STREAMING.within
"""The parts in a folder that is laid out as the streaming release."""
streaming_files_here = STREAMING.here
"""The parts in the folder that `SANA_WM_STREAMING` names, else in the hub's cache."""


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
        files: Where its parts are.
        loading: Type, device, precision, offloading, second stage; see `Loading`.
        size: Frame (height, width) in pixels, multiples of the VAE's cell.
        schedule: Noise levels.
        window: What softmax blocks remember.

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
    spec = released_spec(REFINED if loading.refined else NAME, vae, size)
    if loading.offload.vae is not None:
        offloaded(vae, loading.place, "encode_image", "decode")
    return SanaWorld(
        spec,
        loading.generator(files.generator, Variant.STREAMING),
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
    """(fx, fy, cx, cy) of a frame whose camera nobody knows: `HORIZONTAL_FOV_DEG` wide."""
    focal = width / 2 / math.tan(math.radians(HORIZONTAL_FOV_DEG) / 2)
    return focal, focal, width / 2, height / 2
