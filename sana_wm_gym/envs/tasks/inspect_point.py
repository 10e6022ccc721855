"""Orbit a point and keep it in view."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.checks import require_integer, require_number, require_range
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import POSE_BOUND
from sana_wm_gym.envs.tasks.task import Arrays, Episodes, Numbers, Rngs, Setting, StepResult, Task

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class InspectState:
    """Where an episode stands in its orbit.

    Attributes:
        point: Centre of the orbit relative to the first frame, metres, float64 [3].
        target: The same in camera axes of the last frame, metres, float64 [3].
        progress: Radians gained so far.
    """

    point: Array
    target: Array
    progress: float = 0.0


@dataclass(frozen=True)
class Inspect(Task):
    """Orbit a point at a set distance while keeping it in view: observation part "target".

    The point is drawn straight ahead of the first frame, and the distance to keep is the distance
    it has there. The orbit goes to the camera's right, counterclockwise seen from above. Of each
    frame counts by how many radians the camera turned about the point's vertical axis:

        turned on, point in view, distance error < slack:  + angle * (1 - distance error / slack)
        turned back, whatever is in view:                  - angle

    so that no way to and fro earns anything. The reward is the sum over a chunk's frames. The
    distance is measured on the floor plan. Being in view means that the point is in front of the
    camera and projects into the frame; occlusion does not count.

    `progress` sums the same angles, without the weight for distance. When it reaches `arc` the
    episode ends with success. `info` has "is_success", "orbit_deg" (the progress), "distance_m"
    and "in_view" at the end of the chunk.

    Attributes:
        max_episode_steps: Chunks after which an episode is truncated.
        distance: Range from which the point's distance is drawn, metres.
        slack: Error of the distance from which nothing counts, metres.
        arc: Radians of orbit that end the episode.
    """

    name: ClassVar[str] = "inspect"
    needs_camera: ClassVar[bool] = True
    State: ClassVar[type[Any]] = InspectState
    shapes: ClassVar = {"point": (3,), "target": (3,)}
    max_episode_steps: int = 24
    distance: tuple[float, float] = (0.8, 1.4)
    slack: float = 0.5
    arc: float = math.pi

    def __post_init__(self) -> None:
        require_integer("Inspect.max_episode_steps", self.max_episode_steps, 1)
        require_number("Inspect.slack", self.slack, 0.0, ends="(]")
        # Where the camera may come to the axis itself, an angle about it means nothing.
        require_range("Inspect.distance", self.distance, self.slack, POSE_BOUND)
        require_number("Inspect.arc", self.arc, 0.0, ends="(]")

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """ "target": the point in camera axes, metres."""
        return {"target": spaces.Box(-POSE_BOUND, POSE_BOUND, (3,), np.float32)}

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[InspectState]:
        """Draw the points."""
        points = [np.array([0.0, 0.0, rng.uniform(*self.distance)]) for rng in rngs]
        return [InspectState(point, point) for point in points]

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[InspectState, StepResult]:
        """Angle gained while the point is in view, weighted by the error of the distance."""
        state: InspectState = before.task
        poses = np.concatenate([before.c2w[-1:], after.c2w])
        from_point = poses[:, :3, 3] - state.point
        across, back = from_point[:, 0], -from_point[:, 2]
        azimuth = np.unwrap(np.arctan2(across, back))
        distance = np.hypot(across, back)[1:]
        targets = in_camera(state.point, after.c2w)
        spec = setting.spec
        in_view = projects(targets, after.intrinsics, spec.width, spec.height)
        close = 1.0 - np.abs(distance - state.point[2]) / self.slack
        on, back_again = np.diff(azimuth).clip(min=0.0), np.diff(azimuth).clip(max=0.0)
        counted = on * (in_view & (close > 0))
        progress = state.progress + float((counted + back_again).sum())
        done = progress >= self.arc
        reward = float((counted * close + back_again).sum())
        return replace(state, target=targets[-1], progress=progress), StepResult(reward, done)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Angle and distance of the orbit, and whether the point is in view."""
        state, spec = episode.task, setting.spec
        across, _, ahead = episode.c2w[-1, :3, 3] - state.point
        [in_view] = projects(state.target[None], episode.intrinsics, spec.width, spec.height)
        return {
            "is_success": bool(state.progress >= self.arc),
            "orbit_deg": math.degrees(state.progress),
            "distance_m": float(np.hypot(across, ahead)),
            "in_view": bool(in_view),
        }

    def observe(self, state: InspectState) -> Arrays:
        """The point in camera axes."""
        return {"target": np.clip(state.target, -POSE_BOUND, POSE_BOUND).astype(np.float32)}


def in_camera(point: Array, c2w: Array) -> Array:
    """A point [3] in the axes of cameras [n, 4, 4]: float64 [n, 3]."""
    return np.asarray(np.einsum("nij,ni->nj", c2w[:, :3, :3], point - c2w[:, :3, 3]))


def projects(
    points: Array, intrinsics: tuple[float, float, float, float], width: int, height: int
) -> npt.NDArray[np.bool_]:
    """Whether points [n, 3] in camera axes are in front of it and inside its frame, bool [n]."""
    fx, fy, cx, cy = intrinsics
    depth = points[:, 2]
    ahead = np.where(depth > 0, depth, np.nan)
    u, v = fx * points[:, 0] / ahead + cx, fy * points[:, 1] / ahead + cy
    # A comparison with NaN is False, so what is behind is not in view.
    return np.asarray((u >= 0) & (u < width) & (v >= 0) & (v < height))
