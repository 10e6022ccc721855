"""The embedded world's objective: the next chunk, from the state that the network wrote itself.

Training runs the streaming path that rollouts use. Each chunk is noised to one of the sampler's
noise levels and predicted against the state; the same pass writes the state for the next chunk, so
states in rollouts are like those in training; generated latents are never fed back. Gradients flow
through `TrainConfig.unroll` chunks.

Source: self-forcing (SANA-WM's distillation, arXiv 2605.15178) with the true frames as target in
place of a teacher's score; possible here because a fixed map makes the next chunk nearly certain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import GeneratorState, map_tensors
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.schedule import TRAIN_STEPS


@dataclass(frozen=True)
class ObjectiveConfig:
    """Noise levels and weights of the objective.

    Attributes:
        sigmas: Noise levels, those of the sampler.
        weights: Probability of each.
        channel_power: Latent channels weigh as `scale` to this power; 2 is pixel error.
    """

    sigmas: Sequence[float] = (1.0,)
    weights: Sequence[float] = (1.0,)
    channel_power: float = 1.0


@dataclass(frozen=True)
class WalkBatch:
    """A batch of clips, read chunk by chunk.

    Attributes:
        latents: [b, 1 + g, c, h, w].
        c2w: Poses in the map, float64 [b, 8 g + 1, 4, 4].
        appearance: Variant of each surface, or -1 where the prompt leaves it out, [b, surfaces].
        chunks: Length.
    """

    latents: Tensor
    c2w: np.ndarray
    appearance: np.ndarray
    chunks: int

    def chunk(self, index: int) -> tuple[Tensor, np.ndarray]:
        """Latents [b, c, f, h, w] and poses [b, 25, 4, 4] of one chunk; the first has the still
        latent in front."""
        begin = 0 if index == 0 else 1 + index * LATENTS_PER_CHUNK
        end, first = 1 + (index + 1) * LATENTS_PER_CHUNK, index * CHUNK_FRAMES
        poses = self.c2w[:, first : first + CHUNK_FRAMES + 1]
        return self.latents[:, begin:end].movedim(1, 2), poses


@dataclass(frozen=True)
class View:
    """The network's view of the maps: frame size, latent grid, intrinsics in pixels, frequencies of
    the sines of Pluecker coordinates, and the words for their surfaces."""

    image_size: tuple[int, int]
    grid_size: tuple[int, int]
    intrinsics: tuple[float, float, float, float]
    frequencies: tuple[float, ...]
    captions: SurfaceCaptions


@dataclass(frozen=True)
class Objective:
    """Loss of one chunk.

    Attributes:
        config: Noise levels.
        view: Of the maps.
        channel_weights: Weight of each latent channel, mean 1.
        plan: One chunk and the memory window.
        autocast: Matrix products in bfloat16.
    """

    config: ObjectiveConfig
    view: View
    channel_weights: Tensor
    plan: ChunkPlan
    autocast: bool

    def __call__(
        self,
        model: SanaWM,
        episode: WalkBatch,
        index: int,
        state: GeneratorState | None,
        rng: np.random.Generator,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, GeneratorState]:
        """Loss of chunk `index` of an episode, weighted; its plain latent error; the state after
        it."""
        device, view = self.channel_weights.device, self.view
        latents, c2w = episode.chunk(index)
        batch, _, frames = latents.shape[:3]
        intrinsics = np.broadcast_to(np.array(view.intrinsics), (*c2w.shape[:2], 4))
        conditioning = chunk_conditioning(
            c2w, intrinsics, view.image_size, view.grid_size, index == 0, view.frequencies
        )
        if view.captions.surfaces:
            text = view.captions.embed(episode.appearance)
            conditioning = replace(conditioning, text=text.features, text_mask=text.mask)
        levels = rng.choice(self.config.sigmas, size=batch, p=np.array(self.config.weights))
        sigma = torch.from_numpy(levels).float()[:, None].repeat(1, frames)
        if index == 0:
            sigma[:, 0] = 0
        noise = torch.randn(latents.shape, generator=generator).to(device)
        latents, sigma = latents.to(device), sigma.to(device)
        mix = sigma[:, None, :, None, None]
        noisy = (1 - mix) * latents + mix * noise
        with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
            clean, after = model(
                noisy,
                sigma * TRAIN_STEPS,
                map_tensors(lambda part: part.to(device), conditioning),
                self.plan,
                state,
            )
        counted = (sigma > 0).float()[:, None, :, None, None]
        squared = (clean.float() - latents).pow(2) * counted
        count = counted.sum() * squared[0, :, 0].numel()
        loss = (squared * self.channel_weights[:, None, None, None]).sum() / count
        return loss, (squared.sum() / count).detach(), after
