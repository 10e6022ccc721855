"""Scenes that tests render."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import rotation_x, rotation_y, rotation_z

Array = npt.NDArray[np.float64]


def pose(x: float, y: float, z: float, yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    c2w = np.eye(4)
    c2w[:3, :3] = rotation_y(yaw) @ rotation_x(pitch) @ rotation_z(roll)
    c2w[:3, 3] = x, y, z
    return c2w
