"""A learned world small enough to run in tests: real codec, untrained generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sana_wm_gym.models.codec import CodecConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.training.fit_codec import fit_linear
from sana_wm_gym.weights.world_file import WorldFile, write_world_file
from sana_wm_gym.world.procedural import WALK_LIMITS
from sana_wm_gym.world.renderer import default_intrinsics
from sana_wm_gym.world.sana_world import SanaWorld, promise_of
from sana_wm_gym.world.schedule import self_forcing
from sana_wm_gym.world.world_model import WorldSpec


@pytest.fixture(scope="session")
def small_world_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    generator = SanaWM(
        SanaWMConfig(
            latent_channels=24,
            width=32,
            depth=3,
            heads=2,
            softmax_every=3,
            mlp_ratio=2.0,
            text_channels=None,
            position_entries=0,
            unread_entries=False,
        ),
        EXACT,
    )
    codec = fit_linear(CodecConfig(channels=24, hidden=16), (5,), walks=1, frames=48, size=64)
    spec = WorldSpec(
        name="small",
        height=64,
        width=64,
        fps=16.0,
        latent_shape=(24, 8, 8),
        intrinsics=default_intrinsics(64, 64),
        limits=WALK_LIMITS,
        scenes=(5,),
    )
    world = SanaWorld(spec, generator, codec, self_forcing((1000, 500, 0)), MemoryWindow(2, True))
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    write_world_file(path, WorldFile(generator, codec, promise_of(world)))
    return path
