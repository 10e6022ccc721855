"""The published meanings of RotErr, TransErr and CamMC: how each brings an estimated path to the
commanded one, and what it does with the errors per frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Literal

import numpy as np

from sana_wm_gym.camera.se3 import nearest_rotation
from sana_wm_gym.metrics.pose_checks import PathPair, Vectors

ERRORS = ("rot_err", "trans_err", "cam_mc")
_NORM_EPS = 1e-9  # the guard in CamI2V's division by path extent


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


def _split(pair: PathPair) -> tuple[Vectors, Vectors, Vectors, Vectors]:
    """Rotations and centres of the reference, then of the estimate."""
    reference, estimate = pair.reference, pair.estimate
    return reference[:, :3, :3], reference[:, :3, 3], estimate[:, :3, :3], estimate[:, :3, 3]


def align_release(pair: PathPair) -> Alignment:
    """Average the orientation offset, then fit scale and offset of world-to-camera translations.

    The residual |t_G - (s t_E + R_E^T o)| lives in camera axes. Rotating it into the estimate's
    world leaves its length unchanged and makes it an ordinary line fit: with t = -R^T c,
    R_E t_G is regressed on R_E t_E = -c_E.
    """
    rot_g, centre_g, rot_e, centre_e = _split(pair)
    mean_offset = nearest_rotation(np.mean(rot_e @ rot_g.transpose(0, 2, 1), axis=0))
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


def align_centres(pair: PathPair, *, with_scale: bool) -> Alignment:
    """Similarity (or rigid transform) fitted to centres, applied to whole poses: ATE with scale
    (or without).

    Source: S. Umeyama, IEEE TPAMI 13(4), 1991, eqs. 40-42.
    """
    _, centre_g, rot_e, centre_e = _split(pair)
    reference, estimate = pair.reference_spread, pair.estimate_spread
    if reference.static or estimate.static:
        code = "reference_static" if reference.static else "estimate_static"
        return Alignment(rot_e, centre_e, centre_g, undefined=dict.fromkeys(ERRORS, code))
    mean_g, mean_e = centre_g.mean(axis=0), centre_e.mean(axis=0)
    covariance = (centre_g - mean_g).T @ (centre_e - mean_e) / len(centre_g)
    rotation = nearest_rotation(covariance)
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


def align_scale(pair: PathPair) -> Alignment:
    """One least-squares factor about the shared frame 0."""
    _, centre_g, rot_e, centre_e = _split(pair)
    if pair.estimate_spread.static:
        return Alignment(rot_e, centre_e, centre_g)
    scale = float(np.sum(centre_e * centre_g) / np.sum(centre_e**2))
    # A reference that stays put fits scale 0; the factor means nothing for the estimate then.
    known = None if pair.reference_spread.static else scale
    return Alignment(rot_e, scale * centre_e, centre_g, scale=known)


def align_none(pair: PathPair) -> Alignment:
    """As given; frame 0 is shared."""
    _, centre_g, rot_e, centre_e = _split(pair)
    return Alignment(rot_e, centre_e, centre_g)


def align_extent(pair: PathPair, *, own: bool) -> Alignment:
    """Both paths divided by the reference's largest distance from frame 0, or each by its own."""
    _, centre_g, rot_e, centre_e = _split(pair)
    reference_extent, estimate_extent = (
        float(np.max(np.linalg.norm(path[:, :3, 3], axis=1)))
        for path in (pair.reference, pair.estimate if own else pair.reference)
    )
    # Dividing by the guard alone would blow the estimate's noise up by nine orders of magnitude.
    blown_up = pair.reference_spread.static and not pair.estimate_spread.static
    return Alignment(
        rot_e,
        centre_e / (estimate_extent + _NORM_EPS),
        centre_g / (reference_extent + _NORM_EPS),
        undefined=dict.fromkeys(("trans_err", "cam_mc"), "reference_static") if blown_up else {},
    )


@dataclass(frozen=True)
class Convention:
    """One published meaning of RotErr, TransErr and CamMC.

    Attributes:
        name: Key in `CONVENTIONS`.
        align: Brings the estimate to the reference.
        matches: Where these numbers are printed.
        reduction: Over frames.
        rotation_unit: Of `rot_err`.
        translation_unit: Of `trans_err`: `m` where the reference is in metres, or `extent`, the
            largest distance from frame 0.
    """

    name: str
    align: Callable[[PathPair], Alignment]
    matches: str
    reduction: Literal["mean", "sum"] = "mean"
    rotation_unit: Literal["deg", "rad"] = "deg"
    translation_unit: Literal["m", "extent"] = "m"


RELEASE = Convention(
    "release", align_release, "released SANA-WM evaluator: RotErr, TransErr_rel, CamMC_rel"
)
PAPER_SIM3 = Convention(
    "paper_sim3",
    partial(align_centres, with_scale=True),
    "text of the SANA-WM paper, App. D.3; ATE with scale",
)
PAPER_SE3 = Convention(
    "paper_se3",
    partial(align_centres, with_scale=False),
    "ATE without scale, for metric estimators",
)
SCALE_ONLY = Convention(
    "scale_only",
    align_scale,
    "frame 0 shared, one factor; close to WorldScore, which fits by least absolute deviation",
)
UNALIGNED = Convention("unaligned", align_none, "oracle poses and metric estimators")
CAMI2V_REL = Convention(
    "cami2v_rel",
    partial(align_extent, own=True),
    "CamI2V code, relative outputs",
    "sum",
    "rad",
    "extent",
)
CAMI2V_ABS = Convention(
    "cami2v_abs",
    partial(align_extent, own=False),
    "CamI2V and RealCam-I2V code, _abs outputs",
    "sum",
    "rad",
    "extent",
)
MAXNORM_MEAN = Convention(
    "maxnorm_mean",
    partial(align_extent, own=True),
    "furthest-frame normalisation per video, used by several later papers",
    translation_unit="extent",
)
CAMERACTRL_SUM = Convention(
    "cameractrl_sum",
    align_none,
    "CameraCtrl's equations as others quote them; no evaluator was released",
    "sum",
    "rad",
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
