"""How smoothly a camera path moves: speed, turn rate and jerk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Smoothness:
    """Largest and mean of what finite differences between frames give.

    Attributes:
        max_speed: Metres per second.
        mean_speed: Metres per second.
        max_turn: Degrees per second.
        mean_turn: Degrees per second.
        max_jerk: Metres per second cubed, from third differences of the centres.
        mean_jerk: Metres per second cubed.
    """

    max_speed: float
    mean_speed: float
    max_turn: float
    mean_turn: float
    max_jerk: float
    mean_jerk: float


def smoothness(c2w: Array, fps: float) -> Smoothness:
    """Statistics of a path [n, 4, 4] of n >= 2 poses at `fps`; jerk is 0 below four poses.

    Raises:
        ValueError: Another shape, or fewer than two poses.
    """
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or len(c2w) < 2:
        raise ValueError(f"c2w has shape {c2w.shape}, expected (n, 4, 4) with n >= 2")
    centres, rotations = c2w[:, :3, 3], Rotation.from_matrix(c2w[:, :3, :3])
    speed = np.linalg.norm(np.diff(centres, axis=0), axis=1) * fps
    turn = np.rad2deg((rotations[:-1].inv() * rotations[1:]).magnitude()) * fps
    jerk = np.linalg.norm(np.diff(centres, n=3, axis=0), axis=1) * fps**3
    jerk = jerk if len(jerk) else np.zeros(1)
    return Smoothness(*(float(f(v)) for v in (speed, turn, jerk) for f in (np.max, np.mean)))
