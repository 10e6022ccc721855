"""What of a path lies outside the walks that the embedded world was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.walks import HEIGHT_RANGE

_LEVEL_DEG = 1.0  # paths through key poses sway by less


@dataclass(frozen=True)
class Flag:
    """One way in which a motion leaves the training distribution: the largest value of a quantity
    on the path, and in training."""

    what: str
    value: float
    limit: float
    unit: str

    def __str__(self) -> str:
        return f"{self.what} {self.value:.3g} {self.unit} (training {self.limit:.3g})"


def outside_training(
    in_scene: npt.NDArray[np.float64], limits: MotionLimits = WALK_LIMITS
) -> tuple[Flag, ...]:
    """What a camera does that training walks never do; empty if nothing.

    Args:
        in_scene: Poses in scene axes, [n, 4, 4]: y is down, 0 at the height of training cameras.
        limits: Fastest motion of training.
    """
    rotation, steps = in_scene[:, :3, :3], np.diff(in_scene[:, :3, 3], axis=0)
    # x right, y down, z forward: the view is the third column, its pitch counts upwards.
    yaw = np.unwrap(np.arctan2(rotation[:, 0, 2], rotation[:, 2, 2]))
    pitch = -np.arcsin(np.clip(rotation[:, 1, 2], -1, 1))
    roll = np.arctan2(rotation[:, 1, 0], rotation[:, 1, 1])
    sine, cosine = np.sin(yaw[1:]), np.cos(yaw[1:])  # the heading a step arrives with
    degrees = math.degrees
    measured = (
        ("height", in_scene[:, 1, 3], HEIGHT_RANGE, "m"),
        ("pitch", np.degrees(pitch), degrees(limits.pitch_limit), "deg"),
        ("roll", np.degrees(roll), 0.0, "deg"),
        ("forward speed", steps[:, 0] * sine + steps[:, 2] * cosine, limits.forward, "m/frame"),
        ("sideways speed", steps[:, 0] * cosine - steps[:, 2] * sine, limits.right, "m/frame"),
        ("vertical speed", steps[:, 1], limits.down, "m/frame"),
        ("yaw speed", np.degrees(np.diff(yaw)), degrees(limits.yaw), "deg/frame"),
        ("pitch speed", np.degrees(np.diff(pitch)), degrees(limits.pitch), "deg/frame"),
    )
    flags = [
        Flag(what, float(np.abs(values).max(initial=0.0)), limit, unit)
        for what, values, limit, unit in measured
    ]
    # Poses come from sums and products: leave room for rounding.
    allowed = {flag.what: flag.limit * (1 + 1e-6) + 1e-6 for flag in flags} | {"roll": _LEVEL_DEG}
    return tuple(flag for flag in flags if flag.value > allowed[flag.what])
