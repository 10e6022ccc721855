"""Planning towards a goal picture by looking alone, without its pose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from agents.planners.planner import Plan, Planner
from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks import ImageGoal, Verdict
from sana_wm_gym.envs.tasks.image_goal import GoalState, goal_view
from sana_wm_gym.envs.tasks.task import Arrays, Setting, Task


@dataclass(frozen=True)
class ByEye:
    """Any search, judging futures by how much they look like the goal picture.

    The task's own rewards are made of poses, so a search by them knows where the goal is. This one
    sees what a policy sees: it compares the goal with the last frame of each imagined chunk, or
    with its latent where latents are observed, which saves decoding.

    Attributes:
        planner: Who searches.
    """

    planner: Planner

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """As the planner inside, whose `expected_return` is minus a difference of pictures.

        Raises:
            ValueError: The task has no goal picture, or the episode has ended.
        """
        if not isinstance(simulation.task, ImageGoal):
            raise ValueError(
                f"planning by eye was given task {simulation.task.name!r}, expected image_goal"
            )
        looking = replace(simulation, task=LookAlike(simulation.task))
        return self.planner.plan(looking, episode, rng, before)


@dataclass(frozen=True)
class LookAlike(Task):
    """An ImageGoal whose reward is minus the difference between view and goal, at every chunk.

    The difference is the root mean square over pixels (or latent numbers). Summing over chunks
    makes an early arrival worth more. Nothing ends: an eye does not know when it has arrived.

    Attributes:
        goal: The task it judges episodes of.
    """

    name: ClassVar[str] = "look_alike"
    goal: ImageGoal

    @property
    def horizon(self) -> int:  # type: ignore[override]
        """As of the task."""
        return self.goal.horizon

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """As of the task."""
        return self.goal.spaces(setting)

    def begin(
        self,
        setting: Setting,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[GoalState]:
        """As the task."""
        return self.goal.begin(setting, episodes, rngs)

    def disturb(self, state: GoalState, chunk: int, controls: Controls) -> Controls:
        """As the task."""
        return self.goal.disturb(state, chunk, controls)

    def judge(self, setting: Setting, before: Episode, after: Episode) -> tuple[GoalState, Verdict]:
        """Minus the difference of pictures after the step."""
        [seen] = setting.look([after], goal_view(setting))[0].values()
        gap = seen.astype(np.float64) - before.task.picture
        return before.task, Verdict(-float(np.sqrt(np.mean(gap**2))))

    def observe(self, state: GoalState) -> Arrays:
        """As the task."""
        return self.goal.observe(state)

    def pack(self, state: GoalState) -> Arrays:
        """As the task."""
        return self.goal.pack(state)

    def unpack(self, arrays: Arrays) -> GoalState:
        """As the task.

        Raises:
            ValueError: As the task.
        """
        return self.goal.unpack(arrays)
