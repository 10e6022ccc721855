"""How far an estimated camera path is from the commanded one, under every named convention.

The names RotErr, TransErr and CamMC mean different numbers in different papers: paths are aligned
differently, summed or averaged, in radians or degrees. Here a convention is a value, and every
score carries the one it was made with:

    score = score_poses(estimate, reference, CONVENTIONS["release"])
    score.rot_err, score.trans_err, score.cam_mc

Poses are camera-to-world matrices, float64, x right, y down, z forward. Both paths are taken
relative to their own first frame before anything else. Per frame, after alignment:

    rot   = angle between the orientations
    trans = distance between the centres
    cammc = Frobenius norm of the difference of the 3x4 matrices, so
            cammc^2 = trans^2 + 8 sin^2(rot / 2): metres mixed with a unitless rotation term
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, relative_to_first

Poses = npt.NDArray[np.float64]
Vectors = npt.NDArray[np.float64]

STATIC_RMS = 1e-6  # reference units; a path whose centres spread less does not move
COLLINEAR_RATIO = 1e-3  # second over first singular value of the centred centres
_NORM_EPS = 1e-9  # the guard in CamI2V's division by path extent
_VALUES = ("rot_err", "trans_err", "cam_mc")


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


@dataclass(frozen=True)
class Alignment:
    """Both paths after a convention has moved them into one frame.

    Attributes:
        rotations: Of the estimate, [n, 3, 3].
        centres: Of the estimate, [n, 3].
        reference_centres: [n, 3]; they differ from the input only where a convention normalises.
        scale: Fitted factor on the estimate, None where none is fitted or it is undefined.
        undefined: Which of rot_err, trans_err, cam_mc mean nothing here, and the reason code.
    """

    rotations: Vectors
    centres: Vectors
    reference_centres: Vectors
    scale: float | None = None
    undefined: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Convention:
    """One published meaning of RotErr, TransErr and CamMC.

    Attributes:
        name: Key in `CONVENTIONS`.
        align: Brings the estimate to the reference.
        reduction: Over frames.
        rotation_unit: Of `rot_err`.
        translation_unit: Of `trans_err`: `m` where the reference is in metres, or `extent`, the
            largest distance from frame 0.
        matches: Where these numbers are printed.
    """

    name: str
    align: Callable[[PathPair], Alignment]
    reduction: Literal["mean", "sum"]
    rotation_unit: Literal["deg", "rad"]
    translation_unit: Literal["m", "extent"]
    matches: str


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
        flags: Facts worth reading beside the numbers: `reference_static`, `estimate_static`,
            `reference_collinear`, `estimate_collinear`, `negative_scale`, `partial`.
        reduction: `mean` or `sum` over frames.
        rotation_unit: `deg` or `rad`.
        translation_unit: `m` or `extent`.
        n: Frames scored.
        n_asked: Frames asked for, before the mask.
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
        """Frames scored over frames asked for, 0 to 1."""
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
        min_coverage: Smallest accepted share of valid frames, 0 to 1.
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
    ref = np.asarray(reference, dtype=np.float64)
    est = np.asarray(estimate, dtype=np.float64)
    if ref.ndim != 3 or ref.shape[1:] != (4, 4) or est.shape != ref.shape:
        raise InvalidPosesError(
            f"expected two pose arrays of the same shape [n, 4, 4], "
            f"given estimate {est.shape} and reference {ref.shape}"
        )
    keep = np.ones(len(ref), dtype=bool) if valid is None else np.asarray(valid)
    if keep.shape != (len(ref),) or keep.dtype != np.bool_:
        raise InvalidPosesError(
            f"expected valid to be bool [{len(ref)}], given {keep.dtype} {list(keep.shape)}"
        )
    first = int(skip_first_frame)
    check_poses(ref, "reference")
    check_poses(est, "estimate", keep)
    ref, est, keep = ref[first:], est[first:], keep[first:]

    n_asked, n = len(keep), int(keep.sum())
    if n < n_asked and (n < 3 or n / n_asked < min_coverage):
        code = "too_few_valid" if n < 3 else "low_coverage"
        raise DegenerateTrajectoryError(code, convention.name, n, np.nan, np.nan)
    if n < 2:
        raise DegenerateTrajectoryError("too_few_frames", convention.name, n, 0.0, 0.0)

    pair = PathPair.of(ref[keep], est[keep])
    aligned = convention.align(pair)
    if all(name in aligned.undefined for name in _VALUES):
        raise DegenerateTrajectoryError(
            aligned.undefined["rot_err"],
            convention.name,
            n,
            pair.reference_spread.rms,
            pair.estimate_spread.rms,
        )
    errors = _reduced_errors(pair, aligned, convention)
    for name in aligned.undefined:
        errors[name] = None
    return PoseScore(
        convention=convention.name,
        rot_err=errors["rot_err"],
        trans_err=errors["trans_err"],
        cam_mc=errors["cam_mc"],
        scale=aligned.scale,
        undefined=MappingProxyType(dict(aligned.undefined)),
        flags=_flags(pair, aligned.scale, n < n_asked),
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
    scores: dict[str, PoseScore | str] = {}
    for name, estimate in (("motionless", motionless), ("no_rotation", no_rotation)):
        try:
            scores[name] = score_poses(estimate, ref, convention)
        except DegenerateTrajectoryError as error:
            scores[name] = error.code
    return scores


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


def _reduced_errors(
    pair: PathPair, aligned: Alignment, convention: Convention
) -> dict[str, float | None]:
    reference_rotations = pair.reference[:, :3, :3]
    rot = geodesic_angle(reference_rotations, aligned.rotations)
    trans = np.linalg.norm(aligned.reference_centres - aligned.centres, axis=1)
    rotation_gap = np.sum((reference_rotations - aligned.rotations) ** 2, axis=(1, 2))
    cammc = np.sqrt(trans**2 + rotation_gap)
    share = 1 / len(rot) if convention.reduction == "mean" else 1.0
    angle = np.rad2deg(rot) if convention.rotation_unit == "deg" else rot
    return {
        name: share * float(np.sum(v))
        for name, v in zip(_VALUES, (angle, trans, cammc), strict=True)
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


# --- alignments: one per published convention ---------------------------------------------------


def _rotation_nearest(matrix: Vectors) -> Vectors:
    """Proper rotation closest to a 3x3 matrix in Frobenius norm."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return np.asarray(u @ sign @ vt)


