"""Reaching a goal image, in the form that hindsight experience replay requires.

Goals and achieved goals are thumbnails, so the reward compares nothing but pixels, and any view an
agent reaches can be relabelled as its goal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import cv2
import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.checks import require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import ObservationView
from sana_wm_gym.envs.tasks.image_goal import ImageGoal
from sana_wm_gym.envs.tasks.task import Arrays, Episodes, Numbers, Rngs, Setting, StepResult, Task

SIDE = 8
"""Rows and columns of a thumbnail."""

Thumbnail = npt.NDArray[np.float32]


def thumbnail(frame: npt.NDArray[np.uint8]) -> Thumbnail:
    """A frame uint8 [H, W, 3] as a vector: 8 x 8 RGB averages in [0, 1], float32 [192]."""
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


@dataclass(frozen=True, eq=False)
class ThumbnailState:
    """Thumbnails of the goal and of the last frame, both float32 [192]."""

    desired: Thumbnail
    achieved: Thumbnail


@dataclass(frozen=True)
class ThumbnailGoal(Task):
    """Make the view look like the goal, in the form that goal-conditioned learners expect:
    observations are a flat `Dict` of "observation", which is the one part of the world that is
    observed, "achieved_goal" and "desired_goal", thumbnails `Box(0, 1, (192,), float32)`.

    Goals are drawn as by `ImageGoal`. The reward is 0 where the root mean square difference of the
    two thumbnails is at most `threshold`, else -1: a function of the two alone, so that it can be
    computed anew for another goal. For the same reason success ends nothing; an episode runs to
    its limit of steps, and staying at the goal earns most.

    `info` has "is_success", the step's, and "goal_rms", the difference.

    Attributes:
        threshold: Largest root mean square difference that is success, of values in [0, 1].
        walk: Draws the hidden walks. Its rewards and tolerances are not read, but for one: goals
            lie outside them.
    """

    name: ClassVar[str] = "image_goal_her"
    needs_camera: ClassVar[bool] = True
    State: ClassVar[type[Any]] = ThumbnailState
    shapes: ClassVar = {"desired": (3 * SIDE * SIDE,), "achieved": (3 * SIDE * SIDE,)}
    threshold: float = 0.06
    walk: ImageGoal = field(default=ImageGoal())

    def __post_init__(self) -> None:
        require_number("ThumbnailGoal.threshold", self.threshold, 0.0, 1.0, ends="(]")

    @property
    def max_episode_steps(self) -> int:  # type: ignore[override]
        """Chunks after which an episode is truncated: the walk's."""
        return self.walk.max_episode_steps

    def difference(self, achieved: npt.ArrayLike, desired: npt.ArrayLike) -> npt.NDArray[Any]:
        """Root mean square difference of thumbnails [..., 192], shape [...]."""
        gap = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
        return np.sqrt((gap**2).mean(axis=-1))

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any = None
    ) -> npt.NDArray[np.float32]:
        """0 where thumbnails [..., 192] agree to the threshold, else -1: float32 [...]. The
        signature is hindsight replay's; `info` is not read."""
        reached = self.difference(achieved_goal, desired_goal) <= self.threshold
        return np.where(reached, np.float32(0), np.float32(-1))

    def renamed(self, view: ObservationView) -> ObservationView:
        """The world's one part as "observation"; a ValueError where there are several."""
        return view.renamed("observation")

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """The two thumbnails."""
        self.walk.walk(np.random.default_rng(0), setting.spec)
        box = spaces.Box(0.0, 1.0, (3 * SIDE * SIDE,), np.float32)
        return {"achieved_goal": box, "desired_goal": box}

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[ThumbnailState]:
        """Imagine the goals, all in one batch."""
        goals = setting.frames(self.walk.imagine(setting, episodes, rngs), last=True)
        starts = setting.frames(episodes, last=True)
        return [
            ThumbnailState(thumbnail(goal), thumbnail(start))
            for goal, start in zip(goals, starts, strict=True)
        ]

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[ThumbnailState, StepResult]:
        """Whether the last frame looks like the goal."""
        achieved = thumbnail(setting.frames([after], last=True)[0])
        desired = before.task.desired
        reward = float(self.compute_reward(achieved, desired))
        return replace(before.task, achieved=achieved), StepResult(reward)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Whether the last frame looks like the goal, and how far it is from that."""
        state: ThumbnailState = episode.task
        difference = float(self.difference(state.achieved, state.desired))
        return {"is_success": difference <= self.threshold, "goal_rms": difference}

    def observe(self, state: ThumbnailState) -> Arrays:
        """The two thumbnails."""
        return {"achieved_goal": state.achieved, "desired_goal": state.desired}
