"""The released streaming generator as a world: from a folder, or from what `fetch` left.

    sana_dit/            generator: model.pt, or safetensors
    ltx2_causal_vae/     config.json and safetensors
    gemma-2-2b-it/       text encoder; not needed for prompts that are encoded already
    refiner_diffusers/   transformer/ and connectors/ of the second stage, for the refined world
    gemma3_12b/          its text encoder
    config.yaml          optional; its text_encoder.chi_prompt goes before diffusers' copy

Four distilled steps and a clean pass make a chunk; softmax blocks see the first chunk and the one
before. Prompts are encoded once and kept on disk, and the text encoder is let go.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.causal_vae import CausalVae
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.refiner import CHUNK_CAUSAL
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.weights.components import load_refiner, load_refiner_text
from sana_wm_gym.weights.fetch import fetch
from sana_wm_gym.weights.generator import load_generator
from sana_wm_gym.weights.names import RELEASED, Variant
from sana_wm_gym.weights.prompt_cache import PromptCache
from sana_wm_gym.weights.releases import release
from sana_wm_gym.weights.vae_folder import read_causal_vae
from sana_wm_gym.world.captions import (
    TEXT,
    Captions,
    chi_prompt,
    default_prompts,
    fingerprint,
    generator_captions,
)
from sana_wm_gym.world.sampler import velocity_prediction
from sana_wm_gym.world.sana_world import SanaWorld
from sana_wm_gym.world.schedule import SELF_FORCING_4, NoiseSchedule
from sana_wm_gym.world.second_stage import SecondStage
from sana_wm_gym.world.world_model import FRAMES_PER_LATENT, WorldSpec

NAME = "sana-wm-streaming"
REFINED = f"{NAME}-refined"
FOLDER_VARIABLE = "SANA_WM_STREAMING"
"""Environment variable with a folder in the layout above; it goes before the hub's cache."""

GENERATOR, VAE, SETTINGS = "sana_dit", "ltx2_causal_vae", "config.yaml"
REFINER, REFINER_TEXT = "refiner_diffusers", "gemma3_12b"
SIZE = (704, 1280)
FPS = 16.0

HORIZONTAL_FOV_DEG = 70.0
"""Assumed where an image comes without intrinsics: about the main camera of a telephone."""

WINDOW = MemoryWindow(2, sink=True)
"""What the release remembers in softmax blocks: the first chunk and the latest."""

StreamingWorld = SanaWorld[CausalVae]


@dataclass(frozen=True)
class StreamingFiles:
    """Where the parts of the release are.

    Attributes:
        generator: File or folder.
        vae: Folder.
        text: Folder of the text encoder, or None.
        encoder: Text encoder and revision, as the prompt cache tells them apart.
        settings: A config.yaml with the chi prompt, or None for the copy in diffusers.
        refiner: Folder with transformer/ and connectors/, or None.
        refiner_text: Folder of the refiner's text encoder, or None.
        refiner_encoder: That encoder and its revision.
    """

    generator: Path
    vae: Path
    text: Path | None
    encoder: str
    settings: Path | None = None
    refiner: Path | None = None
    refiner_text: Path | None = None
    refiner_encoder: str = REFINER_TEXT


def streaming_files(folder: Path) -> StreamingFiles:
    """The parts in a folder that is laid out as above.

    Raises:
        FileNotFoundError: The folder, the generator or the VAE is missing.
    """
    folder = Path(folder)
    absent = [f"{name}/" for name in (GENERATOR, VAE) if not (folder / name).is_dir()]
    if absent:
        raise FileNotFoundError(f"{folder} lacks {' and '.join(absent)} of {NAME}")
    text, settings = folder / TEXT, folder / SETTINGS
    refiner, refiner_text = folder / REFINER, folder / REFINER_TEXT
    return StreamingFiles(
        folder / GENERATOR,
        folder / VAE,
        text if text.is_dir() else None,
        f"{TEXT}@{fingerprint(text)}",
        settings if settings.is_file() else None,
        refiner if refiner.is_dir() else None,
        refiner_text if refiner_text.is_dir() else None,
        f"{REFINER_TEXT}@{fingerprint(refiner_text)}",
    )


