"""How far an estimated camera path is from the commanded one, under every named convention.

The names RotErr, TransErr and CamMC mean different numbers in different papers: paths are aligned
differently, summed or averaged, in radians or degrees. Here a convention is a value, and every
score carries the one it was made with::

    score = score_poses(estimate, reference, CONVENTIONS["release"])
    score.rot_err, score.trans_err, score.cam_mc

Poses are camera-to-world matrices, float64, x right, y down, z forward. Both paths are taken
relative to their own first frame before anything else. Per frame, after alignment::

    rot   = angle between the orientations
    trans = distance between the centres
    cammc = Frobenius norm of the difference of the 3x4 matrices, so
            cammc^2 = trans^2 + 8 sin^2(rot / 2): metres mixed with a unitless rotation term
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, invert, relative_to_first
from sana_wm_gym.metrics.conventions import ERRORS, Alignment, Convention
from sana_wm_gym.metrics.pose_checks import (
    DegenerateTrajectoryError,
    PathPair,
    check_poses,
    checked_paths,
)

_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""OpenGL camera axes (x right, y up, z back) to OpenCV's."""
_FORWARD_LEFT_UP = np.array(
    [[0.0, -1.0, 0.0, 0.0], [0.0, 0.0, -1.0, 0.0], [1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)
"""Axes of robots and cars (x forward, y left, z up) to OpenCV's."""
_FAR_BETTER = 0.2  # of the error as given
_WORTH_A_HINT = 0.2  # radians of rotation plus one minus the cosine between paths


@dataclass(frozen=True)
class PoseScore:
    """RotErr, TransErr and CamMC of one clip, with everything needed to read them.

    Attributes:
        convention: Name of the convention.
        rot_err: In `rotation_unit`; None where undefined.
        trans_err: In `translation_unit`; None where undefined.
        cam_mc: Metres mixed with a rotation term that saturates at 2.83; None where undefined.
        scale: Fitted factor on the estimate, None where none is fitted or it is undefined.
        undefined: Reason code of every None among the three errors.
        flags: Facts to read next to the numbers: `reference_static`, `estimate_static`,
            `reference_collinear`, `estimate_collinear`, `negative_scale`, `partial`;
            `axes_opengl`, `axes_forward_left_up` or `axes_world_to_camera` where the estimate fits
            far better if its poses are read so; and those of the estimate, see `PoseEstimate`.
        reduction: `mean` or `sum` over frames.
        rotation_unit: `deg` or `rad`.
        translation_unit: `m` or `extent`.
        n: Frames scored.
        n_asked: Commanded frames, before the mask.
        skip_first_frame: Whether sample 0 was dropped on both sides.
    """

    convention: str
    rot_err: float | None
    trans_err: float | None
    cam_mc: float | None
    scale: float | None
    undefined: Mapping[str, str]
    flags: tuple[str, ...]
    reduction: Literal["mean", "sum"]
    rotation_unit: Literal["deg", "rad"]
    translation_unit: Literal["m", "extent"]
    n: int
    n_asked: int
    skip_first_frame: bool

    @property
    def coverage(self) -> float:
        """Frames scored over frames commanded, 0 to 1."""
        return self.n / self.n_asked

    def to_dict(self) -> dict[str, object]:
        """Plain values for json; None stays null."""
        return {
            "convention": self.convention,
            "RotErr": self.rot_err,
            "RotErr_unit": self.rotation_unit,
            "TransErr": self.trans_err,
            "TransErr_unit": self.translation_unit,
            "CamMC": self.cam_mc,
            "scale": self.scale,
            "reduction": self.reduction,
            "undefined": dict(self.undefined),
            "flags": list(self.flags),
            "n": self.n,
            "n_asked": self.n_asked,
            "coverage": self.coverage,
            "skip_first_frame": self.skip_first_frame,
        }


def score_poses(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    convention: Convention,
    valid: npt.ArrayLike | None = None,
    *,
    min_coverage: float = 0.5,
    skip_first_frame: bool = False,
) -> PoseScore:
    """Score an estimated path against the commanded one.

    Args:
        estimate: Camera-to-world poses [n, 4, 4]; entries where `valid` is False are not read.
        reference: Commanded poses [n, 4, 4] at the same instants.
        convention: One of `CONVENTIONS`.
        valid: bool [n], frames that have an estimate; all by default. Both paths are taken
            relative to the first valid frame; nothing is interpolated.
        min_coverage: Smallest accepted fraction of valid frames.
        skip_first_frame: Drop sample 0 on both sides, for videos whose first frame is a copy of
            the input image.

    Returns:
        The score; errors that the convention leaves undefined on this path are None, with the
        reason in `undefined`.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        DegenerateTrajectoryError: All three numbers are undefined, or too few frames are valid.

    Source: SANA-WM (arXiv 2605.15178), App. D.3, and the evaluator released with it.
    """
    first = int(skip_first_frame)
    est, ref, keep = checked_paths(estimate, reference, valid)
    est, ref, keep = est[first:], ref[first:], keep[first:]
    n_asked, n = len(keep), int(keep.sum())
    if n < n_asked and (n < 3 or n / n_asked < min_coverage):
        code = "too_few_valid" if n < 3 else "low_coverage"
        raise DegenerateTrajectoryError(code, convention.name, n)
    if n < 2:
        raise DegenerateTrajectoryError("too_few_frames", convention.name, n)

    pair = PathPair.of(ref[keep], est[keep])
    aligned = convention.align(pair)
    if all(name in aligned.undefined for name in ERRORS):
        raise DegenerateTrajectoryError(aligned.undefined["rot_err"], convention.name, n, pair)
    errors = _reduced_errors(pair, aligned, convention)
    return PoseScore(
        convention=convention.name,
        **{name: None if name in aligned.undefined else errors[name] for name in ERRORS},
        scale=aligned.scale,
        undefined=MappingProxyType(dict(aligned.undefined)),
        flags=(*_flags(pair, aligned.scale, n < n_asked), *_other_axes(pair, est[keep])),
        reduction=convention.reduction,
        rotation_unit=convention.rotation_unit,
        translation_unit=convention.translation_unit,
        n=n,
        n_asked=n_asked,
        skip_first_frame=skip_first_frame,
    )


def null_scores(reference: npt.ArrayLike, convention: Convention) -> dict[str, PoseScore | str]:
    """What two videos that ignore the command would score on it.

    Args:
        reference: Commanded poses [n, 4, 4].
        convention: One of `CONVENTIONS`.

    Returns:
        `motionless`: the camera never moves; `no_rotation`: the right centres, never turning.
        The reason code, a string, where the convention is undefined for that video.

    Raises:
        InvalidPosesError: As `score_poses`.
    """
    ref = np.asarray(reference, dtype=np.float64)
    check_poses(ref, "reference")
    motionless = np.tile(np.eye(4), (len(ref), 1, 1))
    no_rotation = motionless.copy()
    no_rotation[:, :3, 3] = relative_to_first(ref)[:, :3, 3]
    return {
        "motionless": score_or_code(motionless, ref, convention),
        "no_rotation": score_or_code(no_rotation, ref, convention),
    }


def score_or_code(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    convention: Convention,
    valid: npt.ArrayLike | None = None,
    min_coverage: float = 0.5,
) -> PoseScore | str:
    """As `score_poses`; the reason code where the convention is undefined on this path."""
    try:
        return score_poses(estimate, reference, convention, valid, min_coverage=min_coverage)
    except DegenerateTrajectoryError as error:
        return error.code


def _reduced_errors(pair: PathPair, aligned: Alignment, convention: Convention) -> dict[str, float]:
    reference_rotations = pair.reference[:, :3, :3]
    rot = geodesic_angle(reference_rotations, aligned.rotations)
    trans = np.linalg.norm(aligned.reference_centres - aligned.centres, axis=1)
    rotation_gap = np.sum((reference_rotations - aligned.rotations) ** 2, axis=(1, 2))
    cammc = np.sqrt(trans**2 + rotation_gap)
    weight = 1 / len(rot) if convention.reduction == "mean" else 1.0
    angle = np.rad2deg(rot) if convention.rotation_unit == "deg" else rot
    return {
        name: weight * float(np.sum(v))
        for name, v in zip(ERRORS, (angle, trans, cammc), strict=True)
    }


def _flags(pair: PathPair, scale: float | None, partial: bool) -> tuple[str, ...]:
    facts = {
        "reference_static": pair.reference_spread.static,
        "reference_collinear": pair.reference_spread.collinear,
        "estimate_static": pair.estimate_spread.static,
        "estimate_collinear": pair.estimate_spread.collinear,
        "negative_scale": scale is not None and scale < 0,
        "partial": partial,
    }
    return tuple(name for name, holds in facts.items() if holds)


def _other_axes(pair: PathPair, given: npt.NDArray[np.float64]) -> tuple[str, ...]:
    """The reading of the estimate, poses as given, under which it fits far better, if any."""
    if pair.reference_spread.static or pair.estimate_spread.static:
        return ()
    readings = {
        "": pair.estimate,
        "axes_opengl": relative_to_first(given @ _OPENGL),
        "axes_forward_left_up": relative_to_first(given @ _FORWARD_LEFT_UP.T),
        "axes_world_to_camera": relative_to_first(invert(given)),
    }
    errors = {}
    for name, poses in readings.items():
        angle = geodesic_angle(pair.reference[:, :3, :3], poses[:, :3, :3]).mean()
        true, seen = pair.reference[:, :3, 3], poses[:, :3, 3]
        away = 1 - np.sum(true * seen) / np.sqrt(np.sum(true**2) * np.sum(seen**2))
        errors[name] = float(angle + away)
    best = min(errors, key=errors.__getitem__)
    far_better = errors[best] < _FAR_BETTER * errors[""] and errors[""] > _WORTH_A_HINT
    return (best,) if best and far_better else ()
