"""Learned worlds out of world files, and the embedded ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import check_intrinsics
from sana_wm_gym.checks import require_device
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.values import from_json
from sana_wm_gym.weights.world_file import EMBEDDED, WorldFile, read_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.learned.conditioning import plucker_channels
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.world_model import WorldSpec


@dataclass(frozen=True)
class WorldFacts:
    """What a world file says about its world besides the networks; see `WorldSpec` and
    `SanaWorld`."""

    name: str
    height: int
    width: int
    fps: float
    intrinsics: tuple[float, float, float, float]
    limits: MotionLimits
    scenes: tuple[int, ...]
    start_radius: float | None
    surfaces: tuple[Surface, ...]
    frequencies: tuple[float, ...]
    clean_pass: bool
    timesteps: tuple[float, ...]
    window: MemoryWindow


def world_of(
    file: WorldFile,
    *,
    name: str | None = None,
    autocast_dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
) -> SanaWorld:
    """The world that a world file describes.

    Args:
        file: Networks and metadata.
        name: Instead of its own.
        autocast_dtype: Type that matrix products are rounded to, such as "bfloat16".
        device: Where the networks go; None leaves them where they are.

    Raises:
        ValueError: There is no such type, worlds do not run on the device, or the file describes
            no world.
    """
    dtype = getattr(torch, autocast_dtype, 0) if isinstance(autocast_dtype, str) else autocast_dtype
    if not isinstance(dtype, torch.dtype | None):
        raise ValueError(f"autocast_dtype is {autocast_dtype!r}, expected one such as 'bfloat16'")
    if device is not None:
        require_device("device", device)
        for network in file.parts.values():
            network.to(device)
    what = f"{file.path or 'world file'}"
    facts = from_json(WorldFacts, file.metadata, f"{what}: world")
    try:
        return _world(file, facts, facts.name if name is None else name, dtype)
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error


def _world(file: WorldFile, facts: WorldFacts, name: str, dtype: torch.dtype | None) -> SanaWorld:
    model, codec, patch = file.generator.config, file.codec.config, file.codec.config.patch
    check_intrinsics(np.array([facts.intrinsics]))
    caption = SurfaceCaptions(facts.surfaces) if facts.surfaces else None
    given = {
        "height and width": (facts.height % patch, facts.width % patch),
        "latent channels": model.latent_channels,
        "Pluecker channels": model.plucker_channels,
        "text channels": model.text_channels,
        "localiser's frames": (facts.height, facts.width),
    }
    size = (file.localiser.config.size,) * 2 if file.localiser else (facts.height, facts.width)
    text = caption and caption.channels
    expected = (0, 0), codec.channels, plucker_channels(facts.frequencies), text, size
    for (what, found), wanted in zip(given.items(), expected, strict=True):
        if found != wanted:
            raise ValueError(f"its networks do not fit: {what} {found}, expected {wanted}")
    spec = WorldSpec(
        name=name,
        height=facts.height,
        width=facts.width,
        fps=facts.fps,
        frames_per_chunk=CHUNK_FRAMES,
        latent_shape=(codec.channels, facts.height // patch, facts.width // patch),
        intrinsics=facts.intrinsics,
        limits=facts.limits,
        scenes=facts.scenes,
        start_radius=facts.start_radius,
        surfaces=facts.surfaces,
        prompts=bool(facts.surfaces),
    )
    return SanaWorld(
        spec,
        file.generator,
        file.codec,
        self_forcing(facts.timesteps),
        facts.window,
        clean_pass=facts.clean_pass,
        frequencies=facts.frequencies,
        localiser=file.localiser,
        caption=caption,
        autocast_dtype=dtype,
    )


def load_tiny(**settings: Any) -> SanaWorld:
    """The learned world that ships in the package; settings as of `world_of`, errors as of
    `read_world_file`."""
    return world_of(read_world_file(EMBEDDED / "tiny.safetensors"), **settings)


def load_tiny_bf16(device: torch.device | str | None = None) -> SanaWorld:
    """The same world with matrix products in bfloat16, as it was trained: batches are 1.6 times as
    fast on processors that have such products (AVX512-BF16, AMX), slower on others."""
    return load_tiny(name="tiny-bf16", autocast_dtype=torch.bfloat16, device=device)
