"""Learned worlds out of world files, and the embedded ones."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.weights.world_file import EMBEDDED, WorldFile, read_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldSpec


def world_of(
    file: WorldFile, *, name: str | None = None, autocast_dtype: torch.dtype | None = None
) -> SanaWorld:
    """The world that a world file describes; `name` and `autocast_dtype` replace its own."""
    facts = file.metadata
    size, patch = (facts["height"], facts["width"]), file.codec.config.patch
    fx, fy, cx, cy = facts["intrinsics"]
    spec = WorldSpec(
        name=facts["name"] if name is None else name,
        height=size[0],
        width=size[1],
        fps=facts["fps"],
        frames_per_chunk=CHUNK_FRAMES,
        latent_shape=(file.codec.config.channels, size[0] // patch, size[1] // patch),
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
        autocast_dtype=autocast_dtype,
    )


def metadata_of(world: SanaWorld) -> dict[str, Any]:
    """What `world_of` needs besides weights, as JSON values."""
    spec = world.spec
    return {
        "name": spec.name,
        "height": spec.height,
        "width": spec.width,
        "fps": spec.fps,
        "intrinsics": list(spec.intrinsics),
        "limits": asdict(spec.limits),
        "scenes": list(spec.scenes),
        "start_radius": spec.start_radius,
        "surfaces": [asdict(surface) for surface in spec.surfaces],
        "frequencies": list(world.frequencies),
        "clean_pass": world.clean_pass,
        "timesteps": [*world.schedule.timesteps, 0],
        "window": asdict(world.window),
    }


def load_tiny() -> SanaWorld:
    """The learned world that ships in the package.

    Raises:
        FileNotFoundError: The package was built without its weights.
        ValueError: The weights are damaged.
    """
    return world_of(read_world_file(EMBEDDED / "tiny.safetensors"))


def load_tiny_bf16() -> SanaWorld:
    """The same world with matrix products in bfloat16, as it was trained: batches are 1.6 times as
    fast on processors that have such products (AVX512-BF16, AMX), slower on others.

    Raises:
        FileNotFoundError: The package was built without its weights.
        ValueError: The weights are damaged.
    """
    file = read_world_file(EMBEDDED / "tiny.safetensors")
    return world_of(file, name="tiny-bf16", autocast_dtype=torch.bfloat16)
