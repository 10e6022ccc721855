"""Actions of every kind become `Controls`: how far the camera moves and turns in each frame.

One canonical type stands between all kinds of action and the one pose integrator:

    action string ─┐
    discrete index ┼─> held controls, frame by frame ─> keys_to_controls ─┐
    pressed vector ┘        (keys.py: smoothing state in, state out)      ├─> Controls
    continuous twist ──────────────────────────────> twist_to_controls ───┘
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_integer, require_number

Array = npt.NDArray[np.float64]

TWIST_NAMES = ("yaw", "pitch", "right", "down", "forward")
"""Order of a continuous action."""


@dataclass(frozen=True)
class MotionLimits:
    """Fastest motion a world is made for; a normalised action of +-1 maps to these.

    Attributes:
        forward: Metres per frame along the heading, >= 0.
        right: Metres per frame sideways, >= 0.
        down: Metres per frame along the world vertical, >= 0.
        yaw: Radians per frame about the world vertical, >= 0.
        pitch: Radians per frame about the camera's x axis, >= 0.
        pitch_limit: Largest accumulated pitch, radians in [0, pi/2).

    Raises:
        ValueError: A value is not finite or out of its range.
    """

    forward: float = 0.025
    right: float = 0.025
    down: float = 0.025
    yaw: float = math.radians(0.6)
    pitch: float = math.radians(0.6)
    pitch_limit: float = math.radians(60.0)

    def __post_init__(self) -> None:
        for name in ("forward", "right", "down", "yaw", "pitch"):
            require_number(f"MotionLimits.{name}", getattr(self, name), 0.0)
        require_number("MotionLimits.pitch_limit", self.pitch_limit, 0, math.pi / 2, ends="[)")


@dataclass(frozen=True, eq=False)
class Controls:
    """Camera motion per frame in the heading frame: the camera frame with its pitch undone.

    All arrays are float64 [n], one entry per video frame; they are stored as read-only copies.

    Attributes:
        forward: Metres along the heading, horizontal whatever the pitch.
        right: Metres sideways, horizontal.
        down: Metres along the world's +y, downwards.
        yaw: Radians about the world vertical, positive to the right.
        pitch: Radians about the camera's x axis, positive upwards.
        roll: Radians about the camera's z axis, positive clockwise.

    Raises:
        ValueError: An array is not one-dimensional, not finite, or differs in length.
    """

    forward: Array
    right: Array
    down: Array
    yaw: Array
    pitch: Array
    roll: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            values = np.array(getattr(self, field.name), dtype=np.float64)
            if values.ndim != 1:
                raise ValueError(f"Controls.{field.name} has shape {values.shape}, expected [n]")
            if not np.isfinite(values).all():
                frame = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(
                    f"Controls.{field.name} is {values[frame]} at frame {frame}, expected finite"
                )
            values.setflags(write=False)
            object.__setattr__(self, field.name, values)
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Controls arrays differ in length: {lengths}, expected equal")

    def __len__(self) -> int:
        return len(self.forward)

    @staticmethod
    def still(frames: int) -> Controls:
        """No motion for `frames` frames."""
        return Controls(*(np.zeros(frames) for _ in fields(Controls)))

    @staticmethod
    def concatenate(parts: Sequence[Controls]) -> Controls:
        """Play `parts` one after the other."""
        return Controls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Controls))
        )


def twist_to_controls(action: npt.ArrayLike, limits: MotionLimits, frames: int) -> Controls:
    """Constant motion over `frames` frames from a normalised twist.

    Args:
        action: [5] in [-1, 1], order (yaw, pitch, right, down, forward); +-1 is `limits`.
        limits: Motion per frame at full deflection.
        frames: Frames the action is held for, >= 1.

    Raises:
        ValueError: `action` has another shape, is not finite or leaves [-1, 1].
    """
    twist = np.asarray(action, dtype=np.float64)
    if twist.shape != (len(TWIST_NAMES),):
        raise ValueError(
            f"action has shape {twist.shape}, expected {(len(TWIST_NAMES),)} "
            f"for ({', '.join(TWIST_NAMES)})"
        )
    for name, value in zip(TWIST_NAMES, twist.tolist(), strict=True):
        require_number(f"action {name}", value, -1.0, 1.0)
    require_integer("frames", frames, 1)
    motion = {
        name: np.full(frames, value * getattr(limits, name))
        for name, value in zip(TWIST_NAMES, twist, strict=True)
    }
    return Controls(**motion, roll=np.zeros(frames))
