"""From waypoints to a smooth camera path of a minute.

In this order: Catmull-Rom through the positions, Squad through the orientations, even speed,
smoothing, a bound on the turn rate, scaling to the scene, and smaller retries where the path runs
into an obstacle. `templates.py` holds the waypoints, `splines.py` the curves, `smoothness.py` the
statistics.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.se3 import from_rotation_translation, relative_to_first
from sana_wm_gym.camera.smoothness import Smoothness, smoothness
from sana_wm_gym.camera.splines import (
    arc_length,
    catmull_rom,
    laplacian_smooth,
    limit_turn,
    resample,
    squad,
)
from sana_wm_gym.checks import require_integer, require_number

Array = npt.NDArray[np.float64]
Collides: TypeAlias = Callable[[Array], npt.NDArray[np.bool_]]
"""Whether each camera centre [n, 3], metres in first-frame axes, is too near something: [n]."""
CollisionStatus: TypeAlias = Literal["clear", "clear_after_retry", "colliding"]

MAX_SPEED = 0.4
"""Fastest travel, metres per second."""
MAX_TURN = 12.0
"""Fastest turn, degrees per second."""
DEPTH_FRACTION = 0.6
"""Largest distance from the first frame, as a fraction of the scene's median depth."""
MARGIN = 0.3
"""Distance to keep from a point cloud, metres."""
RETRY_FACTOR = 0.7
"""How much smaller and slower a colliding path is tried again."""
MAX_RETRIES = 3
MAX_LAG = 1.0
"""How far the last orientation may be from the template's, degrees."""

# Dense enough that the polyline between samples is the curve for every purpose here.
_SAMPLES_PER_SEGMENT = 200


@dataclass(frozen=True)
class Waypoint:
    """Where a template puts the camera, in the axes of its first frame.

    Attributes:
        position: (right, down, ahead) in metres.
        yaw_deg: Heading, positive to the right; counted on beyond 360 on a full turn.
        pitch_deg: Positive upwards, within +-90.
        time: Seconds from the start. It sets how long turns on the spot take, and the length of
            the whole; travel is spread evenly over the clip.
        turn_on_spot: The camera turned here from the previous waypoint, at the same place.
    """

    position: tuple[float, float, float]
    yaw_deg: float
    pitch_deg: float
    time: float
    turn_on_spot: bool = False


@dataclass(frozen=True)
class Template:
    """A family of camera paths: waypoints at design size, which synthesis fits to a scene.

    Attributes:
        name: Unique name, also the trajectory id of a benchmark.
        split: Split of the benchmark that it is in.
        waypoints: At least two; those of the benchmark have 11 to 15. The first is the origin,
            looking ahead, at time 0.

    Raises:
        ValueError: The first waypoint is elsewhere, times do not increase, a value is not finite,
            neighbours turn by 180 degrees or more, or have one position without `turn_on_spot`,
            or different ones with it.
    """

    name: str
    split: Literal["simple", "hard"]
    waypoints: tuple[Waypoint, ...]

    def __post_init__(self) -> None:
        require_integer(f"number of waypoints of {self.name}", len(self.waypoints), 2)
        first = self.waypoints[0]
        if first != Waypoint((0.0, 0.0, 0.0), 0.0, 0.0, 0.0):
            raise ValueError(f"{self.name} starts with {first}, expected the origin at time 0")
        for index, (before, here) in enumerate(pairwise(self.waypoints), start=1):
            if problem := _fault(before, here):
                raise ValueError(f"{self.name} waypoint {index} {problem}; given {here}")

    @property
    def seconds(self) -> float:
        """Planned length."""
        return self.waypoints[-1].time


def _fault(before: Waypoint, here: Waypoint) -> str:
    if not np.isfinite([*here.position, here.yaw_deg, here.pitch_deg, here.time]).all():
        return "has a value that is not finite"
    if here.time <= before.time:
        return f"is not later than the one before, at {before.time} s"
    if abs(here.yaw_deg - before.yaw_deg) >= 180 or abs(here.pitch_deg) >= 90:
        return "turns by 180 degrees or more, or has a pitch beyond +-90 degrees"
    if here.turn_on_spot != (here.position == before.position):
        marked = "marked" if here.turn_on_spot else "not marked"
        return f"is {marked} as a turn on the spot, but the one before is at {before.position}"
    return ""


@dataclass(frozen=True, eq=False)
class SynthesisedTrajectory:
    """A camera path made from a template.

    Attributes:
        template: The template's name.
        c2w: Camera-to-world poses relative to frame 0, float64 [n, 4, 4], metres; read-only.
        fps: Frames per second.
        smoothness: How it moves.
        scale: Its size as a fraction of the template's design size, 0 to 1.
        residual_lag_deg: How far the last orientation is from the template's, at most `MAX_LAG`.
        collision_status: Whether it keeps clear; a path that collides after all retries is kept
            and marked. None where there was nothing to check against.
        retries: How often it was tried again, 0 to `MAX_RETRIES`.
    """

    template: str
    c2w: Array
    fps: float
    smoothness: Smoothness
    scale: float
    residual_lag_deg: float
    collision_status: CollisionStatus | None
    retries: int

    def __post_init__(self) -> None:
        c2w = np.array(self.c2w)
        c2w.setflags(write=False)
        object.__setattr__(self, "c2w", c2w)

    @property
    def extent(self) -> float:
        """Largest distance of a camera centre from the first, metres."""
        return float(np.linalg.norm(self.c2w[:, :3, 3], axis=1).max())

    @property
    def path_length(self) -> float:
        """Metres travelled."""
        return float(arc_length(self.c2w[:, :3, 3])[-1])


