"""Which frames are generated together, and through which noise levels they pass.

A *chunk plan* is a tuple of frame boundaries `(0, 4, 7, 10)`: chunk `i` holds latent frames
`plan[i] <= f < plan[i + 1]`. A *noise schedule* is a table of falling noise levels that ends at
zero; the network reads its timesteps, the Euler step its sigmas. Levels are rounded to float32
where the original samplers round: the network reads `floor(1000 sigma)`, and one last bit can move
that integer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from sana_wm_gym.checks import require_integer, require_number

TRAIN_STEPS = 1000
"""Timestep of pure noise: a timestep is `TRAIN_STEPS * sigma`."""

SIGMA_GAP = 1e-6
"""A token's next level is the largest table value more than this below its own."""


# Chunk plans ------------------------------------------------------------------------------------


def first_chunk_plus_one(frames: int, chunk: int = 3) -> tuple[int, ...]:
    """Boundaries of chunks of `chunk` latent frames, with one extra frame in the first (the clean
    image) and the remainder in the last: the chunk-causal generator's plan.

    11 frames in threes give (0, 4, 7, 11).

    Raises:
        ValueError: `frames` or `chunk` is below one.
    """
    _check_plan(frames, chunk)
    return (0, *range(chunk + 1, frames - chunk + 1, chunk), frames)


def first_takes_remainder(frames: int, chunk: int = 3) -> tuple[int, ...]:
    """Boundaries with the remainder in the first chunk and equal chunks after it: the streaming
    sampler's plan. 11 frames in threes give (0, 5, 8, 11).

    Raises:
        ValueError: `frames` or `chunk` is below one.
    """
    _check_plan(frames, chunk)
    if frames < chunk:
        return (0, frames)
    return (0, *range(chunk + frames % chunk, frames + 1, chunk))


def uniform(frames: int, chunk: int = 3) -> tuple[int, ...]:
    """Boundaries at every multiple of `chunk`; a shorter last chunk holds the remainder.

    Raises:
        ValueError: `frames` or `chunk` is below one.
    """
    _check_plan(frames, chunk)
    return (*range(0, frames, chunk), frames)


def _check_plan(frames: int, chunk: int) -> None:
    require_integer("number of frames", frames, 1)
    require_integer("chunk", chunk, 1)


# Noise schedules --------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoiseSchedule:
    """The noise levels a chunk passes through.

    Attributes:
        sigmas: Strictly falling levels in [0, 1], the last 0; one more than there are steps.
        timesteps: `TRAIN_STEPS * sigma` before each step, as the samplers hold it in float32.

    Raises:
        ValueError: Levels outside [0, 1], not falling, not ending at 0, or of the wrong number.
    """

    sigmas: tuple[float, ...]
    timesteps: tuple[float, ...]

    def __post_init__(self) -> None:
        levels = self.sigmas
        inside = all(0.0 <= level <= 1.0 for level in levels)
        if len(levels) < 2 or levels[-1] != 0.0 or not inside:
            raise ValueError(f"expected noise levels in [0, 1] that end at 0, got {levels}")
        if any(after >= before for before, after in pairwise(levels)):
            raise ValueError(f"expected strictly falling noise levels, got {levels}")
        if len(self.timesteps) != self.steps:
            raise ValueError(f"expected {self.steps} timesteps, got {len(self.timesteps)}")

    @property
    def steps(self) -> int:
        """Network calls per chunk, the clean pass not counted."""
        return len(self.sigmas) - 1

    @property
    def network_timesteps(self) -> tuple[int, ...]:
        """Timesteps as the network embeds them: cut to integers."""
        return tuple(math.floor(t) for t in self.timesteps)

    def next_sigma(self, sigma: float) -> float:
        """The level a token at `sigma` moves to; a clean token stays clean.

        It is looked up, not counted, so frames of one clip may stand at different levels.
        """
        return max((s for s in self.sigmas if s < sigma - SIGMA_GAP), default=sigma)


def flow_euler_ltx(steps: int = 60, shift: float = 9.8) -> NoiseSchedule:
    """The many-step schedule of the full-sequence generator.

    With f(s) = a s / (1 + (a - 1) s), the levels are f of a uniform grid from f(1) to f(1/1000):
    the shift acts twice at the low end, because the scheduler's own smallest level is already
    shifted when the grid is laid out.

    Args:
        steps: Number of denoising steps.
        shift: a above; larger keeps the levels high for longer. 9.8 for the released weights,
            8.0 in the benchmark's guide.

    Raises:
        ValueError: Fewer than one step, or a shift that is not positive.

    Source: flow matching with Euler steps as in diffusers' `FlowMatchEulerDiscreteScheduler`.
    """
    _check_shifted(steps, shift)
    ends = _shifted(np.array([1.0, 1.0 / TRAIN_STEPS], dtype=np.float32), shift)
    high, low = (float(end) * TRAIN_STEPS for end in ends)
    grid = np.linspace(high, low, steps) / TRAIN_STEPS
    # The shifted end is rounded to float32 before it is shifted again, and may lie just above 1.
    return _schedule(np.minimum(_shifted(grid, shift).astype(np.float32), np.float32(1)))