def streaming_files_here(refined: bool = False) -> StreamingFiles:
    """The parts in the folder that `SANA_WM_STREAMING` names, else in the hub's cache.

    Args:
        refined: With those of the second stage.

    Raises:
        FileNotFoundError: They are not on this machine; says how to get them.
    """
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder:
        return streaming_files(Path(folder))
    parts = ["generator", "vae", "text", *(["refiner", "refiner_text"] if refined else [])]
    try:
        found = fetch(release(NAME), components=parts, offline=True)
    except (ImportError, FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(
            f"{NAME} is not on this machine ({error}); run `python -m sana_wm_gym.weights fetch "
            f"{NAME}`, or set {FOLDER_VARIABLE} to a folder with {GENERATOR}/ and {VAE}/"
        ) from error
    paths = found.paths

    def revision(part: str) -> str:
        return found.revisions[release(NAME).component(part).repository.hub_id]

    return StreamingFiles(
        paths["generator"],
        paths["vae"],
        paths["text"],
        f"{TEXT}@{revision('text')}",
        refiner=paths.get("refiner"),
        refiner_text=paths.get("refiner_text"),
        refiner_encoder=f"{REFINER_TEXT}@{revision('refiner_text')}" if refined else REFINER_TEXT,
    )


def load_streaming(
    files: StreamingFiles,
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
        device: Where they go; None is the GPU if there is one.
        prompts: Folder of encoded prompts; None is `default_prompts()`.
        refined: With the second stage, which refines every chunk before it is shown.

    Raises:
        FileNotFoundError: A part is missing.
        ImportError: diffusers or transformers is not installed.
        ValueError: A file is damaged or of another variant, memory is short, or the parts do not
            fit one another or `size`.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    vae = read_causal_vae(files.vae, dtype, device)
    if vae.channels != config.latent_channels or vae.group != FRAMES_PER_LATENT:
        raise ValueError(
            f"given a VAE of {vae.channels} channels and {vae.group} frames per latent frame; "
            f"expected {config.latent_channels} and {FRAMES_PER_LATENT}"
        )
    if min(size) < 2 * vae.cell or size[0] % vae.cell or size[1] % vae.cell:
        raise ValueError(f"given frames of {size}; expected multiples of {vae.cell}, two at least")
    model = load_generator(
        files.generator,
        Variant.STREAMING,
        config=config,
        numerics=numerics,
        dtype=dtype,
        device=device,
    )
    cache = PromptCache(default_prompts() if prompts is None else prompts)
    caption = None
    if config.text_channels is not None:
        chi = partial(chi_prompt, files.settings)
        caption = generator_captions(
            cache, files.encoder, files.text, chi, config.text_channels, str(device)
        )
    second_stage = _second_stage(files, cache, dtype, str(device)) if refined else None
    spec = WorldSpec(
        name=REFINED if refined else NAME,
        height=size[0],
        width=size[1],
        fps=FPS,
        latent_shape=(vae.channels, size[0] // vae.cell, size[1] // vae.cell),
        intrinsics=assumed_intrinsics(*size),
        limits=MotionLimits(),
        scenes=(),
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


def _second_stage(
    files: StreamingFiles, cache: PromptCache, dtype: torch.dtype, device: str
) -> SecondStage:
    if files.refiner is None or files.refiner_text is None:
        raise FileNotFoundError(
            f"no second stage; expected {REFINER}/ and {REFINER_TEXT}/ beside the generator"
        )
    refiner = load_refiner(files.refiner / "transformer", CHUNK_CAUSAL, dtype, device)
    load = partial(
        load_refiner_text, files.refiner_text, files.refiner / "connectors", device=device
    )
    channels = refiner.transformer.config.caption_channels
    return SecondStage(refiner, Captions(cache, files.refiner_encoder, str, load, channels))


def assumed_intrinsics(height: int, width: int) -> tuple[float, float, float, float]:
    """(fx, fy, cx, cy) of a frame whose camera nobody knows: `HORIZONTAL_FOV_DEG` wide."""
    focal = width / 2 / math.tan(math.radians(HORIZONTAL_FOV_DEG) / 2)
    return focal, focal, width / 2, height / 2
