"""From noise to clean latents: the three samplers of SANA-WM.

All are Euler integration of a flow. `self_forcing` makes one chunk against a state and is what an
environment steps; `denoise` and `chunk_flow_euler` make a whole clip whose trajectory is known.
Latent frame 0 is the encoded first image: it has noise level 0 and does not move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import torch
from torch import Tensor

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import GeneratorState
from sana_wm_gym.models.transformer import Conditioning
from sana_wm_gym.world.learned.schedule import TRAIN_STEPS, NoiseSchedule, StaggeredSchedule

Flow: TypeAlias = Callable[
    [Tensor, Tensor, Conditioning, ChunkPlan, GeneratorState | None], tuple[Tensor, GeneratorState]
]
"""A velocity field: (latents, timestep, conditioning, plan, state) to the velocity eps - x0 and the
state after the latents. `SanaWM` itself, or a wrapper with the same call."""


@dataclass(frozen=True)
class CleanPrediction:
    """The flow of a network that predicts clean latents x0: velocity = (x - x0) / sigma, and 0 for
    frames at noise level 0."""

    network: Flow

    def __call__(
        self, latents: Tensor, timestep: Tensor, *given: Any
    ) -> tuple[Tensor, GeneratorState]:
        """As `Flow`."""
        clean, after = self.network(latents, timestep, *given)
        sigma = (timestep if timestep.ndim == 2 else timestep[:, None]) / TRAIN_STEPS
        sigma = sigma[:, None, :, None, None].to(latents.dtype)
        still = sigma == 0
        return torch.where(still, 0.0, (latents - clean) / torch.where(still, 1.0, sigma)), after


def velocity_prediction(network: Flow) -> Flow:
    """The flow of a network that predicts velocities, as the released ones do: itself."""
    return network


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance: v = v_u + scale (v_c - v_u) over a doubled batch.

    The conditioning holds [unconditional, conditional] along its batch
    axis, [2 b, ...], cameras repeated; so does the state.
    """

    network: Flow
    scale: float

    def __call__(
        self, latents: Tensor, timestep: Tensor, *given: Any
    ) -> tuple[Tensor, GeneratorState]:
        """As `Flow`, for latents [b, ...]."""
        doubled = torch.cat([latents, latents])
        velocity, after = self.network(doubled, torch.cat([timestep, timestep]), *given)
        without, with_text = velocity.chunk(2)
        return without + self.scale * (with_text - without), after


