"""What a pose array must be, and what shape its path has, before anything is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.camera.trajectory import check_rigid

Poses = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float64]

STATIC_RMS = 1e-6  # reference units; a path whose centres spread less does not move
COLLINEAR_RATIO = 1e-3  # second over first singular value of the centred centres


class InvalidPosesError(ValueError):
    """A pose array that cannot be scored under any convention; names the first bad frame."""


class DegenerateTrajectoryError(ValueError):
    """A path on which a convention leaves the asked-for number undefined.

    Attributes:
        code: Why: `reference_static`, `estimate_static`, `collinear`, `too_few_frames`,
            `too_few_valid` or `low_coverage`.
        convention: Name of the convention.
        n: Frames that were scored.
        reference_spread: RMS distance of the reference centres from their mean, metres.
        estimate_spread: The same for the estimate, in its own unit.
    """

    def __init__(
        self, code: str, convention: str, n: int, reference_spread: float, estimate_spread: float
    ) -> None:
        self.code = code
        self.convention = convention
        self.n = n
        self.reference_spread = reference_spread
        self.estimate_spread = estimate_spread
        super().__init__(
            f"{code}: undefined under convention '{convention}' for {n} frames "
            f"(rms spread: reference {reference_spread:.3g}, estimate {estimate_spread:.3g})"
        )


@dataclass(frozen=True)
class Spread:
    """Shape of a path's centres: `rms` about the mean, and whether it is a point or a line."""

    rms: float
    static: bool
    collinear: bool

    @staticmethod
    def of(centres: Vectors) -> Spread:
        """Classify centres [n, 3]."""
        centred = centres - centres.mean(axis=0)
        rms = float(np.sqrt(np.mean(np.sum(centred**2, axis=1))))
        singular = np.linalg.svd(centred, compute_uv=False)
        second = singular[1] if len(singular) > 1 else 0.0
        static = rms < STATIC_RMS
        return Spread(rms, static, not static and bool(second < COLLINEAR_RATIO * singular[0]))


@dataclass(frozen=True)
class PathPair:
    """Two paths over the same instants, each relative to its own first frame."""

    reference: Poses
    estimate: Poses
    reference_spread: Spread
    estimate_spread: Spread

    @staticmethod
    def of(reference: Poses, estimate: Poses) -> PathPair:
        """Relativise both [n, 4, 4] and classify them."""
        reference, estimate = relative_to_first(reference), relative_to_first(estimate)
        return PathPair(
            reference,
            estimate,
            Spread.of(reference[:, :3, 3]),
            Spread.of(estimate[:, :3, 3]),
        )


def check_poses(
    poses: npt.NDArray[np.float64], name: str, valid: npt.NDArray[np.bool_] | None = None
) -> None:
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