def _split(pair: PathPair) -> tuple[Vectors, Vectors, Vectors, Vectors]:
    """Rotations and centres of the reference, then of the estimate."""
    return (
        pair.reference[:, :3, :3],
        pair.reference[:, :3, 3],
        pair.estimate[:, :3, :3],
        pair.estimate[:, :3, 3],
    )


def _align_release(pair: PathPair) -> Alignment:
    """Average the orientation offset, then fit scale and offset of world-to-camera translations.

    The residual |t_G - (s t_E + R_E^T o)| lives in camera axes. Rotating it into the estimate's
    world leaves its length unchanged and makes it an ordinary line fit: with t = -R^T c,
    R_E t_G is regressed on R_E t_E = -c_E.
    """
    rot_g, centre_g, rot_e, centre_e = _split(pair)
    mean_offset = _rotation_nearest(np.mean(rot_e @ rot_g.transpose(0, 2, 1), axis=0))
    target = -np.einsum("nij,nkj,nk->ni", rot_e, rot_g, centre_g)
    source = -centre_e
    centred = source - source.mean(axis=0)
    variance = float(np.sum(centred**2))
    static = pair.estimate_spread.static
    scale = 0.0 if static else float(np.sum(centred * (target - target.mean(axis=0)))) / variance
    offset = target.mean(axis=0) - scale * source.mean(axis=0)
    return Alignment(
        rotations=mean_offset.T @ rot_e,
        centres=(scale * centre_e - offset) @ mean_offset,
        reference_centres=centre_g,
        scale=None if static or pair.reference_spread.static else scale,
    )


def _umeyama(pair: PathPair, with_scale: bool) -> Alignment:
    """Similarity (or rigid) least squares on centres, applied to whole poses.

    Source: S. Umeyama, IEEE TPAMI 13(4), 1991, eqs. 40-42.
    """
    _, centre_g, rot_e, centre_e = _split(pair)
    reference, estimate = pair.reference_spread, pair.estimate_spread
    if reference.static or estimate.static:
        code = "reference_static" if reference.static else "estimate_static"
        return Alignment(rot_e, centre_e, centre_g, undefined=dict.fromkeys(_VALUES, code))
    mean_g, mean_e = centre_g.mean(axis=0), centre_e.mean(axis=0)
    covariance = (centre_g - mean_g).T @ (centre_e - mean_e) / len(centre_g)
    rotation = _rotation_nearest(covariance)
    scale = float(np.sum(rotation * covariance)) / estimate.rms**2 if with_scale else 1.0
    # Roll about a line is not observable from its points.
    collinear = reference.collinear or estimate.collinear
    return Alignment(
        rotations=rotation @ rot_e,
        centres=scale * (centre_e - mean_e) @ rotation.T + mean_g,
        reference_centres=centre_g,
        scale=scale if with_scale else None,
        undefined=dict.fromkeys(("rot_err", "cam_mc"), "collinear") if collinear else {},
    )


