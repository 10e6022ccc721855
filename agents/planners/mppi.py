"""Model predictive path integral control: the mean of all candidates, weighted by their returns."""

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
class MPPI:
    """Every candidate counts, better ones exponentially more.

    Attributes:
        candidates: Sequences per round, >= 2.
        chunks: Chunks looked ahead, >= 1.
        iterations: Rounds, >= 1. One decision costs candidates x chunks x iterations env steps.
        temperature: How soft the weighting is, in standard deviations of a round's returns, > 0:
            a candidate that much below the best weighs 1/e of it. Measured so, it needs no
            knowledge of the task's scale.
        spread: Standard deviation of the first round, in fractions of the world's limits, > 0.
        shrink: Factor on the spread from round to round, in (0, 1]; 1 is the textbook's.
        moves: Motions that are searched over, of `camera.TWIST_NAMES`.

    Raises:
        ValueError: A setting is out of its range.

    Source: Williams et al., Information Theoretic MPC for Model-Based Reinforcement Learning, 2017.
    """

    candidates: int = 32
    chunks: int = 2
    iterations: int = 3
    temperature: float = 0.3
    spread: float = 0.6
    shrink: float = 0.6
    moves: Sequence[str] = GROUND

    def __post_init__(self) -> None:
        self.budget  # noqa: B018 (checks the settings)
        for name in ("temperature", "spread", "shrink"):
            require_number(name, getattr(self, name), 0, ends="(]")
        if self.shrink > 1:
            raise ValueError(f"given shrink={self.shrink}, expected a number in (0, 1]")

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
        """The best sequence of all rounds, the weighted means among them.

        Raises:
            ValueError: The episode has ended.
        """
        budget = self.budget
        first = Proposal(budget.continued(before), np.full(budget.shape, self.spread))
        return search(simulation, episode, rng, budget, first, self._refit)

    def _refit(
        self, tried: npt.NDArray[np.float64], returns: Returns, proposal: Proposal
    ) -> Proposal:
        scale = self.temperature * float(returns.std())
        # All alike: nothing was learnt, and the plain mean of what was tried is as good as any.
        weights = np.exp((returns - returns.max()) / scale) if scale > 0 else np.ones_like(returns)
        mean = np.tensordot(weights / weights.sum(), tried, axes=1)
        return Proposal(mean, self.shrink * proposal.spread)
