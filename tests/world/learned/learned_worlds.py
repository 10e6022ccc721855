"""Learned worlds small enough for tests."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from camera_paths import ahead
from stepping import advance
from tiny_generators import scramble

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.training.config import TINY
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.world_model import Start, WorldSpec

HEIGHT, WIDTH = 16, 24
INTRINSICS = (14.0, 14.0, 12.0, 8.0)
SPEC = WorldSpec(
    name="random",
    height=HEIGHT,
    width=WIDTH,
    fps=16,
    frames_per_chunk=24,
    latent_shape=(12, 2, 3),
    intrinsics=INTRINSICS,
    limits=MotionLimits(),
    scenes=(3, 5),
)
CONFIG = replace(
    TINY, latent_channels=12, width=32, depth=4, heads=2, softmax_every=2, mlp_ratio=1.5
)


def networks(config: SanaWMConfig) -> tuple[SanaWM, PatchCodec]:
    random = torch.Generator().manual_seed(0)
    model, codec = SanaWM(config, EXACT), PatchCodec(CodecConfig(channels=12, hidden=8, depth=1))
    scramble(model, 0, vectors=0.3)
    with torch.no_grad():
        basis, _ = torch.linalg.qr(torch.randn(codec.config.values, 12, generator=random))
        codec.basis.copy_(basis)
        codec.mean.fill_(0.5)
        codec.scale.fill_(8.0)
        codec.correction[-1].weight.normal_(0.0, 0.05, generator=random)
    return model, codec


def start(seed: int = 0, width: int = WIDTH, prompt: str = "") -> Start:
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, width, 3), dtype=np.uint8)
    return Start(image, INTRINSICS, prompt)


def walk(world: Any, state: Any, chunks: int, step: float = 0.02) -> Any:
    """A state some chunks later, of a camera that moves ahead and turns."""
    for _ in range(chunks):
        [state] = advance(world, [state], [ahead(world.spec, state.chunk, step, step / 4)])
    return state


SURFACES = (Surface("door", ("red", "blue")), Surface("crates", ("green", "white", "grey")))
CAPTIONS = SurfaceCaptions(SURFACES)
FREQUENCIES = (1.5, 3.0)


def localised(threshold: float = -20.0) -> SanaWorld:
    """A world with a localiser and words; with a high `threshold` no picture is of its map."""
    torch.manual_seed(0)
    localiser = Localiser(LocaliserConfig(16, (8, 8, 8, 8), (0, 1, 0, 1), 16))
    localiser.threshold.fill_(threshold)
    spec = replace(SPEC, width=16, latent_shape=(12, 2, 2), surfaces=SURFACES, prompts=True)
    config = replace(
        CONFIG,
        plucker_channels=48 * (1 + 2 * len(FREQUENCIES)),
        text_channels=CAPTIONS.channels,
        text_tokens=CAPTIONS.tokens,
    )
    return SanaWorld(
        spec,
        *networks(config),
        self_forcing((1000, 0)),
        MemoryWindow(2),
        clean_pass=False,
        frequencies=FREQUENCIES,
        localiser=localiser,
        caption=CAPTIONS,
    )
