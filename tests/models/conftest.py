"""A network small enough for laws: two blocks of each kind, every weight random."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sana_wm_gym.models.numerics import EXACT, Numerics
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig

ROWS, COLUMNS = 2, 3
CONFIG = SanaWMConfig(
    latent_channels=6,
    width=32,
    depth=4,
    heads=2,
    softmax_every=2,
    mlp_ratio=1.5,
    text_channels=10,
    text_tokens=5,
    position_entries=0,
)

Build = Callable[..., SanaWM]
Inputs = tuple[Tensor, Tensor, Conditioning]


def randomise(model: SanaWM, seed: int = 0) -> SanaWM:
    """Fill all weights, those that start at zero included: a zero hides what it multiplies."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.normal_(0.0, spread, generator=random)
            if "norm" in name:
                parameter.add_(1.0)
    return model.eval()


def random_motions(*shape: int, random: torch.Generator, reach: float = 0.5) -> Tensor:
    """Random rotations with translations of about `reach`, [*shape, 4, 4]."""
    rotation, _ = torch.linalg.qr(torch.randn(*shape, 3, 3, generator=random))
    motion = torch.eye(4).expand(*shape, 4, 4).clone()
    motion[..., :3, :3] = rotation * rotation.det()[..., None, None]
    motion[..., :3, 3] = reach * torch.randn(*shape, 3, generator=random)
    return motion


@pytest.fixture(scope="session")
def build() -> Build:
    """A network with the same weights whatever the numerics."""

    def make(numerics: Numerics = EXACT, config: SanaWMConfig = CONFIG) -> SanaWM:
        return randomise(SanaWM(config, numerics))

    return make


@pytest.fixture(scope="session")
def draw() -> Callable[..., Inputs]:
    """Latents [2, 6, f, 2, 3], timesteps [2, f] and conditioning of a clip of f latent frames."""

    def make(frames: int, seed: int = 0, reach: float = 0.5) -> Inputs:
        random = torch.Generator().manual_seed(seed)
        grid = (frames, ROWS, COLUMNS)
        conditioning = Conditioning(
            ray_from_world=random_motions(2, *grid, random=random, reach=reach),
            plucker=torch.randn(2, 48, *grid, generator=random),
            text=torch.randn(2, 5, 10, generator=random),
            text_mask=torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]),
        )
        latents = torch.randn(2, 6, *grid, generator=random)
        return latents, torch.randint(0, 1001, (2, frames), generator=random), conditioning

    return make


@pytest.fixture(scope="session")
def rigid_motions() -> Callable[..., Tensor]:
    """Random rigid motions of a shape, [*shape, 4, 4]."""
    return random_motions
