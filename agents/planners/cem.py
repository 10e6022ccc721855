"""The cross-entropy method: draw, keep the best few, draw again around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agents.planners.planner import GROUND, Budget, Plan, Proposal, Returns, search
from sana_wm_gym.checks import require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation


@dataclass(frozen=True)
class CEM:
    """Normal distributions fitted to the elite of each round.

    Attributes:
        candidates: Sequences per round, >= 2.
        chunks: Chunks looked ahead, >= 1.
        iterations: Rounds, >= 1. One decision costs candidates x chunks x iterations env steps.
        elites: Best sequences of a round that the next is fitted to, 1 to `candidates`.
        spread: Standard deviation of the first round, in fractions of the world's limits, > 0.
        least_spread: The fit is never narrower than this, >= 0.
        moves: Motions that are searched over, of `camera.TWIST_NAMES`.

    Raises:
        ValueError: A setting is out of its range.

    Source: Rubinstein & Kroese, The Cross-Entropy Method, 2004; as in PETS, the mean is carried
    over to the next decision, shifted by one chunk.
    """

    candidates: int = 32
    chunks: int = 2
    iterations: int = 3
    elites: int = 6
    spread: float = 0.6
    least_spread: float = 0.05
    moves: Sequence[str] = GROUND

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.budget.candidates:
            raise ValueError(f"given elites={self.elites}, expected 1 to {self.candidates}")
        require_number("spread", self.spread, 0, ends="(]")
        require_number("least_spread", self.least_spread, 0)

    @property
    def budget(self) -> Budget:
        """What one decision may try."""
        return Budget(self.candidates, self.chunks, self.iterations, self.moves)

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The best sequence of all rounds.

        Raises:
            ValueError: The episode has ended.
        """
        budget = self.budget
        first = Proposal(budget.continued(before), np.full(budget.shape, self.spread))
        return search(simulation, episode, rng, budget, first, self._refit)

    def _refit(
        self, tried: npt.NDArray[np.float64], returns: Returns, proposal: Proposal
    ) -> Proposal:
        elite = tried[np.argsort(-returns, kind="stable")[: self.elites]]
        return Proposal(elite.mean(axis=0), np.maximum(elite.std(axis=0), self.least_spread))
