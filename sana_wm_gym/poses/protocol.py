"""What a pose estimator takes and gives, so that any of them can score a rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.checks import require_number

Frames = npt.NDArray[np.uint8]
Intrinsics = tuple[float, float, float, float]
Mode = Literal["full", "rotation_only", "static", "lost"]
Flag = Literal["unexplained", "reversal", "focal_length"]

_NOMINAL_FOCAL = 0.8  # focal length over width for 64 degrees across


@dataclass(frozen=True)
class EstimatorInfo:
    """Who estimated, and how well the estimate explains the pixels.

    Attributes:
        name: Estimator.
        version: Its version; results of different versions are not comparable.
        source: `estimated` from pixels, or `oracle` where the poses were known.
        mode: `full`; `rotation_only` where the frames show no parallax, so centres are unknown
            and returned as zero; `static` where nothing moves; `lost` where under half of the
            frames could be placed.
        reprojection_error_px: Root mean square over tracked points, pixels; None if unknown.
        intrinsics: (fx, fy, cx, cy) in pixels that were used, or None if none were needed.
        intrinsics_assumed: True if the caller gave none and 64 degrees across was assumed.
        look: How soft frames were taken to be, where the estimator adapts to that; else empty.
    """

    name: str
    version: str
    source: Literal["estimated", "oracle"]
    mode: Mode
    reprojection_error_px: float | None
    intrinsics: Intrinsics | None
    intrinsics_assumed: bool
    look: str = ""


@dataclass(frozen=True)
class PoseEstimate:
    """Estimated camera path.

    Attributes:
        poses: Camera-to-world, float64 [n, 4, 4], relative to the first valid frame; translation
            in the estimator's own unit. NaN where `valid` is False.
        valid: bool [n], frames that could be placed.
        info: How it was made.
        explained: Fraction of all tracks that lie within 2 pixels of the reconstruction; None where
            the estimator does not measure it, as the next two.
        reversed_deg: RotErr under `release` against the estimate from the frames in reverse order,
            degrees.
        focal_ratio: Focal length that explains the tracks best over the one given.
        flags: What speaks against the estimate: `unexplained` (too many tracks fit no rigid
            scene: something moves, or the reconstruction is wrong), `reversal` (the reversed
            frames give another path), `focal_length` (another one explains the tracks better).
    """

    poses: npt.NDArray[np.float64]
    valid: npt.NDArray[np.bool_]
    info: EstimatorInfo
    explained: float | None = None
    reversed_deg: float | None = None
    focal_ratio: float | None = None
    flags: tuple[Flag, ...] = ()

    @staticmethod
    def of(
        c2w: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], info: EstimatorInfo
    ) -> PoseEstimate:
        """From poses [n, 4, 4] in any frame; those where `valid` is False are not read."""
        poses = np.full(c2w.shape, np.nan)
        if valid.any():
            poses[valid] = relative_to_first(c2w[valid])
        return PoseEstimate(poses, valid, info)


class PoseEstimator(Protocol):
    """Frames in, camera path out."""

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame.

        Args:
            frames: uint8 [n, height, width, 3] RGB.
            intrinsics: (fx, fy, cx, cy) in pixels, pixel centres at half-integers, or None.
            fps: Frames per second.

        Raises:
            ValueError: Input of another shape or type.
        """
        ...


@dataclass(frozen=True)
class OracleEstimator:
    """Returns known poses: the error-free estimator of a world whose camera is known.

    Attributes:
        c2w: Camera-to-world poses [n, 4, 4], one per frame.
    """

    c2w: npt.NDArray[np.float64]

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """The known poses; see `PoseEstimator.estimate`."""
        frames, used, _ = check_input(frames, intrinsics, fps)
        check_rigid(self.c2w, "oracle")
        if len(self.c2w) != len(frames):
            raise ValueError(f"oracle has {len(self.c2w)} poses, given {len(frames)} frames")
        info = EstimatorInfo("oracle", "1", "oracle", "full", None, used, False)
        return PoseEstimate(self.c2w.copy(), np.ones(len(frames), dtype=bool), info)


def check_input(
    frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
) -> tuple[Frames, Intrinsics, bool]:
    """Validate an estimator's arguments.

    Returns:
        Frames, the intrinsics to use, and whether those were assumed.

    Raises:
        ValueError: States what was given and expected.
    """
    frames = np.asarray(frames)
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or frames.size == 0:
        raise ValueError(
            f"expected frames uint8 [n, height, width, 3], given {frames.dtype} {frames.shape}"
        )
    require_number("fps", fps, 0, ends="()")
    height, width = frames.shape[1:3]
    if intrinsics is None:
        focal = _NOMINAL_FOCAL * width
        return frames, (focal, focal, width / 2, height / 2), True
    values = np.asarray(intrinsics, dtype=np.float64)
    if values.shape != (4,) or not np.isfinite(values).all() or (values[:2] <= 0).any():
        raise ValueError(
            f"expected finite intrinsics (fx, fy, cx, cy) with fx, fy > 0, given {intrinsics}"
        )
    fx, fy, cx, cy = (float(v) for v in values)
    return frames, (fx, fy, cx, cy), False
