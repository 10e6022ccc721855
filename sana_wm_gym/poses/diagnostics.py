"""What speaks against an estimate: tracks that it does not explain, another path from the reversed
frames, another focal length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, nearest_rotation, relative_to_first
from sana_wm_gym.poses.bundle import Cameras, Observations, adjust_points, bundle_adjust
from sana_wm_gym.poses.protocol import Flag, Intrinsics, Mode
from sana_wm_gym.poses.reconstruction import Reconstruction
from sana_wm_gym.poses.rotation_only import directions, orientations
from sana_wm_gym.poses.tracks import Tracks
from sana_wm_gym.poses.two_view import bearings, triangulate

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

EXPLAINED_PX = 2.0
"""Mean distance from the reconstruction within which a track is explained, pixels."""
_CLOSE_PX = 0.3  # the same for flags on frames 64 pixels across, where slow motion stays within 2
_CLOSE_FOCAL_PX = 51.2  # their focal length; the noise of tracks grows with the root of the size
_LOOSER = {"sharp": 1.0, "soft": 1.5, "faint": 2.0}  # by tracker settings
_CLOSE = 0.85  # least fraction of tracks that are met so closely
_CLEARLY = 0.02  # fraction of tracks by which one solution is better
_LEAST_TRACK = 8  # frames of a track that counts for flags: over fewer, any motion fits some depth
_REVERSED_DEG = 1.0  # from which reversed frames give another path
_FOCAL = 1.15  # ratio from which, either way, the focal length is another
_STEP, _STEPS = 1.1, 5  # between focal lengths tried, and how many to either side
_FRAMES, _POINTS = 16, 150  # of the reconstruction that is adjusted anew
_ITERATIONS = 12
_FLAT = 0.05  # least rise of the error, relative, at the ends
_EQUAL = 0.005  # rise of the error, relative, up to which two explain the tracks equally well


@dataclass(frozen=True, eq=False)
class Solution:
    """What an estimate is made of.

    Attributes:
        tracks: All tracks, before any observation was refused.
        intrinsics: (fx, fy, cx, cy) in their pixels.
        mode: As in `EstimatorInfo`.
        c2w: Camera-to-world poses [n, 4, 4], meaningless where not valid.
        valid: bool [n].
        error_px: Root mean square reprojection error in pixels, None if unknown.
        scene: In mode `full`, cameras and points.
    """

    tracks: Tracks
    intrinsics: Intrinsics
    mode: Mode
    c2w: Array
    valid: Mask
    error_px: float | None
    scene: Reconstruction | None = None

    def reversed(self) -> Solution:
        """The same of the frames in reverse order."""
        tracks = replace(self.tracks, xy=self.tracks.xy[::-1])
        return replace(self, tracks=tracks, c2w=self.c2w[::-1], valid=self.valid[::-1])

    def close_fraction(self) -> float:
        """Fraction of tracks that are met closely, of those too long to fit any motion."""
        error, frames = track_errors(self)
        error = error[frames >= min(_LEAST_TRACK, self.valid.sum())]
        looser = np.sqrt(self.intrinsics[0] / _CLOSE_FOCAL_PX) * _LOOSER[self.tracks.settings.name]
        limit = min(_CLOSE_PX * max(looser, 1.0), EXPLAINED_PX)
        return float(np.mean(error < limit)) if len(error) else 0.0


@dataclass(frozen=True)
class Diagnosis:
    """As in `PoseEstimate`."""

    explained: float | None = None
    reversed_deg: float | None = None
    focal_ratio: float | None = None
    flags: tuple[Flag, ...] = ()


def better_of(forward: Solution, backward: Solution) -> tuple[Solution, Solution]:
    """Two solutions of one clip, the better one first: `forward`, unless it is lost or the other of
    the same mode meets clearly more tracks."""
    if forward.mode == backward.mode:
        swap = backward.close_fraction() > forward.close_fraction() + _CLEARLY
    else:
        swap = forward.mode == "lost"
    return (backward, forward) if swap else (forward, backward)


def diagnose(found: Solution, other: Solution) -> Diagnosis:
    """Diagnose a solution by its tracks and by another of the same clip, of frames in reverse."""
    if found.mode == "lost":
        return Diagnosis()
    error, _ = track_errors(found)
    close = found.close_fraction()
    gap = rotation_gap_deg(found.c2w, other.c2w, found.valid & other.valid)
    ratio = None if found.mode == "static" else best_focal_ratio(found)
    facts: dict[Flag, bool] = {
        "unexplained": close < _CLOSE,
        # One that meets clearly fewer tracks has failed, which says nothing of the better one.
        "reversal": gap is not None
        and gap > _REVERSED_DEG
        and other.close_fraction() > close - _CLEARLY,
        "focal_length": ratio is not None and abs(np.log(ratio)) > np.log(_FOCAL),
    }
    return Diagnosis(
        float(np.mean(error < EXPLAINED_PX)) if len(error) else None,
        gap,
        ratio,
        tuple(name for name, holds in facts.items() if holds),
    )


def rotation_gap_deg(a: Array, b: Array, both: Mask) -> float | None:
    """RotErr under `release` between two paths [n, 4, 4], degrees: the mean angle after their mean
    offset is taken out, over the frames `both` [n]; None under three."""
    if both.sum() < 3:
        return None
    ours, theirs = (relative_to_first(path[both])[:, :3, :3] for path in (a, b))
    offset = nearest_rotation(np.mean(ours @ theirs.transpose(0, 2, 1), axis=0))
    return float(np.mean(np.rad2deg(geodesic_angle(theirs, offset.T @ ours))))


def track_errors(found: Solution) -> tuple[Array, npt.NDArray[np.intp]]:
    """Mean distance in pixels [p] of every track that at least two placed frames see from where a
    rigid scene has it, be it the best point for that track alone; and how many frames see it.

    Without centres the tracks are those of directions.
    """
    frames = np.flatnonzero(found.valid)
    xy = found.tracks.xy[frames]
    count = np.isfinite(xy[..., 0]).sum(axis=0)
    xy, count = xy[:, count >= 2], count[count >= 2]
    seen = np.isfinite(xy[..., 0])
    if not len(count) or len(frames) < 2:
        return np.empty(0), count
    rays = np.nan_to_num(bearings(xy, found.intrinsics))
    rotations, centres = found.c2w[frames, :3, :3], found.c2w[frames, :3, 3]
    if found.scene is None:
        mean = directions(rotations, rays, seen)
        focal = 0.5 * (found.intrinsics[0] + found.intrinsics[1])
        gap = focal * np.linalg.norm(np.einsum("nij,npj->npi", rotations, rays) - mean, axis=-1)
        return np.asarray((gap * seen).sum(axis=0) / count), count
    points, _ = triangulate(centres, np.einsum("cij,cpj->cpi", rotations, rays), seen)
    observed, turned = Observations.of(xy, found.intrinsics), rotations.transpose(0, 2, 1)
    cameras = Cameras(turned, -np.einsum("nij,nj->ni", turned, centres))
    residual, _ = observed.residuals(cameras, adjust_points(cameras, points, observed))
    error = np.linalg.norm(residual, axis=1)
    return np.bincount(observed.point, error, len(count)) / count, count


def best_focal_ratio(found: Solution) -> float | None:
    """The focal length that explains the tracks best, over the one that was given.

    The solution is adjusted anew at focal lengths around the given one.

    Returns:
        Of the ratios whose error is the smallest or within 0.5 % of it, the one closest to 1; None
        where the errors hardly differ, as on weak perspective.
    """
    sweep = _turning(found) if found.scene is None else _travelling(found.scene)
    if sweep is None:
        return None
    up, down = sweep(_STEP), sweep(1 / _STEP)
    errors = np.array([*down[:0:-1], *up])
    if not len(errors):
        return None
    least = errors.min()
    if max(errors[0], errors[-1]) < (1 + _FLAT) * least:
        return None
    steps = np.arange(len(errors)) - len(down) + 1
    near = steps[errors < (1 + _EQUAL) * least]
    return float(_STEP ** near[np.argmin(np.abs(near))])


Sweep = Callable[[float], list[float]]
"""Errors at focal lengths that grow from the given one by a factor."""


def _turning(found: Solution) -> Sweep | None:
    fx, fy, cx, cy = found.intrinsics

    def sweep(factor: float) -> list[float]:
        errors = []
        for ratio in factor ** np.arange(_STEPS + 1):
            _, valid, error = orientations(found.tracks, (fx * ratio, fy * ratio, cx, cy))
            if error is None or valid.sum() < found.valid.sum():
                break
            errors.append(error)
        return errors

    return sweep


def _travelling(scene: Reconstruction) -> Sweep | None:
    """None where too little is known."""
    frames = np.flatnonzero(scene.placed)
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))]
    known = np.flatnonzero(scene.known)
    length = np.isfinite(scene.xy[np.ix_(frames, known)][..., 0]).sum(axis=0)
    points = known[np.argsort(-length, kind="stable")[:_POINTS]]
    xy = scene.xy[np.ix_(frames, points)]
    seen = np.isfinite(xy[..., 0]).sum(axis=0) >= 3
    xy, points = xy[:, seen], points[seen]
    if len(points) < 20 or len(frames) < 4:
        return None
    fx, fy, cx, cy = scene.intrinsics
    given = Observations.of(xy, scene.intrinsics)

    def sweep(factor: float) -> list[float]:
        cameras, where = scene.cameras[frames], scene.points[points]
        errors = []
        for ratio in factor ** np.arange(_STEPS + 1):
            observed = replace(given, intrinsics=(fx * ratio, fy * ratio, cx, cy))
            cameras, where = bundle_adjust(cameras, where, observed, 0, _ITERATIONS)
            residual, _ = observed.residuals(cameras, where)
            errors.append(float(np.mean(np.minimum(np.linalg.norm(residual, axis=1), 2.0))))
        return errors

    return sweep
