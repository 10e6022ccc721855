"""Errors of relative poses: between all pairs of frames, and over fixed spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, invert
from sana_wm_gym.checks import require_integer
from sana_wm_gym.metrics.conventions import PAPER_SE3, PAPER_SIM3
from sana_wm_gym.metrics.pose_checks import DegenerateTrajectoryError, PathPair, checked_paths

AUC_DEG = (5, 15, 30)
"""Thresholds that AUC is usually given at, degrees."""
_NO_BASELINE_M = 1e-6  # centres nearer than this have no direction between them

Array = npt.NDArray[np.float64]


def pose_auc(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    thresholds_deg: Sequence[int] = AUC_DEG,
    valid: npt.ArrayLike | None = None,
) -> dict[int, float]:
    """Area under the curve of relative-pose accuracy, by threshold.

    The error of a pair of frames is the larger of its rotation error and the angle between its
    translation directions; the accuracy at k degrees is the fraction of all pairs with an error
    under k, and AUC@T is its mean over k = 1, ..., T. Free of scale and of any alignment. Pairs
    whose reference centres coincide count by their rotation alone.

    Args:
        estimate: Camera-to-world poses [n, 4, 4], n >= 2.
        reference: Commanded or true poses at the same instants.
        thresholds_deg: Whole degrees.
        valid: bool [n], frames to read, on both sides; all by default.

    Returns:
        AUC in [0, 1] by threshold.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        DegenerateTrajectoryError: Fewer than 2 frames are valid.
        ValueError: A threshold is not a whole number of at least 1.

    Source: relative-pose AUC as reported for VGGT (arXiv 2503.11651) and its predecessors.
    """
    for threshold in thresholds_deg:
        require_integer("thresholds_deg", threshold, 1)
    est, ref = _valid_paths(estimate, reference, valid, 2, "auc")
    first, second = np.triu_indices(len(ref), 1)
    true, seen = (invert(path[first]) @ path[second] for path in (ref, est))
    rotation = np.degrees(geodesic_angle(true[:, :3, :3], seen[:, :3, :3]))
    error = np.maximum(rotation, _direction_error_deg(true[:, :3, 3], seen[:, :3, 3]))
    return {
        t: float(np.mean([np.mean(error < k) for k in range(1, t + 1)])) for t in thresholds_deg
    }


@dataclass(frozen=True)
class TrajectoryError:
    """Root mean squares after alignment of the centres.

    Attributes:
        ate_rmse: Distance between centres, metres of the reference.
        rpe_trans_rmse: Length of the difference between motions over `span` frames, metres.
        rpe_rot_deg_rmse: Angle of that difference, degrees.
        scale: Fitted factor on the estimate; 1.0 without one.
        span: Frames over which motions are compared.
    """

    ate_rmse: float
    rpe_trans_rmse: float
    rpe_rot_deg_rmse: float
    scale: float
    span: int = 1


def trajectory_error(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    valid: npt.ArrayLike | None = None,
    *,
    span: int = 1,
    with_scale: bool = True,
) -> TrajectoryError:
    """Compare a path with the truth the way ATE and RPE tools do.

    Args:
        estimate: Camera-to-world poses [n, 4, 4], n > span.
        reference: The true poses at the same instants.
        valid: bool [n], frames to read, on both sides; all by default. Motions are compared over
            `span` of the frames that are left.
        span: Frames over which relative motions are compared.
        with_scale: Fit a similarity; False fits a rigid motion, for estimates in metres.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        DegenerateTrajectoryError: Too few frames, or either path does not move, so that nothing
            can be fitted. A straight path is fine: neither number depends on the roll about it
            that centres leave open.
        ValueError: `span` is not a whole number of at least 1.

    Source: Sturm et al., A benchmark for the evaluation of RGB-D SLAM systems, IROS 2012.
    """
    require_integer("span", span, 1)
    convention = PAPER_SIM3 if with_scale else PAPER_SE3
    est, ref = _valid_paths(estimate, reference, valid, span + 1, convention.name)
    pair = PathPair.of(ref, est)
    aligned = convention.align(pair)
    if "trans_err" in aligned.undefined:
        code = aligned.undefined["trans_err"]
        raise DegenerateTrajectoryError(code, convention.name, len(ref), pair)
    scale = 1.0 if aligned.scale is None else aligned.scale
    moved = pair.estimate.copy()
    moved[:, :3, 3] *= scale  # the rest of the alignment cancels in relative motions
    true, seen = (invert(path[:-span]) @ path[span:] for path in (pair.reference, moved))
    difference = invert(true) @ seen
    return TrajectoryError(
        ate_rmse=_rms(np.linalg.norm(aligned.centres - pair.reference[:, :3, 3], axis=1)),
        rpe_trans_rmse=_rms(np.linalg.norm(difference[:, :3, 3], axis=1)),
        rpe_rot_deg_rmse=_rms(np.rad2deg(geodesic_angle(np.eye(3), difference[:, :3, :3]))),
        scale=scale,
        span=span,
    )


def _valid_paths(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    valid: npt.ArrayLike | None,
    least: int,
    name: str,
) -> tuple[Array, Array]:
    est, ref, keep = checked_paths(estimate, reference, valid)
    if keep.sum() < least:
        raise DegenerateTrajectoryError("too_few_frames", name, int(keep.sum()))
    return est[keep], ref[keep]


def _direction_error_deg(true: Array, seen: Array) -> Array:
    """Angle between vectors [n, 3]; 0 without a true direction, 180 without a seen one alone."""
    lengths = np.linalg.norm(true, axis=1), np.linalg.norm(seen, axis=1)
    sine = np.linalg.norm(np.cross(true, seen), axis=1)
    angle = np.degrees(np.arctan2(sine, np.sum(true * seen, axis=1)))
    angle = np.where(lengths[1] < _NO_BASELINE_M, 180.0, angle)
    return np.where(lengths[0] < _NO_BASELINE_M, 0.0, angle)


def _rms(values: Array) -> float:
    return float(np.sqrt(np.mean(values**2)))
