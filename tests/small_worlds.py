"""Learned worlds small enough to run in tests: real codecs, untrained networks."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sana_wm_gym.models.codec import CodecConfig
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.training.fit_codec import fit_linear, walk_videos
from sana_wm_gym.weights.world_file import WorldFile, write_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.renderer import default_intrinsics
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.world_model import WorldSpec


def _small_world(spec: WorldSpec, network: SanaWMConfig, **settings: Any) -> SanaWorld:
    torch.manual_seed(0)
    [scene] = spec.scenes
    codec = fit_linear(CodecConfig(channels=24, hidden=16), walk_videos((scene,), 1, 48, 64))
    schedule = self_forcing((1000, 500, 0))
    return SanaWorld(
        spec, SanaWM(network, EXACT), codec, schedule, MemoryWindow(2, True), **settings
    )


_SPEC = WorldSpec(
    name="small",
    height=64,
    width=64,
    fps=16.0,
    frames_per_chunk=24,
    latent_shape=(24, 8, 8),
    intrinsics=default_intrinsics(64, 64),
    limits=WALK_LIMITS,
    scenes=(5,),
)
_NETWORK = SanaWMConfig(
    latent_channels=24,
    width=32,
    depth=3,
    heads=2,
    softmax_every=3,
    mlp_ratio=2.0,
    text_channels=None,
    position_entries=0,
    unread_entries=False,
)


@pytest.fixture(scope="session")
def small_world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world as the first version: a clean pass, cameras relative to the first frame."""
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    return _written(_small_world(_SPEC, _NETWORK), path)


@pytest.fixture(scope="session")
def courtyard_world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world with a localiser and prompts, and without a clean pass."""
    surfaces = generate_scene(COURTYARD).surfaces
    captions = SurfaceCaptions(surfaces)
    world = _small_world(
        replace(_SPEC, name="courtyard", scenes=(COURTYARD,), surfaces=surfaces),
        replace(
            _NETWORK,
            text_channels=captions.channels,
            text_tokens=captions.tokens,
            plucker_channels=48 * 3,
        ),
        clean_pass=False,
        frequencies=(3.0,),
        localiser=Localiser(LocaliserConfig(channels=(8, 8, 8, 8), depth=(0, 0, 0, 0), hidden=16)),
        caption=captions,
    )
    return _written(world, tmp_path_factory.mktemp("weights") / "courtyard.safetensors")


def file_of(world: SanaWorld) -> WorldFile:
    """Inverse of `world_of`."""
    spec = world.spec
    metadata = {
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
    return WorldFile(world.model, world.codec, metadata, world.localiser)


def _written(world: SanaWorld, path: Path) -> Path:
    write_world_file(path, file_of(world))
    return path
