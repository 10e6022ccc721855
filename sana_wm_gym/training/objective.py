"""What the embedded world is trained for: the next chunk, from a past it wrote itself.

Training runs the streaming path that rollouts use. Each chunk is noised to one of the sampler's
noise levels and predicted against the state; then a clean pass writes the state for the next
chunk, as at run time. Some rows of a batch write their own prediction into the state instead of
the true latents, so that the network learns to go on from what it makes. Gradients flow through
`chunks` clean passes.

Source: self-forcing (SANA-WM's distillation, arXiv 2605.15178) with the true frames as target in
place of a teacher's score; possible here because a fixed map makes the next chunk nearly certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import GeneratorState
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.dataset import Episode
from sana_wm_gym.world.conditioning import chunk_conditioning
from sana_wm_gym.world.schedule import TRAIN_STEPS


@dataclass(frozen=True)
class ObjectiveConfig:
    """Noise levels and history of the objective.

    Attributes:
        sigmas: Noise levels, those of the sampler.
        weights: How often each is drawn.
        own_history: Largest share of rows whose own prediction is remembered.
        own_history_from: Training progress in [0, 1] at which that share begins to grow.
        own_history_ramp: Progress over which it grows.
        channel_power: Latent channels weigh as `scale` to this power; 2 is pixel error.
    """

    sigmas: Sequence[float] = (1.0,)
    weights: Sequence[float] = (1.0,)
    own_history: float = 0.9
    own_history_from: float = 0.03
    own_history_ramp: float = 0.1
    channel_power: float = 1.0


@dataclass(frozen=True)
class View:
    """How the maps are looked at: frame size, latent grid and intrinsics in pixels."""

    image_size: tuple[int, int]
    grid_size: tuple[int, int]
    intrinsics: tuple[float, float, float, float]


def chunk_loss(
    model: SanaWM,
    episode: Episode,
    index: int,
    state: GeneratorState | None,
    plan: ChunkPlan,
    view: View,
    channel_weights: Tensor,
    config: ObjectiveConfig,
    own_share: float,
    rng: np.random.Generator,
    generator: torch.Generator,
    autocast: bool,
    last: bool,
) -> tuple[Tensor, Tensor, GeneratorState]:
    """Loss of one chunk of an episode, weighted; its plain latent error; the state after it."""
    latents, c2w = episode.chunk(index)
    batch, _, frames = latents.shape[:3]
    intrinsics = np.broadcast_to(np.array(view.intrinsics), (*c2w.shape[:2], 4))
    conditioning = chunk_conditioning(
        c2w, intrinsics, view.image_size, view.grid_size, first=index == 0
    )
    levels = rng.choice(config.sigmas, size=batch, p=np.array(config.weights))
    sigma = torch.from_numpy(levels).float()[:, None].repeat(1, frames)
    if index == 0:
        sigma[:, 0] = 0
    mix = sigma[:, None, :, None, None]
    noise = torch.randn(latents.shape, generator=generator)
    noisy = (1 - mix) * latents + mix * noise

    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        clean, _ = model(noisy, sigma * TRAIN_STEPS, conditioning, plan, state)
    clean = clean.float()
    counted = (sigma > 0).float()[:, None, :, None, None]
    squared = (clean - latents).pow(2) * counted
    plain = squared.sum() / (counted.sum() * squared[0, :, 0].numel())
    loss = (squared * channel_weights[:, None, None, None]).sum() / (
        counted.sum() * squared[0, :, 0].numel()
    )
    own = torch.from_numpy(rng.random(batch) < own_share)[:, None, None, None, None] & (counted > 0)
    history = torch.where(own, clean.detach(), latents)
    # No gradient would reach the memories that the last chunk of a step leaves behind.
    with torch.set_grad_enabled(not last), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        _, after = model(history, torch.zeros(batch), conditioning, plan, state)
    return loss, plain.detach(), after
