"""Curves through waypoints, and their pace: the steps that trajectory synthesis is made of.

Positions are float64 [n, 3]; orientations are scipy `Rotation` stacks of length n. A point on a
curve is named by a number in waypoint units: 2.5 is half way from waypoint 2 to waypoint 3.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.interpolate import CubicHermiteSpline
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

# Centripetal: a knot every square root of distance; no cusps or loops inside a segment.
_KNOT_EXPONENT = 0.5


def catmull_rom(points: Array, at: Array) -> Array:
    """Points of the centripetal Catmull-Rom curve that passes through `points`.

    The neighbours that the first and the last point lack are their reflections.

    Args:
        points: Waypoints, [n, 3] with n >= 2.
        at: Where to evaluate, [m] in waypoint units, 0 to n - 1.

    Returns:
        float64 [m, 3].

    Raises:
        ValueError: Fewer than two points, or neighbours that coincide.

    Source: Barry and Goldman's non-uniform form; its tangents feed scipy's Hermite spline.
    """
    if points.ndim != 2 or len(points) < 2:
        raise ValueError(f"points have shape {points.shape}, expected [n, 3] with n >= 2")
    first, last = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
    padded = np.vstack([first, points, last])
    distances = np.linalg.norm(np.diff(padded, axis=0), axis=1)
    if not (distances > 0).all():
        index = int(np.flatnonzero(~(distances > 0))[0])
        raise ValueError(f"points {index - 1} and {index} coincide, expected different neighbours")
    intervals = distances[:, None] ** _KNOT_EXPONENT
    slopes = np.diff(padded, axis=0) / intervals
    across = (padded[2:] - padded[:-2]) / (intervals[:-1] + intervals[1:])
    knots = np.concatenate([[0.0], np.cumsum(intervals[1:-1])])
    curve = CubicHermiteSpline(knots, points, slopes[:-1] - across + slopes[1:])
    return np.asarray(curve(np.interp(at, np.arange(len(points)), knots)))


def squad(rotations: Rotation, at: Array) -> Rotation:
    """Orientations of the Squad curve that passes through `rotations`; its end controls are they.

    Built from relative rotation vectors, which always go the shorter way: the same as putting
    neighbouring quaternions in one hemisphere first.

    Args:
        rotations: Orientations at the waypoints, n >= 2, neighbours less than 180 degrees apart.
        at: Where to evaluate, [m] in waypoint units, 0 to n - 1.

    Returns:
        m rotations.

    Raises:
        ValueError: Fewer than two rotations.

    Source: Shoemake, "Quaternion calculus and fast animation" (1987).
    """
    if len(rotations) < 2:
        raise ValueError(f"{len(rotations)} rotation given, expected at least 2")
    steps = (rotations[:-1].inv() * rotations[1:]).as_rotvec()
    bends = np.zeros((len(rotations), 3))
    bends[1:-1] = (steps[:-1] - steps[1:]) / 4
    controls = rotations * Rotation.from_rotvec(bends)
    start = np.clip(np.floor(at).astype(int), 0, len(rotations) - 2)
    fraction = at - start
    chords = _slerp(rotations[start], rotations[start + 1], fraction)
    pulls = _slerp(controls[start], controls[start + 1], fraction)
    return _slerp(chords, pulls, 2 * fraction * (1 - fraction))


def _slerp(a: Rotation, b: Rotation, fraction: Array) -> Rotation:
    return a * Rotation.from_rotvec(fraction[:, None] * (a.inv() * b).as_rotvec())


def arc_length(points: Array) -> Array:
    """Length of a polyline [n, 3] from its first point to each of its points, [n]."""
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def resample(values: Array, marks: Array, at: Array) -> Array:
    """Values [m, k] that belong to increasing marks [m], read linearly at `at` [n]: [n, k].

    With arc lengths as marks and equal steps, points become equally spaced.
    """
    return np.stack([np.interp(at, marks, column) for column in values.T], axis=-1)


def laplacian_smooth(points: Array, weight: float = 0.5, passes: int = 10) -> Array:
    """Move each point [n, 3] towards the middle of its neighbours; the ends stay.

    Args:
        points: A path.
        weight: Fraction of the way, 0 to 1.
        passes: How often.
    """
    smooth = points.copy()
    for _ in range(passes):
        smooth[1:-1] += weight * ((smooth[:-2] + smooth[2:]) / 2 - smooth[1:-1])
    return smooth


def limit_turn(targets: Rotation, largest: float) -> Rotation:
    """Follow `targets`, turning at most `largest` radians from one entry to the next.

    Causal: each result turns from the previous result straight towards its own target, so a turn
    that is too fast arrives late. The first result is the first target.
    """
    result = [targets[0]]
    for target in targets[1:]:
        turn = (result[-1].inv() * target).as_rotvec()
        angle = float(np.linalg.norm(turn))
        if angle > largest:
            target = result[-1] * Rotation.from_rotvec(turn * (largest / angle))
        result.append(target)
    return Rotation.concatenate(result)
