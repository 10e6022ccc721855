"""Pixel-based (visual) planning: towards a goal image, without its pose."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks import ImageGoal, StepResult
from sana_wm_gym.envs.tasks.image_goal import GoalState, goal_view
from sana_wm_gym.envs.tasks.task import Setting

from .planner import Plan, Planner


@dataclass(frozen=True)
class PixelCost:
    """Any search, with an image cost in place of the task's rewards, which are computed from poses.

    It compares what a policy observes: the goal image and the last frame of each imagined chunk, or
    their latents where latents are observed, which saves decoding.
    """

    planner: Planner

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """As the planner inside, whose `expected_return` is minus the summed image cost.

        Raises:
            ValueError: The task has no goal image, or the episode has ended.
        """
        if not isinstance(simulation.task, ImageGoal):
            raise ValueError(f"task is {simulation.task.name!r}, expected image_goal")
        settings = {part.name: getattr(simulation.task, part.name) for part in fields(ImageGoal)}
        by_image = replace(simulation, task=ImageCostTask(**settings))
        return self.planner.plan(by_image, episode, rng, before)


@dataclass(frozen=True)
class ImageCostTask(ImageGoal):
    """An ImageGoal whose reward is minus the root mean square difference between view and goal.

    Episodes do not terminate, because success is defined by poses.
    """

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[GoalState, StepResult]:
        """Minus the difference of images after the step."""
        [seen] = setting.look([after], goal_view(setting))[0].values()
        gap = seen.astype(np.float64) - before.task.picture
        return before.task, StepResult(-float(np.sqrt(np.mean(gap**2))))
