"""Where the pictures of a walk's last chunks were taken from, as far as they show it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.envs.simulation import Frames
from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.play.session import Session
from sana_wm_gym.poses import LKBundleAdjustment

CHUNKS = 4
"""The last ones that are looked at."""
_STRIDE = 2  # every second frame is plenty and takes half the time


@dataclass(frozen=True, eq=False)
class Seen:
    """What poses are estimated from.

    Attributes:
        frames: uint8 [n, H, W, 3].
        commanded: Their poses relative to the walk's first frame, [n, 4, 4].
        intrinsics: (fx, fy, cx, cy) in pixels.
        fps: Frames per second.
    """

    frames: Frames
    commanded: npt.NDArray[np.float64]
    intrinsics: tuple[float, float, float, float]
    fps: float

    @staticmethod
    def of(session: Session) -> Seen:
        """Of a walk's last chunks.

        Raises:
            ValueError: The world has no camera, or no chunk was shown whole.
        """
        session.spec.require_camera("an estimated path")
        ends = session.ends(CHUNKS)
        if not ends:
            raise ValueError("no chunk was shown whole yet, expected at least one")
        frames = np.concatenate(session.simulation.frames(ends))
        commanded = np.concatenate([end.c2w for end in ends])
        rate = session.spec.fps / _STRIDE
        return Seen(frames[::_STRIDE], commanded[::_STRIDE], ends[-1].intrinsics, rate)

    def estimate(self) -> tuple[RolloutScore, npt.NDArray[np.float64] | None]:
        """Score against the command, and camera centres [m, 3] in metres, in the walk's frame; None
        where they are undefined, as of a camera that does not move."""
        score = score_rollout(
            self.frames,
            relative_to_first(self.commanded),
            self.intrinsics,
            self.fps,
            LKBundleAdjustment(),
        )
        return score, score.centres(self.commanded)
