"""Go where a picture was taken. The agent sees the picture, never the pose."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.controls import Controls, twist_to_controls
from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.checks import require_integer, require_number, require_range
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import ObservationView, observation_view
from sana_wm_gym.envs.tasks.task import Arrays, Episodes, Numbers, Rngs, Setting, StepResult, Task
from sana_wm_gym.world.world_model import WorldSpec

_TRIES = 200
Pose = npt.NDArray[np.float64]


def gap(a: Pose, b: Pose) -> tuple[float, float]:
    """Distance in metres and angle in radians of two camera-to-world poses, float64 [4, 4]."""
    metres = float(np.linalg.norm(a[:3, 3] - b[:3, 3]))
    return metres, float(geodesic_angle(a[:3, :3], b[:3, :3]))


@dataclass(frozen=True)
class PoseDistance:
    """d = metres between the centres + metres_per_radian * angle: a metric on camera poses.

    Attributes:
        metres_per_radian: What a turn of one radian is worth, > 0.
    """

    metres_per_radian: float = 1.0

    def __post_init__(self) -> None:
        require_number("metres_per_radian", self.metres_per_radian, 0.0, ends="(]")

    def between(self, a: Pose, b: Pose) -> float:
        """Distance of two camera-to-world poses [4, 4], in metres."""
        metres, angle = gap(a, b)
        return metres + self.metres_per_radian * angle


class GoalReward(Protocol):
    """Reward of a step from `before_m` to `after_m` metres from the goal."""

    def __call__(self, before_m: float, after_m: float, reached: bool) -> float:
        """The reward; `reached`: the step ends at the goal."""


@dataclass(frozen=True)
class Shaped:
    """Metres gained, less a cost per step, and a bonus at the goal.

    Over an episode the gains telescope: their sum is the first distance less the last.

    Attributes:
        bonus: Added when the goal is reached, >= 0.
        step_cost: Taken off at every step, >= 0.
    """

    bonus: float = 1.0
    step_cost: float = 0.05

    def __post_init__(self) -> None:
        require_number("Shaped.bonus", self.bonus, 0.0)
        require_number("Shaped.step_cost", self.step_cost, 0.0)

    def __call__(self, before_m: float, after_m: float, reached: bool) -> float:
        """`before_m - after_m - step_cost`, and `bonus` if reached."""
        return before_m - after_m - self.step_cost + (self.bonus if reached else 0.0)


@dataclass(frozen=True)
class Sparse:
    """1 at the goal, 0 elsewhere."""

    def __call__(self, before_m: float, after_m: float, reached: bool) -> float:
        """1.0 if reached, else 0.0."""
        return float(reached)


@dataclass(frozen=True, eq=False)
class GoalState:
    """Where an episode stands with its goal.

    Attributes:
        picture: The goal as the agent sees it: uint8 [h, w, 3], or a latent, float32 [cells].
        c2w: Where it was taken, relative to the first frame, float64 [4, 4].
        shortest: Distance from the start to the goal, metres.
        taken: Distance covered so far, summed over chunks, metres.
    """

    picture: npt.NDArray[Any]
    c2w: Pose
    shortest: float
    taken: float = 0.0


@dataclass(frozen=True)
class ImageGoal(Task):
    """Reach the view in a goal image: observation part "goal".

    When an episode begins, the world is rolled from its start along a hidden walk, and the last
    frame of that is the goal, so the picture comes from the world the agent acts in. The episode
    itself begins at the start.

    The goal counts as reached at the end of a chunk that ends within `success_distance_m` and
    `success_angle_deg` of it; this ends the episode. `info` has "is_success", "goal_distance_m" and
    "goal_angle_deg" at the end of the chunk, and "spl": success weighted by path length, shortest
    / max(taken, shortest) when reached and 0 otherwise, where lengths are sums of `distance`
    between the ends of chunks.

    Attributes:
        max_episode_steps: Chunks after which an episode is truncated.
        chunks: Lengths of hidden walks, in chunks, drawn with equal probability.
        forward: Range of each chunk's forward speed, as a fraction of the world's limit.
        right: Largest sideways speed to either side, as a fraction of the world's limit.
        yaw: Largest turning speed to either side, as a fraction of the world's limit.
        success_distance_m: Metres to the goal at which it is reached.
        success_angle_deg: Degrees to the goal at which it is reached.
        distance: Joins metres and radians, for reward and path lengths.
        reward: What a step is worth: `Shaped()` or `Sparse()`, or one's own.

    Source: SPL, Anderson et al., "On Evaluation of Embodied Navigation Agents"
    (arXiv 1807.06757), eq. 1.
    """

    name: ClassVar[str] = "image_goal"
    needs_camera: ClassVar[bool] = True
    State: ClassVar[type[Any]] = GoalState
    shapes: ClassVar = {"c2w": (4, 4)}
    max_episode_steps: int = 8
    chunks: tuple[int, ...] = (1, 2)
    forward: tuple[float, float] = (0.5, 1.0)
    right: float = 0.2
    yaw: float = 0.8
    success_distance_m: float = 0.4
    success_angle_deg: float = 15.0
    distance: PoseDistance = field(default=PoseDistance())
    reward: GoalReward = field(default=Shaped())

    def __post_init__(self) -> None:
        require_integer("ImageGoal.max_episode_steps", self.max_episode_steps, 1)
        if not self.chunks:
            raise ValueError("ImageGoal.chunks is empty, expected lengths of hidden walks")
        for chunks in self.chunks:
            require_integer("ImageGoal.chunks", chunks, 1)
        require_range("ImageGoal.forward", self.forward, -1.0, 1.0)
        for name in ("right", "yaw"):
            require_number(f"ImageGoal.{name}", getattr(self, name), 0.0, 1.0)
        require_number("ImageGoal.success_distance_m", self.success_distance_m, 0.0, ends="(]")
        require_number("ImageGoal.success_angle_deg", self.success_angle_deg, 0.0, 180.0, ends="(]")

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """ "goal": an image of the observed size, or a latent where no frame is observed."""
        view = goal_view(setting)
        # Settings under which no walk ever leaves the start would be found out only at reset.
        self.walk(np.random.default_rng(0), setting.spec)
        return {"goal": view.space}

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[GoalState]:
        """Roll every world along its hidden walk, all in one batch, and take a picture there."""
        goals = self.imagine(setting, episodes, rngs)
        view = goal_view(setting)
        [name] = view.names
        return [
            GoalState(
                picture=seen[name].copy(),
                c2w=goal.c2w[-1],
                shortest=self.distance.between(episode.c2w[-1], goal.c2w[-1]),
            )
            for seen, episode, goal in zip(setting.look(goals, view), episodes, goals, strict=True)
        ]

    def imagine(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[Episode]:
        """The ends of hidden walks that start in `episodes`, one drawn from each generator."""
        walks = [self.walk(rng, setting.spec) for rng in rngs]
        ends = list(episodes)
        for chunk in range(max(map(len, walks), default=0)):
            rows = [i for i, walk in enumerate(walks) if len(walk) > chunk]
            moves = [Command(walks[i][chunk]) for i in rows]
            moved = setting.move([ends[i] for i in rows], moves)
            for i, end in zip(rows, moved, strict=True):
                ends[i] = end
        return ends

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[GoalState, StepResult]:
        """Reward of the step, and whether the goal is reached."""
        state: GoalState = before.task
        last, pose = before.c2w[-1], after.c2w[-1]
        reached = self.reached(*gap(pose, state.c2w))
        taken = state.taken + self.distance.between(last, pose)
        reward = self.reward(
            self.distance.between(last, state.c2w),
            self.distance.between(pose, state.c2w),
            reached,
        )
        return replace(state, taken=taken), StepResult(reward, reached)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Distance to the goal, success, and success weighted by path length (SPL)."""
        state: GoalState = episode.task
        metres, angle = gap(episode.c2w[-1], state.c2w)
        reached = self.reached(metres, angle)
        return {
            "is_success": reached,
            "goal_distance_m": metres,
            "goal_angle_deg": math.degrees(angle),
            "spl": state.shortest / max(state.taken, state.shortest) if reached else 0.0,
        }

    def reached(self, metres: float, angle: float) -> bool:
        """Whether a camera this far from the goal, in metres and radians, has reached it."""
        close = metres <= self.success_distance_m
        return close and math.degrees(angle) <= self.success_angle_deg

    def observe(self, state: GoalState) -> Arrays:
        """The goal's picture."""
        return {"goal": state.picture}

    def walk(self, rng: np.random.Generator, spec: WorldSpec) -> list[Controls]:
        """A hidden walk, chunk by chunk, that does not end where it began.

        Raises:
            ValueError: None was found: the world is too slow for these settings.
        """
        for _ in range(_TRIES):
            walk = []
            for _ in range(int(rng.choice(self.chunks))):
                yaw, right = rng.uniform(-self.yaw, self.yaw), rng.uniform(-self.right, self.right)
                twist = (yaw, 0.0, right, 0.0, rng.uniform(*self.forward))
                walk.append(twist_to_controls(twist, spec.limits, spec.frames_per_chunk))
            path = rollout(Controls.concatenate(walk))
            if not self.reached(*gap(path[0], path[-1])):
                return walk
        raise ValueError(
            f"hidden walks of {self.chunks} chunks at these speeds stay within "
            f"{self.success_distance_m:g} m and {self.success_angle_deg:g} degrees of the start; "
            "expected more chunks, faster walks or a narrower goal"
        )


def goal_view(setting: Setting) -> ObservationView:
    """How a goal is seen: as the first visual part of the observation, one frame of it.

    Raises:
        ValueError: Nothing visual is observed.
    """
    kinds = [kind for kind in setting.view.kinds.values() if kind != "pose"]
    if not kinds:
        raise ValueError(
            f"observation is {setting.view.names}, expected 'frame', 'frames' or 'latent' in "
            "it: a goal image is of no use to an agent that sees nothing"
        )
    name = "latent" if kinds[0] == "latent" else "frame"
    return observation_view((name,), setting.view.size, setting.spec)
