"""Generators of tiny size with random weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig

CONFIG = SanaWMConfig(
    latent_channels=8,
    width=32,
    depth=4,
    heads=2,
    softmax_every=2,
    mlp_ratio=1.5,
    text_channels=16,
    text_tokens=12,
    position_entries=5,
)


def scramble(module: nn.Module, seed: int, vectors: float = 0.1) -> None:
    """Normal weights of variance 1 / fan-in; biases and other vectors of deviation `vectors`."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else vectors
            parameter.normal_(0.0, spread, generator=random)


def network(**changes: Any) -> SanaWM:
    model = SanaWM(replace(CONFIG, **changes)).eval().requires_grad_(False)
    scramble(model, 0)
    return model


def one_pass(model: SanaWM, cameras: bool = True) -> Tensor:
    """The velocity of one call on four latent frames of 2 x 3 cells."""
    random, config = torch.Generator().manual_seed(1), model.config
    rays = torch.eye(4).expand(1, 4, 2, 3, 4, 4).contiguous()
    given = Conditioning(
        rays if cameras else None,
        torch.randn(1, 48, 4, 2, 3, generator=random) if cameras else None,
        torch.randn(1, config.text_tokens, config.text_channels or 0, generator=random),
    )
    latents = torch.randn(1, config.latent_channels, 4, 2, 3, generator=random)
    with torch.inference_mode():
        return model(latents, torch.full((1,), 500.0), given, ChunkPlan(), None)[0]
