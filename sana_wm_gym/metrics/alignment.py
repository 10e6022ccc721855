"""How each published convention brings an estimated path to the commanded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sana_wm_gym.camera.se3 import nearest_rotation
from sana_wm_gym.metrics.pose_checks import PathPair, Poses, Vectors

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
    return (
        pair.reference[:, :3, :3],
        pair.reference[:, :3, 3],
        pair.estimate[:, :3, :3],
        pair.estimate[:, :3, 3],
    )


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


def _umeyama(pair: PathPair, with_scale: bool) -> Alignment:
    """Similarity (or rigid) least squares on centres, applied to whole poses.

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


def align_sim3(pair: PathPair) -> Alignment:
    """Similarity fitted to centres: ATE with scale."""
    return _umeyama(pair, with_scale=True)


def align_se3(pair: PathPair) -> Alignment:
    """Rigid transform fitted to centres: ATE without scale."""
    return _umeyama(pair, with_scale=False)


def align_scale(pair: PathPair) -> Alignment:
    """One least-squares factor about the shared frame 0."""
    _, centre_g, rot_e, centre_e = _split(pair)
    if pair.estimate_spread.static:
        return Alignment(rot_e, centre_e, centre_g)
    scale = float(np.sum(centre_e * centre_g) / np.sum(centre_e**2))
    # A reference that stays put fits scale 0; the factor says nothing about the estimate then.
    known = None if pair.reference_spread.static else scale
    return Alignment(rot_e, scale * centre_e, centre_g, scale=known)


def align_none(pair: PathPair) -> Alignment:
    """As given; frame 0 is shared."""
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


def align_own_extent(pair: PathPair) -> Alignment:
    """Each path divided by its own largest distance from frame 0."""
    return _normalised(pair, _extent(pair.reference), _extent(pair.estimate))


def align_reference_extent(pair: PathPair) -> Alignment:
    """Both paths divided by the reference's largest distance from frame 0."""
    return _normalised(pair, _extent(pair.reference), _extent(pair.reference))


def _extent(relative: Poses) -> float:
    return float(np.max(np.linalg.norm(relative[:, :3, 3], axis=1)))
