"""A generator small enough to be written in every container."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig

SMALL = SanaWMConfig(
    latent_channels=4,
    width=16,
    depth=2,
    heads=1,
    softmax_every=2,
    text_channels=6,
    text_tokens=3,
    position_entries=5,
)

Weights = dict[str, Tensor]


@pytest.fixture
def small() -> SanaWMConfig:
    return SMALL


@pytest.fixture
def weights() -> Weights:
    """A released state dict, every entry random, `pos_embed` included."""
    random = torch.Generator().manual_seed(0)
    return {
        name: 0.1 * torch.randn(tensor.shape, generator=random)
        for name, tensor in SanaWM(SMALL).state_dict().items()
    }
