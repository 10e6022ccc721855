"""A perfect world, a blind estimator, and a progress callback that does nothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

PERFECT = ProceduralWorld(size=(32, 32), scenes=(5,))


@dataclass(frozen=True)
class Blind:
    """An estimator that places nothing but frame 0."""

    def estimate(self, frames, intrinsics, fps):
        info = EstimatorInfo("blind", "1", "estimated", "static", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        return PoseEstimate(poses, np.arange(len(frames)) < 1, info)


def silent(done: int) -> None:
    pass
