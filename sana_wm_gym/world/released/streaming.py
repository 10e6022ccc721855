"""The released streaming generator as a world: from a folder, or from what `fetch` left.

Where the parts are, says `release_files`. Four distilled steps and a clean pass make a chunk;
softmax blocks see the first chunk and the one before. Prompts are encoded once and kept on disk,
and the text encoder is let go.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.causal_vae import CausalVae
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.refiner import CHUNK_CAUSAL
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.models.vae import VideoVae
from sana_wm_gym.weights.generator import load_generator
from sana_wm_gym.weights.names import RELEASED, Variant
from sana_wm_gym.weights.plan import Precision
from sana_wm_gym.weights.prompt_cache import PromptCache
from sana_wm_gym.weights.vae_folder import read_causal_vae
from sana_wm_gym.world.learned.captions import chi_prompt, default_prompts, generator_captions
from sana_wm_gym.world.learned.compiled import compile_step as compiled
from sana_wm_gym.world.learned.precision import quantise_generator, require_gpu
from sana_wm_gym.world.learned.sampler import velocity_prediction
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule
from sana_wm_gym.world.learned.second_stage import load_second_stage
from sana_wm_gym.world.released.files import STREAMING, ReleaseFiles
from sana_wm_gym.world.released.offload import RESIDENT, Offload, offloaded
from sana_wm_gym.world.world_model import CHUNK_FRAMES, FRAMES_PER_LATENT, WorldSpec

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
    *,
    config: SanaWMConfig = RELEASED,
    size: tuple[int, int] = SIZE,
    numerics: Numerics | None = None,
    schedule: NoiseSchedule = SELF_FORCING_4,
    window: MemoryWindow = WINDOW,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str | None = None,
    prompts: Path | None = None,
    refined: bool = False,
    offload: Offload = RESIDENT,
    precision: Precision = Precision.BF16,
    compile_step: bool = False,
) -> StreamingWorld:
    """Load the released streaming world.

    Args:
        files: Where its parts are.
        config: Size of the generator.
        size: Frame (height, width) in pixels, multiples of the VAE's cell.
        numerics: Revision to agree with; None is the released code.
        schedule: Noise levels.
        window: What softmax blocks remember.
        dtype: Type of generator, VAE and latents.
        device: Where everything computes; None is the GPU if there is one.
        prompts: Folder of encoded prompts; None is `default_prompts()`.
        refined: With the second stage, which refines every chunk before it is shown.
        offload: What rests elsewhere between its calls.
        precision: Of the larger weights of generator and refiner.
        compile_step: Compile the generator's step; not the decoder, whose frames would be blank.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: diffusers, transformers or Transformer Engine is not installed.
        ValueError: A file is damaged or of another variant, memory is short, the device lacks the
            precision, or the parts do not fit one another or `size`.
    """
    device = default_device() if device is None else torch.device(device)
    require_gpu(precision, dtype, device)
    vae = read_causal_vae(files.vae, dtype, device if offload.vae is None else offload.vae)
    if vae.channels != config.latent_channels or vae.group != FRAMES_PER_LATENT:
        raise ValueError(
            f"given a VAE of {vae.channels} channels and {vae.group} frames per latent frame; "
            f"expected {config.latent_channels} and {FRAMES_PER_LATENT}"
        )
    spec = released_spec(REFINED if refined else NAME, vae, size)
    if offload.vae is not None:
        offloaded(vae, device, "encode_image", "decode")
    model = load_stage_one(
        files.generator,
        Variant.STREAMING,
        config=config,
        numerics=numerics,
        dtype=dtype,
        device=device,
        precision=precision,
        compile_step=compile_step,
    )
    cache = PromptCache(default_prompts() if prompts is None else prompts)
    caption = None
    if config.text_channels is not None:
        chi = partial(chi_prompt, files.settings)
        text_device = str(device) if offload.text is None else offload.text
        caption = generator_captions(
            cache, files.encoder, files.text, chi, config.text_channels, text_device
        )
    second_stage = None
    if refined:
        second_stage = load_second_stage(
            files,
            CHUNK_CAUSAL,
            cache,
            dtype=dtype,
            device=device,
            offload=offload,
            precision=precision,
        )
    return SanaWorld(
        spec,
        model,
        vae,
        schedule,
        window,
        flow=velocity_prediction,
        caption=caption,
        second_stage=second_stage,
    )


def load_stage_one(
    path: Path,
    variant: Variant,
    *,
    config: SanaWMConfig,
    numerics: Numerics | None,
    dtype: torch.dtype,
    device: torch.device,
    precision: Precision,
    compile_step: bool,
) -> SanaWM:
    """A generator as it is to run; arguments as for `load_streaming`.

    Raises:
        ValueError, FileNotFoundError, ImportError: As `load_streaming`.
    """
    small = precision is not Precision.BF16
    model = load_generator(
        path,
        variant,
        config=config,
        numerics=numerics,
        dtype=dtype,
        # Quantised on the way to the device, which then never holds the whole.
        device="cpu" if small else device,
    )
    quantise_generator(model, precision, device)
    return compiled(model) if compile_step else model


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


def default_device() -> torch.device:
    """The GPU if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def assumed_intrinsics(height: int, width: int) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) of a frame whose camera nobody knows: `HORIZONTAL_FOV_DEG` wide."""
    focal = width / 2 / math.tan(math.radians(HORIZONTAL_FOV_DEG) / 2)
    return focal, focal, width / 2, height / 2