def _align_sim3(pair: PathPair) -> Alignment:
    return _umeyama(pair, with_scale=True)


def _align_se3(pair: PathPair) -> Alignment:
    return _umeyama(pair, with_scale=False)


def _align_scale(pair: PathPair) -> Alignment:
    """One least-squares factor about the shared frame 0."""
    _, centre_g, rot_e, centre_e = _split(pair)
    if pair.estimate_spread.static:
        return Alignment(rot_e, centre_e, centre_g)
    scale = float(np.sum(centre_e * centre_g) / np.sum(centre_e**2))
    # A reference that stays put fits scale 0; the factor says nothing about the estimate then.
    known = None if pair.reference_spread.static else scale
    return Alignment(rot_e, scale * centre_e, centre_g, scale=known)


def _align_none(pair: PathPair) -> Alignment:
    _, centre_g, rot_e, centre_e = _split(pair)
    return Alignment(rot_e, centre_e, centre_g)


def _normalised(pair: PathPair, reference_extent: float, estimate_extent: float) -> Alignment:
    _, centre_g, rot_e, centre_e = _split(pair)
    # Dividing by the guard alone would blow the estimate's noise up by nine orders of magnitude.
    blown_up = pair.reference_spread.static and not pair.estimate_spread.static
    return Alignment(
        rot_e,
        centre_e / (estimate_extent + _NORM_EPS),
        centre_g / (reference_extent + _NORM_EPS),
        undefined=(dict.fromkeys(("trans_err", "cam_mc"), "reference_static") if blown_up else {}),
    )


def _align_own_extent(pair: PathPair) -> Alignment:
    """Each path divided by its own largest distance from frame 0."""
    return _normalised(pair, _extent(pair.reference), _extent(pair.estimate))


def _align_reference_extent(pair: PathPair) -> Alignment:
    """Both paths divided by the reference's largest distance from frame 0."""
    return _normalised(pair, _extent(pair.reference), _extent(pair.reference))


def _extent(relative: Poses) -> float:
    return float(np.max(np.linalg.norm(relative[:, :3, 3], axis=1)))


RELEASE = Convention(
    "release",
    _align_release,
    "mean",
    "deg",
    "m",
    "released SANA-WM evaluator: RotErr, TransErr_rel, CamMC_rel",
)
PAPER_SIM3 = Convention(
    "paper_sim3",
    _align_sim3,
    "mean",
    "deg",
    "m",
    "text of the SANA-WM paper, App. D.3; ATE with scale",
)
PAPER_SE3 = Convention(
    "paper_se3",
    _align_se3,
    "mean",
    "deg",
    "m",
    "ATE without scale, for metric estimators",
)
SCALE_ONLY = Convention(
    "scale_only",
    _align_scale,
    "mean",
    "deg",
    "m",
    "frame 0 shared, one factor; close to WorldScore, which fits by least absolute deviation",
)
UNALIGNED = Convention(
    "unaligned",
    _align_none,
    "mean",
    "deg",
    "m",
    "oracle poses and metric estimators",
)
CAMI2V_REL = Convention(
    "cami2v_rel",
    _align_own_extent,
    "sum",
    "rad",
    "extent",
    "CamI2V code, relative outputs",
)
CAMI2V_ABS = Convention(
    "cami2v_abs",
    _align_reference_extent,
    "sum",
    "rad",
    "extent",
    "CamI2V and RealCam-I2V code, _abs outputs",
)
MAXNORM_MEAN = Convention(
    "maxnorm_mean",
    _align_own_extent,
    "mean",
    "deg",
    "extent",
    "furthest-frame normalisation per video, used by several later papers",
)
CAMERACTRL_SUM = Convention(
    "cameractrl_sum",
    _align_none,
    "sum",
    "rad",
    "m",
    "CameraCtrl's equations as others quote them; no evaluator was released",
)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        convention.name: convention
        for convention in (
            RELEASE, PAPER_SIM3, PAPER_SE3, SCALE_ONLY, UNALIGNED,
            CAMI2V_REL, CAMI2V_ABS, MAXNORM_MEAN, CAMERACTRL_SUM,
        )
    }
)  # fmt: skip
