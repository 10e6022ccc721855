"""How far two cameras are apart: metres, radians, and one number made of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.checks import require_number

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
