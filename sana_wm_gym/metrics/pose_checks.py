"""What pose arrays must be, and what shape their paths have, before anything is fitted to them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.camera.trajectory import check_rigid

Poses = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STATIC_RMS = 1e-6  # reference units; a path whose centres spread less does not move
COLLINEAR_RATIO = 1e-3  # second over first singular value of the centred centres


class InvalidPosesError(ValueError):
    """A pose array that cannot be scored under any convention; names the first bad frame."""


class DegenerateTrajectoryError(ValueError):
    """A path on which a convention leaves the requested number undefined.

    Attributes:
        code: Why: `reference_static`, `estimate_static`, `collinear`, `too_few_frames`,
            `too_few_valid` or `low_coverage`.
        convention: Name of the convention.
        n: Frames that were scored.
    """

    def __init__(self, code: str, convention: str, n: int, pair: PathPair | None = None) -> None:
        self.code, self.convention, self.n = code, convention, n
        message = f"{code}: undefined under convention '{convention}' for {n} frames"
        if pair is not None:
            reference, estimate = pair.reference_spread.rms, pair.estimate_spread.rms
            message += f" (rms spread: reference {reference:.3g}, estimate {estimate:.3g})"
        super().__init__(message)


@dataclass(frozen=True)
class PathSpread:
    """Shape of a path's centres: `rms` about the mean, and whether it is a point or a line."""

    rms: float
    static: bool
    collinear: bool

    @staticmethod
    def of(centres: Vectors) -> PathSpread:
        """Classify centres [n, 3]."""
        centred = centres - centres.mean(axis=0)
        rms = float(np.sqrt(np.mean(np.sum(centred**2, axis=1))))
        singular = np.linalg.svd(centred, compute_uv=False)
        second = singular[1] if len(singular) > 1 else 0.0
        static = rms < STATIC_RMS
        return PathSpread(rms, static, not static and bool(second < COLLINEAR_RATIO * singular[0]))


@dataclass(frozen=True)
class PathPair:
    """Two paths [n, 4, 4] over the same instants, each relative to its own first frame."""

    reference: Poses
    estimate: Poses
    reference_spread: PathSpread
    estimate_spread: PathSpread

    @staticmethod
    def of(reference: Poses, estimate: Poses) -> PathPair:
        """Relativise both and classify them."""
        ref, est = relative_to_first(reference), relative_to_first(estimate)
        return PathPair(ref, est, PathSpread.of(ref[:, :3, 3]), PathSpread.of(est[:, :3, 3]))


def check_poses(poses: npt.NDArray[np.float64], name: str, valid: Mask | None = None) -> None:
    """Raise unless poses are finite rigid transforms [n, 4, 4].

    Args:
        poses: [n, 4, 4].
        name: What to call the array in the message.
        valid: bool [n]; frames where it is False are not read.

    Raises:
        InvalidPosesError: Names the first offending frame and what is wrong with it.
    """
    if valid is not None:
        poses = np.where(valid[:, None, None], poses, np.eye(4))
    try:
        check_rigid(poses, name)
    except ValueError as error:
        raise InvalidPosesError(str(error)) from error


def checked_paths(
    estimate: npt.ArrayLike, reference: npt.ArrayLike, valid: npt.ArrayLike | None = None
) -> tuple[Poses, Poses, Mask]:
    """An estimated path, its reference and a mask of frames to read, all by default, as arrays.

    Frames that are masked are not read on either side.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
    """
    est, ref = (np.asarray(path, dtype=np.float64) for path in (estimate, reference))
    if est.shape != ref.shape:
        raise InvalidPosesError(
            f"expected two pose arrays of one shape, given {est.shape} and {ref.shape}"
        )
    if ref.ndim != 3:
        check_poses(ref, "reference")
    keep = np.ones(len(ref), dtype=bool) if valid is None else np.asarray(valid)
    if keep.shape != (len(ref),) or keep.dtype != np.bool_:
        raise InvalidPosesError(
            f"expected valid to be bool [{len(ref)}], given {keep.dtype} {list(keep.shape)}"
        )
    check_poses(ref, "reference", keep)
    check_poses(est, "estimate", keep)
    return est, ref, keep
