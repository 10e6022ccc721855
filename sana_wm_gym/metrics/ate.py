"""Absolute trajectory error and frame-to-frame error, as SLAM tools print them.

These read a path against the truth after one similarity fitted to the centres (`paper_sim3`). They
are for comparison with numbers from other tools; the benchmark's headline is `release`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation, geodesic_angle, invert
from sana_wm_gym.metrics.conventions import PAPER_SIM3
from sana_wm_gym.metrics.pose_checks import DegenerateTrajectoryError, PathPair, checked_paths


@dataclass(frozen=True)
class TrajectoryError:
    """Root mean squares after similarity alignment.

    Attributes:
        ate_rmse: Distance between centres, metres of the reference.
        rpe_trans_rmse: Length of the difference between frame-to-frame motions, metres.
        rpe_rot_deg_rmse: Angle of that difference, degrees.
        scale: Fitted factor on the estimate.
    """

    ate_rmse: float
    rpe_trans_rmse: float
    rpe_rot_deg_rmse: float
    scale: float


def trajectory_error(estimate: npt.ArrayLike, reference: npt.ArrayLike) -> TrajectoryError:
    """Compare a path with the truth the way ATE and RPE tools do.

    Args:
        estimate: Camera-to-world poses [n, 4, 4], n >= 2.
        reference: The true poses at the same instants.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        DegenerateTrajectoryError: Fewer than 2 frames, or either path does not move, so that no
            scale can be fitted. A straight path is fine: neither number depends on the roll about
            it that centres leave open.

    Source: Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012.
    """
    est, ref, _ = checked_paths(estimate, reference)
    if len(ref) < 2:
        raise DegenerateTrajectoryError("too_few_frames", PAPER_SIM3.name, len(ref))
    pair = PathPair.of(ref, est)
    aligned = PAPER_SIM3.align(pair)
    if aligned.scale is None:
        code = aligned.undefined["trans_err"]
        raise DegenerateTrajectoryError(code, PAPER_SIM3.name, len(ref), pair)
    moved = from_rotation_translation(aligned.rotations, aligned.centres)
    true_steps, steps = (invert(poses[:-1]) @ poses[1:] for poses in (pair.reference, moved))
    difference = invert(true_steps) @ steps
    return TrajectoryError(
        ate_rmse=_rms(np.linalg.norm(aligned.centres - pair.reference[:, :3, 3], axis=1)),
        rpe_trans_rmse=_rms(np.linalg.norm(difference[:, :3, 3], axis=1)),
        rpe_rot_deg_rmse=_rms(np.rad2deg(geodesic_angle(np.eye(3), difference[:, :3, :3]))),
        scale=aligned.scale,
    )


def _rms(values: npt.NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))