def chunk_noise(seed: int, chunk: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 noise of one chunk, a function of (seed, chunk index) alone.

    Drawn on the CPU, so that it is the same on every device and in every batch.
    """
    digest = hashlib.sha256(f"{seed}:{chunk}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randn(shape, generator=generator)


def self_forcing(
    flow: Flow,
    noise: Tensor,
    first_latent: Tensor | None,
    conditioning: Conditioning,
    plan: ChunkPlan,
    state: GeneratorState | None,
    schedule: NoiseSchedule,
    clean_pass: bool = True,
) -> tuple[Tensor, GeneratorState]:
    """Generate one chunk and advance the state.

    Args:
        flow: Velocity field.
        noise: [b, c, f, h, w].
        first_latent: Encoded first image [b, c, h, w] that becomes frame 0 of the first chunk;
            None for later chunks.
        conditioning: Cameras and caption of these frames.
        plan: One chunk and the memory window.
        state: Past; None before the first chunk.
        schedule: Noise levels from 1 to 0.
        clean_pass: Whether the state comes from one extra call on the clean latents, as released.
            Otherwise it is that of the last denoising step, which a network trained this way
            reads just as well, for one call less.

    Returns:
        Clean latents [b, c, f, h, w], and the state after them.

    Source: SANA-WM streaming release: deterministic Euler steps, one extra call at timestep 0
    whose memories are kept.
    """
    latents, after = denoise(flow, noise, first_latent, conditioning, plan, state, schedule)
    if clean_pass:
        del after  # at full size close to a gigabyte
        after = state_after(flow, latents, conditioning, plan, state)
    return latents, after


def state_after(
    flow: Flow,
    latents: Tensor,
    conditioning: Conditioning,
    plan: ChunkPlan,
    state: GeneratorState | None,
) -> GeneratorState:
    """State after clean latents: the only pass whose memories are kept."""
    clean = torch.zeros(latents.shape[0], device=latents.device)
    return flow(latents, clean, conditioning, plan, state)[1]


def denoise(
    flow: Flow,
    noise: Tensor,
    first_latent: Tensor | None,
    conditioning: Conditioning,
    plan: ChunkPlan,
    state: GeneratorState | None,
    schedule: NoiseSchedule,
) -> tuple[Tensor, GeneratorState]:
    """Euler steps through a noise schedule, and the state after the last call; arguments as in
    `self_forcing`. With `ChunkPlan()` and no state, the bidirectional release's sampler
    `flow_euler_ltx` of a whole clip."""
    latents = _hold_first(noise, first_latent)
    moving = torch.ones(latents.shape[0], latents.shape[2], device=latents.device)
    if first_latent is not None:
        moving[:, 0] = 0
    after: GeneratorState | None = None
    for sigma, timestep in zip(schedule.sigmas, schedule.timesteps, strict=False):
        # The step before's memories are released first: at full size they are close to a gigabyte.
        after = None
        velocity, after = flow(latents, moving * timestep, conditioning, plan, state)
        step = sigma - schedule.next_sigma(sigma)
        latents = (latents.float() - step * velocity.float()).to(latents.dtype)
        latents = _hold_first(latents, first_latent)
    assert after is not None
    return latents, after


def chunk_flow_euler(
    flow: Flow,
    noise: Tensor,
    first_latent: Tensor,
    conditioning: Conditioning,
    plan: ChunkPlan,
    schedule: StaggeredSchedule,
) -> Tensor:
    """Generate a clip chunk-causally in many steps, later chunks starting later.

    Every global step recomputes the whole active prefix; finished chunks stay in it at noise
    level 0. Arguments as of `self_forcing`, for all frames of the clip.

    Source: SANA-WM chunk-causal release.
    """
    latents = _hold_first(noise, first_latent)
    for step in range(schedule.global_steps):
        frames, levels = schedule.active_frames(step), schedule.sigmas(step)
        after = [schedule.noise.next_sigma(s) if s > 0 else 0.0 for s in levels]
        sigmas, reached, timesteps = (
            torch.tensor(table, device=latents.device)
            for table in (levels, after, schedule.timesteps(step))
        )
        velocity = flow(
            latents[:, :, :frames],
            timesteps.expand(latents.shape[0], -1),
            _prefix(conditioning, frames),
            prefix_plan(plan, frames),
            None,
        )[0]
        change = (sigmas - reached)[:, None, None] * velocity.float()
        moved = (latents[:, :, :frames].float() - change).to(latents.dtype)
        latents = torch.cat([moved, latents[:, :, frames:]], dim=2)
    return latents


def _hold_first(latents: Tensor, first_latent: Tensor | None) -> Tensor:
    """Latents with frame 0 replaced by the encoded first image, if there is one."""
    if first_latent is None:
        return latents
    return torch.cat([first_latent[:, :, None].to(latents), latents[:, :, 1:]], dim=2)


def _prefix(conditioning: Conditioning, frames: int) -> Conditioning:
    """The conditioning of the first `frames` latent frames."""
    rays, plucker = conditioning.ray_from_world, conditioning.plucker
    return replace(
        conditioning,
        ray_from_world=None if rays is None else rays[:, :frames],
        plucker=None if plucker is None else plucker[:, :, :frames],
    )


def prefix_plan(plan: ChunkPlan, frames: int) -> ChunkPlan:
    """The chunks of the first `frames` latent frames."""

    def cut(starts: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(start for start in starts if start < frames)

    reverse = plan.key_conv_starts
    return replace(plan, starts=cut(plan.starts), key_conv_starts=reverse and cut(reverse))