def time_uniform_flow(steps: int, shift: float) -> NoiseSchedule:
    """The time grid of the DPM-solver sampler, which the released command line replaces by
    `flow_euler_ltx`: f of a uniform grid from 0.999 to 0.

    Raises:
        ValueError: Fewer than one step, or a shift that is not positive.
    """
    _check_shifted(steps, shift)
    grid = np.linspace(1.0 - 1.0 / TRAIN_STEPS, 0.0, steps + 1)
    return _schedule(_shifted(grid, shift).astype(np.float32)[:-1])


def self_forcing(timesteps: Sequence[float]) -> NoiseSchedule:
    """The few-step schedule of the distilled generator, its timesteps taken verbatim.

    Args:
        timesteps: Falling timesteps in (0, 1000], ending with 0.

    Raises:
        ValueError: The list does not fall from at most 1000 to 0.
    """
    table = np.asarray(timesteps, dtype=np.float32)
    if table.ndim != 1:
        raise ValueError(f"expected a list of timesteps that ends at 0, got {timesteps!r}")
    sigmas = table / np.float32(TRAIN_STEPS)
    return NoiseSchedule(tuple(sigmas.tolist()), tuple(table[:-1].tolist()))


def refiner() -> NoiseSchedule:
    """The three levels of the second stage; it starts from latents that are partly noised."""
    sigmas = (0.909375, 0.725, 0.421875, 0.0)
    return NoiseSchedule(sigmas, tuple(TRAIN_STEPS * s for s in sigmas[:-1]))


SELF_FORCING_4 = self_forcing((1000, 960, 889, 727, 0))
"""The released streaming schedule."""


def _check_shifted(steps: int, shift: float) -> None:
    require_integer("steps", steps, 1)
    require_number("shift", shift, 0.0, ends="(]")


def _shifted(levels: np.ndarray, shift: float) -> np.ndarray:
    return shift * levels / (1 + (shift - 1) * levels)


def _schedule(sigmas: np.ndarray) -> NoiseSchedule:
    """Of float32 levels, to which the final 0 is added."""
    timesteps = sigmas * np.float32(TRAIN_STEPS)
    return NoiseSchedule((*sigmas.tolist(), 0.0), tuple(timesteps.tolist()))


# Staggered chunks -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StaggeredSchedule:
    """Every chunk passes through the same noise levels, each starting some global steps later.

    At a global step the network reads the *active prefix*: all chunks that have started. Finished
    chunks stay in it, clean.

    Attributes:
        plan: Chunk boundaries in latent frames.
        noise: Levels that each chunk passes through.
        starts: Global step at which each chunk begins.
    """

    plan: tuple[int, ...]
    noise: NoiseSchedule
    starts: tuple[int, ...]

    @property
    def global_steps(self) -> int:
        """Network calls for the whole clip."""
        return self.starts[-1] + self.noise.steps

    def active_frames(self, step: int) -> int:
        """Latent frames in the active prefix at a global step."""
        return self.plan[len(self._local_steps(step))]

    def sigmas(self, step: int) -> tuple[float, ...]:
        """Noise level of each frame of the active prefix; 0 for finished chunks and frame 0."""
        return self._per_frame(step, self.noise.sigmas)

    def timesteps(self, step: int) -> tuple[float, ...]:
        """Timestep of each frame of the active prefix; 0 for finished chunks and frame 0."""
        return self._per_frame(step, (*self.noise.timesteps, 0.0))

    def chunk_timesteps(self, step: int) -> tuple[float, ...]:
        """Timestep of each active chunk; 0 once it is finished."""
        table = (*self.noise.timesteps, 0.0)
        return tuple(table[i] for i in self._local_steps(step))

    def _per_frame(self, step: int, table: tuple[float, ...]) -> tuple[float, ...]:
        spans = zip(self._local_steps(step), pairwise(self.plan), strict=False)
        levels = [table[local] for local, (start, end) in spans for _ in range(start, end)]
        return (0.0, *levels[1:])  # frame 0 is the given image

    def _local_steps(self, step: int) -> tuple[int, ...]:
        """Denoising steps that each active chunk has done."""
        require_integer("global step", step, 0, self.global_steps - 1)
        return tuple(min(step - s, self.noise.steps) for s in self.starts if s <= step)


def chunk_flow_euler(
    frames: int,
    chunk: int = 3,
    steps: int = 60,
    shift: float = 9.8,
    interval: float | None = None,
) -> StaggeredSchedule:
    """The chunk-causal teacher's schedule: chunk i starts at global step floor(i interval steps).

    Args:
        frames: Latent frames in the clip.
        chunk: Latent frames per chunk.
        steps: Denoising steps of each chunk.
        shift: As in `flow_euler_ltx`.
        interval: Fraction of `steps` between the starts of neighbouring chunks; 1 / number of
            chunks when not given.

    Raises:
        ValueError: A count below one, or a negative interval.
    """
    plan = first_chunk_plus_one(frames, chunk)
    chunks = len(plan) - 1
    gap = 1 / chunks if interval is None else require_number("interval", interval, 0.0)
    # Floor of the float product, rounding included: 5 / 6 of 60 steps is 49, as in the original.
    starts = tuple(int(i * gap * steps) for i in range(chunks))
    return StaggeredSchedule(plan, flow_euler_ltx(steps, shift), starts)
