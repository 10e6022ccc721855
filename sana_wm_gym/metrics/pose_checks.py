"""What a pose array must be, and what shape its path has, before anything is fitted to it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first

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
    """Refuse anything but finite rigid transforms.

    Args:
        poses: [n, 4, 4].
        name: What to call the array in the message.
        valid: bool [n]; frames where it is False are not looked at.

    Raises:
        InvalidPosesError: Names the first offending frame and what is wrong with it.
    """
    if poses.ndim != 3 or poses.shape[1:] != (4, 4):
        raise InvalidPosesError(f"expected {name} of shape [n, 4, 4], given {poses.shape}")
    frames = np.arange(len(poses)) if valid is None else np.flatnonzero(valid)
    checked = poses[frames]
    rotation = checked[:, :3, :3]
    with np.errstate(invalid="ignore"):
        gram = np.einsum("nij,nkj->nik", rotation, rotation)
        faults = {
            "holds NaN or inf": ~np.isfinite(checked).all(axis=(1, 2)),
            "has a last row other than 0 0 0 1": (checked[:, 3] != np.eye(4)[3]).any(axis=1),
            "has a rotation that is not orthonormal to 1e-4": (
                ~(np.abs(gram - np.eye(3)) <= 1e-4).all(axis=(1, 2))
            ),
            "has a rotation with negative determinant": np.linalg.det(rotation) < 0,
        }
    for fault, where in faults.items():
        if where.any():
            raise InvalidPosesError(f"{name} frame {frames[np.argmax(where)]} {fault}")
