"""Searches over action sequences: random shooting, the cross-entropy method, MPPI.

All draw candidates, play them, and fit the next round's distribution to the returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera import TWIST_NAMES
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation

from .planner import GROUND, Plan, Returns, Twists, imagine

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Search:
    """The common loop of the searches.

    Attributes:
        candidates: Sequences per round, >= 2.
        chunks: Chunks looked ahead, >= 1.
        iterations: Rounds, >= 1. A decision costs candidates x chunks x iterations env steps, less
            where an episode ends within them.
        moves: Motions that are searched over, of `camera.TWIST_NAMES`; the others stay 0.

    Raises:
        ValueError: A setting is out of its range, or a motion is unknown or named twice.
    """

    candidates: int = 32
    chunks: int = 2
    iterations: int = 3
    moves: Sequence[str] = GROUND

    def __post_init__(self) -> None:
        for name, low in (("candidates", 2), ("chunks", 1), ("iterations", 1)):
            require_integer(name, getattr(self, name), low)
        require_moves(self.moves)

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The best sequence of all rounds, the rest of the plan before among the candidates.

        Raises:
            ValueError: The episode has ended.
        """
        mean = self._continued(before)
        std = np.full(mean.shape, self._first_std())
        best: Plan | None = None
        steps = 0
        for _ in range(self.iterations):
            tried = self._draw(rng, mean, std)
            tried[0] = np.clip(mean, -1.0, 1.0)
            twists = as_twists(tried, self.moves)
            returns, cost = imagine(simulation, episode, twists)
            steps += cost
            top = int(np.argmax(returns))
            if best is None or best.expected_return is None or returns[top] > best.expected_return:
                best = Plan(twists[top], float(returns[top]), steps)
            mean, std = self._fit(tried, returns, mean, std)
        assert best is not None
        return Plan(best.twists, best.expected_return, steps)

    def _continued(self, before: Plan | None) -> Array:
        """The plan before, less the chunk that was played; else no motion. [chunks, moves]."""
        start = np.zeros((self.chunks, len(self.moves)))
        if before is not None:
            columns = [TWIST_NAMES.index(name) for name in self.moves]
            rest = before.twists[1 : 1 + self.chunks, columns]
            start[: len(rest)] = rest
        return start

    def _first_std(self) -> float:
        return 1.0

    def _draw(self, rng: np.random.Generator, mean: Array, std: Array) -> Array:
        """Candidates [candidates, chunks, moves] in [-1, 1]."""
        noise = rng.standard_normal((self.candidates, *mean.shape))
        return np.clip(mean + std * noise, -1.0, 1.0)

    def _fit(self, tried: Array, returns: Returns, mean: Array, std: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the next round."""
        return mean, std


@dataclass(frozen=True)
class RandomShooting(Search):
    """Candidates drawn uniformly from all motions; nothing is fitted. See `Search`."""

    candidates: int = 96
    iterations: int = 1

    def _draw(self, rng: np.random.Generator, mean: Array, std: Array) -> Array:
        return rng.uniform(-1.0, 1.0, (self.candidates, *mean.shape))


@dataclass(frozen=True)
class CEM(Search):
    """The cross-entropy method: normal distributions fitted to the elite of each round.

    Attributes:
        elites: Best sequences of a round that the next is fitted to, 1 to `candidates`.
        spread: Standard deviation of the first round, in fractions of the world's limits, > 0.
        min_spread: Smallest standard deviation of a fit, >= 0.

    Source: Rubinstein & Kroese, The Cross-Entropy Method, 2004.
    """

    elites: int = 6
    spread: float = 0.6
    min_spread: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("elites", self.elites, 1, self.candidates)
        require_number("spread", self.spread, 0.0, ends="(]")
        require_number("min_spread", self.min_spread, 0.0)

    def _first_std(self) -> float:
        return self.spread

    def _fit(self, tried: Array, returns: Returns, mean: Array, std: Array) -> tuple[Array, Array]:
        elite = tried[np.argsort(-returns, kind="stable")[: self.elites]]
        return elite.mean(axis=0), np.maximum(elite.std(axis=0), self.min_spread)


@dataclass(frozen=True)
class MPPI(Search):
    """Model predictive path integral control: the mean of all candidates, weighted by exponentials
    of their returns.

    Attributes:
        temperature: In standard deviations of a round's returns, > 0: a candidate that much below
            the best weighs 1/e of it.
        spread: Standard deviation of the first round, in fractions of the world's limits, > 0.
        shrink: Factor on the spread from round to round, in (0, 1]; 1 is the textbook's.

    Source: Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning, 2017.
    """

    temperature: float = 0.3
    spread: float = 0.6
    shrink: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("temperature", self.temperature, 0.0, ends="(]")
        require_number("spread", self.spread, 0.0, ends="(]")
        require_number("shrink", self.shrink, 0.0, 1.0, ends="(]")

    def _first_std(self) -> float:
        return self.spread

    def _fit(self, tried: Array, returns: Returns, mean: Array, std: Array) -> tuple[Array, Array]:
        scale = self.temperature * float(returns.std())
        # Equal returns: nothing to weight by.
        weights = np.exp((returns - returns.max()) / scale) if scale > 0 else np.ones_like(returns)
        return np.tensordot(weights / weights.sum(), tried, axes=1), self.shrink * std


def require_moves(moves: Sequence[str]) -> None:
    """Raise `ValueError` unless these are different motions of `camera.TWIST_NAMES`, at least
    one."""
    given = tuple(moves)
    unknown = set(given) - set(TWIST_NAMES)
    if isinstance(moves, str) or not given or len(set(given)) < len(given) or unknown:
        raise ValueError(f"moves is {moves!r}, expected some of {TWIST_NAMES}")


def as_twists(values: Array, moves: Sequence[str]) -> Twists:
    """Numbers of a search, [..., moves], as twists in [-1, 1], float32 [..., 5]."""
    twists = np.zeros((*values.shape[:-1], len(TWIST_NAMES)), np.float32)
    twists[..., [TWIST_NAMES.index(name) for name in moves]] = np.clip(values, -1.0, 1.0)
    return twists