def synthesise(
    template: Template,
    frames: int = 961,
    fps: float = 16.0,
    *,
    median_depth: float | None = None,
    collides: Collides | None = None,
) -> SynthesisedTrajectory:
    """Make a camera path from a template.

    The whole template is spread over the whole clip: fewer frames are a faster path, not its
    beginning. It is never larger than designed; limits of speed and extent only shrink it.

    Args:
        template: The waypoints.
        frames: Number of poses, >= 2. The first is at second 0.
        fps: Frames per second.
        median_depth: Of the scene seen from the first frame, metres; bounds the extent. None
            leaves it at the design size.
        collides: Which camera centres are too near something, such as `near_points(cloud)`.

    Raises:
        ValueError: An argument is out of range, or the template turns so much at its end that
            the camera, at `MAX_TURN`, is more than `MAX_LAG` behind in the last frame.

    Source: the trajectory synthesis of SANA-WM-Bench (arXiv 2605.15178), whose text leaves open
        knots, smoothing weights, retry factor and what "travel" means; here it is the extent.
    """
    require_integer("frames", frames, 2)
    require_number("fps", fps, 0, ends="()")
    if median_depth is not None:
        require_number("median_depth in metres", median_depth, 0, ends="()")
    centres, targets = _even_pace(template, frames)
    centres = laplacian_smooth(centres)
    rotations = limit_turn(targets, math.radians(MAX_TURN / fps))
    lag = math.degrees((rotations[-1].inv() * targets[-1]).magnitude())
    if lag > MAX_LAG:
        raise ValueError(
            f"{template.name} is {lag:.1f} degrees behind its last orientation after {frames} "
            f"frames at {fps} fps, expected at most {MAX_LAG}; it turns too much for "
            f"{MAX_TURN} degrees/s"
        )

    limits = [(MAX_SPEED, float(np.diff(arc_length(centres)).max()) * fps)]
    if median_depth is not None:
        extent = float(np.linalg.norm(centres - centres[0], axis=1).max())
        limits.append((DEPTH_FRACTION * median_depth, extent))
    scale = min([1.0, *(limit / value for limit, value in limits if value > 0)])
    # Every step above scales with the waypoints, so a path with a lower speed limit, made anew,
    # is this one in smaller.
    retries = 0
    status: CollisionStatus | None = None
    if collides is not None:
        while (hit := collides(scale * centres).any()) and retries < MAX_RETRIES:
            scale, retries = scale * RETRY_FACTOR, retries + 1
        status = "colliding" if hit else "clear_after_retry" if retries else "clear"

    c2w = relative_to_first(from_rotation_translation(rotations.as_matrix(), scale * centres))
    return SynthesisedTrajectory(
        template.name, c2w, fps, smoothness(c2w, fps), scale, lag, status, retries
    )


def _even_pace(template: Template, frames: int) -> tuple[Array, Rotation]:
    """Centre and target orientation of each frame: the curves, travelled at one speed."""
    waypoints = template.waypoints
    number = np.arange(len(waypoints), dtype=np.float64)
    still = np.array([w.turn_on_spot for w in waypoints])
    # Waypoints of one turn on the spot are one point of the curve of positions.
    places = np.array([w.position for w in waypoints])[~still]
    place_number = np.cumsum(~still) - 1.0
    dense = np.linspace(0.0, number[-1], (len(waypoints) - 1) * _SAMPLES_PER_SEGMENT + 1)
    at_place = np.interp(dense, number, place_number)
    curve = catmull_rom(places, at_place) if len(places) > 1 else np.zeros((len(dense), 3))

    # Turns on the spot take the time they are given, the rest goes by distance.
    seconds = np.diff([w.time for w in waypoints])
    turning = np.repeat(np.where(still[1:], seconds, 0.0), _SAMPLES_PER_SEGMENT)
    steps = np.where(np.repeat(still[1:], _SAMPLES_PER_SEGMENT), 0.0, np.diff(arc_length(curve)))
    travelling = seconds[~still[1:]].sum()
    spent = turning / _SAMPLES_PER_SEGMENT + steps * (travelling / max(steps.sum(), 1e-12))
    clock = np.concatenate([[0.0], np.cumsum(spent)])

    instants = np.linspace(0.0, clock[-1], frames)
    values = resample(np.column_stack([curve, dense]), clock, instants)
    angles = [[w.yaw_deg, w.pitch_deg] for w in waypoints]
    return values[:, :3], squad(Rotation.from_euler("YX", angles, degrees=True), values[:, 3])


def near_points(points: npt.ArrayLike, margin: float = MARGIN) -> Collides:
    """Collision test against a point cloud.

    Args:
        points: [m, 3], metres in first-frame axes, m >= 1.
        margin: Camera centres nearer than this to a point collide, metres.

    Raises:
        ValueError: The cloud is empty, of another shape or not finite.
    """
    cloud = np.asarray(points, dtype=np.float64)
    if cloud.ndim != 2 or cloud.shape[1] != 3 or len(cloud) == 0:
        raise ValueError(f"points have shape {cloud.shape}, expected (m, 3) with m >= 1")
    if not np.isfinite(cloud).all():
        raise ValueError("points hold values that are not finite, expected metres")
    tree = cKDTree(cloud)

    def collides(centres: Array) -> npt.NDArray[np.bool_]:
        distance, _ = tree.query(centres)
        return np.asarray(distance < margin)

    return collides
