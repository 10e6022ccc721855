"""Reaching a goal image, in the form that hindsight experience replay asks for.

Goals and achievements are pictures so small that their difference is a distance: the reward
compares nothing but pixels, and any view an agent happens to reach can stand in as its goal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.keys import SANA_WM_2026_06
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.envs.simulation import Simulation, seen_through
from sana_wm_gym.envs.start import Lens, Picture
from sana_wm_gym.envs.tasks.checks import require_arrays, require_number
from sana_wm_gym.envs.tasks.image_goal import ImageGoal
from sana_wm_gym.envs.tasks.task import Arrays, Verdict
from sana_wm_gym.envs.vector_env import SanaWMVectorEnv
from sana_wm_gym.world.world_model import WorldModel

if TYPE_CHECKING:
    from sana_wm_gym.envs.snapshot import Episode

SIDE = 8
"""Rows and columns of a thumbnail."""

Thumbnail = npt.NDArray[np.float32]


def thumbnail(frame: npt.NDArray[np.uint8]) -> Thumbnail:
    """A frame uint8 [H, W, 3] as a vector: 8 x 8 RGB averages in [0, 1], float32 [192]."""
    small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).ravel() / np.float32(255)


@dataclass(frozen=True, eq=False)
class ThumbnailState:
    """What is wanted and what is there, both float32 [192]."""

    desired: Thumbnail
    achieved: Thumbnail


@dataclass(frozen=True)
class ThumbnailGoal:
    """Make the view look like the goal: observation parts "achieved_goal" and "desired_goal".

    Goals are drawn as by `ImageGoal`. The reward is 0 where the root mean square difference of the
    two thumbnails is at most `threshold`, else -1: a function of the two alone, so that it can be
    computed anew for another goal. For the same reason success ends nothing; an episode runs to
    its horizon, and who has arrived had better stay.

    `info` tells "is_success", the step's, and "goal_rms", the difference.

    Attributes:
        threshold: Largest root mean square difference that is success, of values in [0, 1].
        walk: Draws the hidden walks. Its rewards and tolerances are not read, but for one: goals
            lie outside them.

    Raises:
        ValueError: The threshold is not in (0, 1].
    """

    threshold: float = 0.06
    walk: ImageGoal = field(default=ImageGoal())

    def __post_init__(self) -> None:
        require_number("ThumbnailGoal.threshold", self.threshold, 0.0, 1.0, above=True)

    @property
    def name(self) -> str:
        """ "thumbnail_goal"."""
        return "thumbnail_goal"

    @property
    def horizon(self) -> int:
        """Chunks after which an episode is truncated: the walk's."""
        return self.walk.horizon

    def difference(self, achieved: npt.ArrayLike, desired: npt.ArrayLike) -> npt.NDArray[Any]:
        """Root mean square difference of thumbnails [..., 192], shape [...]."""
        gap = np.asarray(achieved, np.float64) - np.asarray(desired, np.float64)
        return np.sqrt((gap**2).mean(axis=-1))

    def reward(self, achieved: npt.ArrayLike, desired: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """0 where thumbnails [..., 192] agree, -1 where they do not: float32 [...]."""
        reached = self.difference(achieved, desired) <= self.threshold
        return np.where(reached, np.float32(0), np.float32(-1))

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any
    ) -> npt.NDArray[np.float32]:
        """`reward`, under the name and with the arguments that hindsight replay calls it by.

        Args:
            achieved_goal: Thumbnails [192], or [n, 192].
            desired_goal: Same shape.
            info: Not read.

        Returns:
            0 where they agree to the task's threshold, else -1: float32 [] or [n].
        """
        return self.reward(achieved_goal, desired_goal)

    def spaces(self, simulation: Simulation) -> dict[str, spaces.Space[Any]]:
        """The two thumbnails.

        Raises:
            ValueError: No walk leads away from the start.
        """
        self.walk.walk(np.random.default_rng(0), simulation.world.spec.limits)
        box = spaces.Box(0.0, 1.0, (3 * SIDE * SIDE,), np.float32)
        return {"achieved_goal": box, "desired_goal": box}

    def begin(
        self,
        simulation: Simulation,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[ThumbnailState]:
        """Imagine the goals, all in one batch."""
        goals = simulation.last_frames(self.walk.imagine(simulation, episodes, rngs))
        starts = simulation.last_frames(episodes)
        return [
            ThumbnailState(thumbnail(goal), thumbnail(start))
            for goal, start in zip(goals, starts, strict=True)
        ]

    def disturb(self, state: ThumbnailState, chunk: int, controls: Controls) -> Controls:
        """As commanded."""
        return controls

    def judge(
        self, simulation: Simulation, before: Episode, after: Episode
    ) -> tuple[ThumbnailState, Verdict]:
        """Whether the last frame looks like the goal."""
        achieved = thumbnail(simulation.last_frames([after])[0])
        desired = before.task.desired
        reward = float(self.reward(achieved, desired))
        info = {
            "is_success": reward == 0.0,
            "goal_rms": float(self.difference(achieved, desired)),
        }
        return replace(before.task, achieved=achieved), Verdict(reward, info=info)

    def observe(self, state: ThumbnailState) -> Arrays:
        """The two thumbnails."""
        return {"achieved_goal": state.achieved.copy(), "desired_goal": state.desired.copy()}

    def pack(self, state: ThumbnailState) -> Arrays:
        """The two thumbnails."""
        return {"desired": state.desired, "achieved": state.achieved}

    def unpack(self, arrays: Arrays) -> ThumbnailState:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        shape = (3 * SIDE * SIDE,)
        require_arrays(arrays, {"desired": shape, "achieved": shape})
        return ThumbnailState(
            *(np.asarray(arrays[name], np.float32) for name in ("desired", "achieved"))
        )


def goal_simulation(simulation: Simulation) -> Simulation:
    """The same, but that its one view part goes by the name "observation".

    Raises:
        ValueError: More than one part of the world is observed.
    """
    return seen_through(simulation, simulation.view.renamed("observation"))


class SanaWMGoalEnv(SanaWMEnv):
    """`SanaWMEnv` with task `ThumbnailGoal`, as goal-conditioned learners expect it.

    Observations are a flat `Dict` of "observation" (the one part that `observation` names),
    "achieved_goal" and "desired_goal" (thumbnails, `Box(0, 1, (192,), float32)`).

    Args:
        world: As of `SanaWMEnv`, like all arguments that are not explained here.
        task: What counts as success, and how goals are drawn.
        observation: Exactly one part of the world: ("frame",), ("frames",) or ("latent",).

    Raises:
        ValueError: A name is unknown or a number out of range, or several parts are observed.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
    """

    def __init__(
        self,
        world: str | WorldModel[Any] = "tiny",
        *,
        task: ThumbnailGoal | None = None,
        image: Picture | None = None,
        intrinsics: Lens | None = None,
        prompt: str | None = None,
        action_mode: str = "continuous",
        actions_per_chunk: int = 1,
        key_map: str = SANA_WM_2026_06.name,
        observation: Sequence[str] = ("frame",),
        observation_size: tuple[int, int] | None = None,
        horizon: int | None = None,
        render_mode: str | None = None,
    ) -> None:
        self._goal = ThumbnailGoal() if task is None else task
        super().__init__(
            world,
            task=self._goal,
            image=image,
            intrinsics=intrinsics,
            prompt=prompt,
            action_mode=action_mode,
            actions_per_chunk=actions_per_chunk,
            key_map=key_map,
            observation=observation,
            observation_size=observation_size,
            horizon=horizon,
            render_mode=render_mode,
        )
        self.simulation = goal_simulation(self.simulation)
        self.observation_space = self.simulation.observation_space

    def compute_reward(
        self, achieved_goal: npt.ArrayLike, desired_goal: npt.ArrayLike, info: Any
    ) -> npt.NDArray[np.float32]:
        """Reward of having achieved one thing when another was desired; see `ThumbnailGoal`."""
        return self._goal.compute_reward(achieved_goal, desired_goal, info)


class SanaWMGoalVectorEnv(SanaWMVectorEnv):
    """N rows of `SanaWMGoalEnv` that advance in one batch.

    Goals are relabelled with the task's own `compute_reward`, which takes arrays and is the same
    for all rows: `envs.task.compute_reward`.

    Args:
        num_envs: Number of rows, N >= 1.
        world: As of `SanaWMVectorEnv`, like all arguments that are not explained here.
        task: What counts as success, and how goals are drawn.
        observation: Exactly one part of the world: ("frame",), ("frames",) or ("latent",).

    Raises:
        ValueError: A name is unknown, a number out of range, there is not one horizon per row, or
            several parts are observed.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
    """

    def __init__(
        self,
        num_envs: int,
        world: str | WorldModel[Any] = "tiny",
        *,
        task: ThumbnailGoal | None = None,
        image: Picture | None = None,
        intrinsics: Lens | None = None,
        prompt: str | None = None,
        action_mode: str = "continuous",
        actions_per_chunk: int = 1,
        key_map: str = SANA_WM_2026_06.name,
        observation: Sequence[str] = ("frame",),
        observation_size: tuple[int, int] | None = None,
        horizon: int | Sequence[int] | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        as_torch: bool = False,
        max_episode_steps: int | None = None,
    ) -> None:
        super().__init__(
            num_envs,
            world,
            task=ThumbnailGoal() if task is None else task,
            image=image,
            intrinsics=intrinsics,
            prompt=prompt,
            action_mode=action_mode,
            actions_per_chunk=actions_per_chunk,
            key_map=key_map,
            observation=observation,
            observation_size=observation_size,
            horizon=horizon,
            render_mode=render_mode,
            autoreset_mode=autoreset_mode,
            as_torch=as_torch,
            max_episode_steps=max_episode_steps,
        )
        self.simulation = goal_simulation(self.simulation)
        self.single_observation_space = self.simulation.observation_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
