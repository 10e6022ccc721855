"""The twenty templates of the camera-control benchmark, ten Simple and ten Hard.

Simple ones stay at one height, look level and turn moderately; Hard ones climb, look up and down
by about 30 degrees, pan fast and go round more than once. Each is a minute long, at a size for a
large room; synthesis shrinks it to the scene. SANA-WM-Bench published names but no waypoints: the
names follow its figures, the shapes are this project's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from math import cos, pi, sin
from typing import Literal, NamedTuple

from sana_wm_gym.camera.synthesis import Template, Waypoint

SECONDS = 60.0
"""Length of every template."""

Split = Literal["simple", "hard"]
Path = Callable[[float], tuple[float, float, float]]


class _Move(NamedTuple):
    """A waypoint before it has a time; without a place it is a turn on the spot."""

    place: tuple[float, float, float] | None  # x, height, z
    yaw: float
    pitch: float
    seconds: float = 0.0


def _go(x: float, z: float, yaw: float = 0.0) -> _Move:
    return _Move((x, 0.0, z), yaw, 0.0)


def _fly(x: float, up: float, z: float, yaw: float, pitch: float) -> _Move:
    return _Move((x, up, z), yaw, pitch)


def _turn(seconds: float, yaw: float, pitch: float = 0.0) -> _Move:
    return _Move(None, yaw, pitch, seconds)


def _along(path: Path, count: int, follow: float, pitch: Sequence[float] = ()) -> list[_Move]:
    """Waypoints on a curve, looking a fraction `follow` of the way towards where it leads.

    Args:
        path: (x, height, z) at a fraction 0 to 1 of the way; sets out along z, or nearly.
        count: Number of waypoints.
        follow: 1 looks along the path, 0 straight ahead.
        pitch: Degrees at each waypoint; none is level.
    """
    moves: list[_Move] = []
    headings: list[float] = []
    for k in range(count):
        t = k / (count - 1)
        (x0, _, z0), (x1, _, z1) = path(t - 1e-4), path(t + 1e-4)
        towards = math.degrees(math.atan2(x1 - x0, z1 - z0))
        before = headings[-1] if headings else towards
        headings.append(before + (towards - before + 180) % 360 - 180)  # counts on beyond 180
        x, up, z = path(t)
        yaw = follow * (headings[-1] - headings[0])
        moves.append(_fly(x, up, z, yaw, pitch[k] if pitch else 0.0))
    return moves


def _templates(split: Split, paths: Mapping[str, Sequence[_Move]]) -> tuple[Template, ...]:
    return tuple(Template(name, split, _timed(moves)) for name, moves in paths.items())


def _timed(moves: Sequence[_Move]) -> tuple[Waypoint, ...]:
    """Give each waypoint its time: turns take theirs, straight distance gets the rest."""
    places = [moves[0].place or (0.0, 0.0, 0.0)]
    for move in moves[1:]:
        places.append(move.place or places[-1])
    distances = [0.0] + [math.dist(a, b) for a, b in zip(places, places[1:], strict=False)]
    pace = (SECONDS - sum(move.seconds for move in moves)) / sum(distances)
    waypoints, time = [], 0.0
    for move, (x, up, z), distance in zip(moves, places, distances, strict=True):
        time += move.seconds + pace * distance
        position = (round(x, 4) + 0.0, round(-up, 4) + 0.0, round(z, 4) + 0.0)  # no minus zero
        angles = (round(move.yaw, 2) + 0.0, round(move.pitch, 2) + 0.0)
        waypoints.append(Waypoint(position, *angles, round(time, 3), move.place is None))
    return tuple(waypoints)


def _orbit(radius: float, degrees: float, up: float = 0.0) -> _Move:
    """On a circle about a point `radius` ahead of the start, looking at that point."""
    angle = math.radians(degrees)
    pitch = -math.degrees(math.atan2(up, radius))
    return _fly(radius * sin(angle), up, radius * (1 - cos(angle)), -degrees, pitch)


def _eight(t: float, width: float, depth: float) -> tuple[float, float]:
    """A lying figure-eight (x, z) that sets out along z from its right end."""
    return width * (cos(2 * pi * t) - 1), depth * sin(4 * pi * t)


_BEND = _along(lambda t: (0.9 * t * t, 0.0, 3.0 * t), 7, 0.9)

SIMPLE = _templates(
    "simple",
    {
        "s_curve": _along(lambda t: (0.9 * sin(2 * pi * t) * sin(pi * t), 0.0, 5.0 * t), 13, 0.8),
        "orbit": [_orbit(2.0, 20 * k) for k in (0, 1, 2, 3, 2, 1, 0, -1, -2, -3, -2, -1, 0)],
        "backtrack": _BEND + _BEND[-2::-1],
        "l_return": [_go(0, z) for z in (0.0, 0.85, 1.7, 2.5)]
        + [_turn(12, 90)]
        + [_go(x, 2.5, 90) for x in (0.8, 1.6, 2.4, 1.6, 0.8, 0.0)]
        + [_turn(12, 0)]
        + [_go(0, z) for z in (1.7, 0.85, 0.0)],
        "figure_eight": _along(
            lambda t: (_eight(t, 1.2, 0.8)[0], 0.0, _eight(t, 1.2, 0.8)[1]), 13, 0.3
        ),
        "room_loop": [
            _go(1.3 - 1.3 * cos(k * pi / 6), 1.7 * sin(k * pi / 6), 30 * k) for k in range(13)
        ],
        "room_lookaround": [_go(0, 0), _go(0, 0.5), _go(0, 1.0)]
        + [_turn(8, yaw) for yaw in (-60, 0, 60, 0)]
        + [_go(0.5, 0.9, 10), _go(0.8, 0.5, 20), _go(0.6, 0.1, 15), _go(0.2, -0.1, 5), _go(0, 0)],
        "side_detour": _along(lambda t: (1.0 * sin(pi * t) ** 2, 0.0, 4.5 * t), 12, 0.7),
        "arc": _along(lambda t: (3 - 3 * cos(1.4 * t), 0.0, 3 * sin(1.4 * t)), 11, 1.0),
        "out_and_back": [_go(0, 0.6 * k) for k in (0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0)],
    },
)
"""Planar, level, moderate turns."""

HARD = _templates(
    "hard",
    {
        "staircase": [
            _go(0, 0),
            _fly(0, 0.0, 0.5, 0, 10),
            _fly(0, 0.25, 0.75, 0, 20),
            _fly(0, 0.25, 1.25, 0, 25),
            _fly(0, 0.5, 1.5, 0, 20),
            _fly(0, 0.5, 2.0, 0, 5),
            _turn(12, 90),
            _fly(0.5, 0.5, 2.0, 90, 15),
            _fly(0.75, 0.75, 2.0, 90, 25),
            _fly(1.25, 0.75, 2.0, 90, 15),
            _fly(1.5, 1.0, 2.0, 90, -5),
            _turn(10, 150, -30),
        ],
        "whip_pan": [
            _go(0, 0),
            _go(0.1, 0.5),
            _turn(2, 80, 10),
            _fly(0.3, 0.1, 1.0, 80, 10),
            _turn(2, -10, -10),
            _fly(0.2, 0.1, 1.6, -10, -10),
            _turn(2, -90, 0),
            _fly(-0.2, 0.2, 2.1, -90, 0),
            _turn(2, 0, 15),
            _fly(-0.3, 0.1, 2.7, 0, 15),
            _turn(2, 70, -25),
            _fly(0, 0.0, 3.3, 70, -25),
        ],
        "elevator": [
            _go(0, 0),
            _fly(0.05, 0.35, 0.05, 15, -10),
            _fly(0.1, 0.7, 0.05, 30, -20),
            _fly(0.1, 1.0, 0, 45, -30),
            _turn(8, -15, -30),
            _fly(0.05, 0.6, 0, -30, -20),
            _fly(0, 0.2, 0.05, -45, 0),
            _fly(-0.05, -0.2, 0.05, -30, 15),
            _fly(-0.1, -0.5, 0, -10, 30),
            _turn(8, 40, 30),
            _fly(-0.05, -0.25, 0, 20, 15),
            _go(0, 0),
        ],
        "spiral": _along(
            lambda t: (
                0.8 - (0.8 + 0.4 * t) * cos(3 * pi * t),
                0.9 * t,
                (0.8 + 0.4 * t) * sin(3 * pi * t),
            ),
            15,
            1.0,
            [28 * sin(2 * pi * k / 14) for k in range(15)],
        ),
        "crane": [
            _go(0, 0),
            _fly(0, 0.4, -0.1, 0, -10),
            _fly(0, 0.8, -0.3, 0, -22),
            _fly(0.1, 1.1, -0.4, -5, -32),
            _fly(0.6, 1.2, -0.3, -20, -32),
            _fly(1.1, 1.1, 0.0, -35, -30),
            _fly(1.4, 0.7, 0.4, -50, -20),
            _fly(1.4, 0.2, 0.7, -60, -5),
            _fly(1.2, -0.2, 0.8, -50, 12),
            _fly(0.8, -0.4, 0.7, -30, 25),
            _fly(0.4, -0.3, 0.4, -15, 15),
            _fly(0.1, -0.1, 0.1, -5, 5),
            _go(0, 0),
        ],
        "double_loop": [
            _fly(
                1 - cos(4 * pi * t),
                0.4 * sin(pi * t) ** 2,
                1.2 * sin(4 * pi * t),
                50 * sin(4 * pi * t),
                -25 * sin(4 * pi * t),
            )
            for t in (k / 14 for k in range(15))
        ],
        "hard_orbit": [_orbit(1.6, 540 * k / 14, 0.9 * sin(4 * pi * k / 14)) for k in range(15)],
        "zigzag": [
            _go(0, 0),
            _fly(0.35, 0.1, 0.25, 20, -10),
            _fly(0.7, 0.25, 0.5, 40, -25),
            _go(0, 0.75),
            _fly(-0.7, -0.25, 1.0, -40, 25),
            _go(0, 1.25),
            _fly(0.7, 0.25, 1.5, 40, -25),
            _go(0, 1.75),
            _fly(-0.7, -0.25, 2.0, -40, 25),
            _go(0, 2.25),
            _fly(0.7, 0.25, 2.5, 40, -25),
            _fly(0.35, 0.1, 2.75, 10, -10),
            _go(0, 3.0),
        ],
        "pitch_sweep": [
            _fly(0.04 * out * out, 0.08 * out, 0.35 * out, 4 * out, pitch)
            for out, pitch in zip(
                (0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0), (0, 35, 0, -35) * 3 + (0,), strict=True
            )
        ],
        "crossing_eight": _along(
            lambda t: (_eight(t, 1.3, 0.8)[0], 0.5 * sin(2 * pi * t), _eight(t, 1.3, 0.8)[1]),
            13,
            0.5,
            [-30 * sin(2 * pi * k / 12) for k in range(13)],
        ),
    },
)
"""Height changes, steep pitch, fast pans, repeated loops."""
