"""Random shooting: try sequences drawn evenly from all motions and take the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agents.planners.planner import GROUND, Budget, Plan, imagine
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation


@dataclass(frozen=True)
class RandomShooting:
    """The plainest search: nothing is learnt from what was tried.

    Attributes:
        candidates: Sequences tried, >= 2.
        chunks: Chunks looked ahead, >= 1. One decision costs candidates x chunks env steps.
        moves: Motions that are searched over, of `camera.TWIST_NAMES`.

    Raises:
        ValueError: A number is too small or a motion unknown.
    """

    candidates: int = 96
    chunks: int = 2
    moves: Sequence[str] = GROUND

    def __post_init__(self) -> None:
        self.budget  # noqa: B018 (checks the settings)

    @property
    def budget(self) -> Budget:
        """What one decision may try."""
        return Budget(self.candidates, self.chunks, 1, self.moves)

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The best of the sequences, the rest of the plan before among them.

        Raises:
            ValueError: The episode has ended.
        """
        budget = self.budget
        tried = rng.uniform(-1.0, 1.0, (budget.candidates, *budget.shape))
        tried[0] = budget.continued(before)
        twists = budget.twists(tried)
        returns, steps = imagine(simulation, episode, twists)
        top = int(np.argmax(returns))
        return Plan(twists[top], float(returns[top]), steps)
