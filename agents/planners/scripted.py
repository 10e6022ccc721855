"""Planners without search: a scripted expert and random actions.

The expert reads the pose of the goal, which no policy observes: an upper reference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera import TWIST_NAMES, MotionLimits
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks.follow import Follow
from sana_wm_gym.envs.tasks.image_goal import ImageGoal

from .planner import Plan
from .search import as_twists, require_moves

Pose = npt.NDArray[np.float64]

_MOST_CHUNKS = 16


@dataclass(frozen=True)
class RandomActions:
    """Actions drawn uniformly over `moves`, motions of `camera.TWIST_NAMES`."""

    moves: Sequence[str] = TWIST_NAMES

    def __post_init__(self) -> None:
        require_moves(self.moves)

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """One twist, drawn from [-1, 1] in each motion."""
        return Plan(as_twists(rng.uniform(-1.0, 1.0, (1, len(self.moves))), self.moves), None, 0)


@dataclass(frozen=True)
class ScriptedExpert:
    """Steers straight to the goal of ImageGoal, or to where the path of Follow is after the next
    chunk; it corrects for actuation noise a chunk later."""

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The arc from here to there, cut into chunks.

        Raises:
            ValueError: It has no script for this task.
        """
        spec, here = simulation.world.spec, episode.c2w[-1]
        frames = spec.frames_per_chunk
        if isinstance(simulation.task, ImageGoal):
            return Plan(arc(here, episode.task.c2w, spec.limits, frames), None, 0)
        if isinstance(simulation.task, Follow):
            path = episode.task.path
            ahead = path[min(frames * (episode.chunk + 1), len(path) - 1)]
            return Plan(arc(here, ahead, spec.limits, frames, chunks=1), None, 0)
        raise ValueError(
            f"the scripted expert was given task {simulation.task.name!r}, "
            "expected image_goal or follow"
        )


def arc(
    here: Pose, there: Pose, limits: MotionLimits, frames: int, chunks: int | None = None
) -> npt.NDArray[np.float32]:
    """The constant motion that carries a camera from one upright pose to another, along an arc.

    Args:
        here: Camera to world, float64 [4, 4], without roll.
        there: Where to be at the end; its roll is ignored.
        limits: Fastest motion per frame; a faster one is cut to them.
        frames: Of a chunk.
        chunks: Duration; None takes the fewest chunks that the limits allow.

    Returns:
        The same twist for each chunk, float32 [chunks, 5] in [-1, 1].
    """
    fastest = [getattr(limits, name) for name in TWIST_NAMES]
    for count in range(1, _MOST_CHUNKS + 1) if chunks is None else [chunks]:
        rates = _rates(here, there, count * frames)
        twist = np.array([r / f if f > 0 else 0.0 for r, f in zip(rates, fastest, strict=True)])
        # Slightly above 1 is rounding.
        if np.abs(twist).max() <= 1.0 + 1e-5:
            break
    return np.tile(np.clip(twist, -1.0, 1.0).astype(np.float32), (count, 1))


def _rates(here: Pose, there: Pose, frames: int) -> tuple[float, ...]:
    """(yaw, pitch, right, down, forward) per frame that get there in so many frames."""
    yaw, pitch = _angles(here)
    goal_yaw, goal_pitch = _angles(there)
    turn = math.remainder(goal_yaw - yaw, math.tau) / frames
    x, down, z = there[:3, 3] - here[:3, 3]
    # Each frame turns and then walks: it goes in direction yaw + i * turn, i = 1 ... frames.
    headings = yaw + turn * np.arange(1, frames + 1)
    c, s = float(np.cos(headings).sum()), float(np.sin(headings).sum())
    # x = c * right + s * forward and z = -s * right + c * forward.
    square = c * c + s * s
    right, forward = (c * x - s * z) / square, (s * x + c * z) / square
    return turn, (goal_pitch - pitch) / frames, right, float(down) / frames, forward


def _angles(pose: Pose) -> tuple[float, float]:
    """Heading, positive to the right, and pitch, positive upwards, of a camera in radians."""
    x, y, z = pose[:3, 2]
    return math.atan2(x, z), -math.asin(min(max(float(y), -1.0), 1.0))
