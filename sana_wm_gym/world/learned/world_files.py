"""Learned worlds out of world files, and the embedded ones."""

from __future__ import annotations

from typing import Any

import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.checks import require_device
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.weights.world_file import EMBEDDED, WorldFile, read_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.world_model import WorldSpec


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
        ValueError: There is no such type, or worlds do not run on the device.
    """
    dtype = getattr(torch, autocast_dtype, 0) if isinstance(autocast_dtype, str) else autocast_dtype
    if not isinstance(dtype, torch.dtype | None):
        raise ValueError(f"autocast_dtype is {autocast_dtype!r}, expected one such as 'bfloat16'")
    if device is not None:
        require_device("device", device)
        for network in file.parts.values():
            network.to(device)
    facts = file.metadata
    height, width, patch = facts["height"], facts["width"], file.codec.config.patch
    fx, fy, cx, cy = facts["intrinsics"]
    spec = WorldSpec(
        name=facts["name"] if name is None else name,
        height=height,
        width=width,
        fps=facts["fps"],
        frames_per_chunk=CHUNK_FRAMES,
        latent_shape=(file.codec.config.channels, height // patch, width // patch),
        intrinsics=(fx, fy, cx, cy),
        limits=MotionLimits(**facts["limits"]),
        scenes=tuple(facts["scenes"]),
        start_radius=facts["start_radius"],
        surfaces=tuple(Surface(s["name"], tuple(s["variants"])) for s in facts["surfaces"]),
        prompts=bool(facts["surfaces"]),
    )
    return SanaWorld(
        spec,
        file.generator,
        file.codec,
        self_forcing(facts["timesteps"]),
        MemoryWindow(**facts["window"]),
        clean_pass=facts["clean_pass"],
        frequencies=tuple(facts["frequencies"]),
        localiser=file.localiser,
        caption=SurfaceCaptions(spec.surfaces) if spec.surfaces else None,
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
