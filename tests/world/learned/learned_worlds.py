"""Learned worlds small enough for tests."""

from __future__ import annotations

import numpy as np
import torch
from stepping import advance

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
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


CONFIG = SanaWMConfig(
    latent_channels=12,
    width=32,
    depth=4,
    heads=2,
    softmax_every=2,
    mlp_ratio=1.5,
    text_channels=None,
    position_entries=0,
    unread_entries=False,
)


def networks(config: SanaWMConfig) -> tuple[SanaWM, PatchCodec]:
    random = torch.Generator().manual_seed(0)
    model, codec = SanaWM(config, EXACT), PatchCodec(CodecConfig(channels=12, hidden=8, depth=1))
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.normal_(0.0, spread, generator=random)
        basis, _ = torch.linalg.qr(torch.randn(codec.config.values, 12, generator=random))
        codec.basis.copy_(basis)
        codec.mean.fill_(0.5)
        codec.scale.fill_(8.0)
        codec.correction[-1].weight.normal_(0.0, 0.05, generator=random)
    return model, codec


def start(seed: int = 0, width: int = WIDTH, prompt: str = "") -> Start:
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, width, 3), dtype=np.uint8)
    return Start(image, INTRINSICS, prompt)


def camera(chunk: int, step: float = 0.02, width: int = WIDTH) -> CameraTrajectory:
    """The 25 poses of a chunk of a camera that walks and turns evenly."""
    frames = np.arange(24 * chunk, 24 * chunk + 25)
    c2w = np.tile(np.eye(4), (25, 1, 1))
    angle = step * frames / 4
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 2, 3] = step * frames
    return CameraTrajectory(c2w, np.array(INTRINSICS), width, HEIGHT)


def walk(world, state, chunks, step=0.02):
    for _ in range(chunks):
        (state,) = advance(world, [state], [camera(state.chunk, step, world.spec.width)])
    return state
