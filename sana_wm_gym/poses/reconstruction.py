"""A scene that grows: cameras and points found so far, and the steps that find more.

start pair -> place a camera -> triangulate -> adjust -> ... -> refine tracks -> adjust to the end

Nothing here decides which start is right; see `lk_bundle_adjustment`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation, invert
from sana_wm_gym.poses.bundle import (
    Cameras,
    Observations,
    adjust_points,
    adjust_pose,
    bundle_adjust,
    project,
)
from sana_wm_gym.poses.protocol import Intrinsics
from sana_wm_gym.poses.refine import refine_tracks
from sana_wm_gym.poses.two_view import bearings, triangulate

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Index = npt.NDArray[np.intp]

_MIN_ANGLE = np.deg2rad(0.7)  # between rays that may fix a point
_MAX_ERROR_PX = 2.0  # mean reprojection error of a kept point
MIN_POINTS = 12  # that a placed camera must see
_GOOD_PX = 0.5  # reprojection error of an explained observation
_OUTLIER = 5.0  # times the median error
_GROW = 4  # frames placed between triangulations
_ADJUST_EVERY = 8  # frames placed between adjustments
_ADJUST_POINTS = (600, 2000)  # longest tracks used while growing and at the end, at least
_POINTS_PER_FRAME = 25  # so that no stretch of a long clip is left without


@dataclass
class Reconstruction:
    """What is known so far: poses of placed frames, and points of known tracks.

    Attributes:
        xy: [n, p, 2] pixels, NaN where unseen or refused as an outlier.
        intrinsics: (fx, fy, cx, cy) in pixels.
        anchor: Frame that never moves.
        cameras: World-to-camera poses of n frames.
        placed: [n].
        points: [p, 3].
        known: [p].
    """

    xy: Array
    intrinsics: Intrinsics
    anchor: int
    cameras: Cameras
    placed: Mask
    points: Array
    known: Mask

    @staticmethod
    def empty(xy: Array, intrinsics: Intrinsics, anchor: int) -> Reconstruction:
        """A scene of tracks [n, p, 2] without any placed frame or known point."""
        n, p = xy.shape[:2]
        cameras = Cameras(np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3)))
        placed, known = np.zeros(n, dtype=bool), np.zeros(p, dtype=bool)
        return Reconstruction(xy, intrinsics, anchor, cameras, placed, np.zeros((p, 3)), known)

    def __post_init__(self) -> None:
        self.rays = bearings(self.xy, self.intrinsics)  # unit, camera axes

    @property
    def seen(self) -> Mask:
        """bool [n, p]."""
        return np.isfinite(self.xy[..., 0])

    @property
    def c2w(self) -> Array:
        """Camera-to-world [n, 4, 4]; meaningless where not placed."""
        return invert(from_rotation_translation(self.cameras.rotations, self.cameras.translations))

    def explained(self) -> int:
        """Observations that known points meet within the width of a good track."""
        if not self.known.any():
            return 0
        error, depth = self.errors()
        return int(((error < _GOOD_PX) & (depth > 0)).sum())

    def rms_error(self) -> float:
        """Root mean square reprojection error of known points, pixels; inf without any."""
        if not self.known.any():
            return np.inf
        return float(np.sqrt(np.mean(self.errors()[0] ** 2)))

    def observed(self, points: Index | None = None) -> tuple[Index, Index, Observations]:
        """Placed frames, known points (or others), and where the one sees the other."""
        frames = np.flatnonzero(self.placed)
        points = np.flatnonzero(self.known) if points is None else points
        return frames, points, Observations.of(self.xy[np.ix_(frames, points)], self.intrinsics)

    def errors(self) -> tuple[Array, Array]:
        """Reprojection error in pixels and depth of every observation of a known point."""
        frames, points, observed = self.observed()
        residual, local = observed.residuals(self.cameras[frames], self.points[points])
        return np.linalg.norm(residual, axis=1), local[:, 2]


def start_reconstruction(
    xy: Array, intrinsics: Intrinsics, first: int, second: int, motion: tuple[Array, Array]
) -> Reconstruction | None:
    """A scene of two placed frames, the first at the origin; None if too few points follow."""
    scene = Reconstruction.empty(xy.copy(), intrinsics, first)
    scene.cameras[second] = Cameras(*motion)
    scene.placed[[first, second]] = True
    _triangulate(scene)
    if scene.known.sum() < MIN_POINTS:
        return None
    _adjust(scene, limit=_ADJUST_POINTS[0], iterations=15)
    return scene if scene.known.sum() >= MIN_POINTS else None


def grow(scene: Reconstruction, most: int | None = None, adjusted: bool = True) -> None:
    """Place frames until none can be placed, or `most` are.

    Points already known stay as they are unless `adjusted`.
    """
    since_adjusted = 0
    while most is None or scene.placed.sum() < most:
        fresh = 0
        support = np.where(scene.placed, 0, (scene.seen & scene.known).sum(axis=1))
        while fresh < _GROW or not adjusted:
            frame = int(np.argmax(support))
            if support[frame] < MIN_POINTS:
                break
            support[frame] = 0
            fresh += _place(scene, frame)
        if fresh == 0 or not adjusted:
            break
        _triangulate(scene)
        since_adjusted += fresh
        if since_adjusted >= _ADJUST_EVERY:
            _adjust(scene, limit=_ADJUST_POINTS[0], iterations=4)
            _triangulate(scene)
            since_adjusted = 0


def polish(scene: Reconstruction, grey: npt.NDArray[np.uint8], radius: int, rounds: int) -> None:
    """Adjust everything, refining tracks and refusing outliers in between."""
    for _ in range(rounds):
        _adjust(scene, limit=_ADJUST_POINTS[1], iterations=8)
        frames, known, _ = scene.observed()
        where = np.ix_(frames, known)
        cameras, points = scene.cameras[frames], scene.points[known]
        scene.xy[where] = refine_tracks(
            grey[frames], scene.xy[where], cameras, points, scene.intrinsics, radius
        )
        _refuse_outliers(scene)
        _triangulate(scene)
    _adjust(scene, limit=_ADJUST_POINTS[1], iterations=12)


def widen(scene: Reconstruction, xy: Array, frames: Index) -> Reconstruction:
    """The same scene among all frames of a clip; the new ones are still to be placed.

    Args:
        scene: A reconstruction of some frames.
        xy: Tracks of all frames [n, p, 2].
        frames: Which of them have a place in the scene.
    """
    tracks = xy.copy()
    tracks[frames] = scene.xy
    wide = Reconstruction.empty(tracks, scene.intrinsics, int(frames[scene.anchor]))
    wide.cameras[frames], wide.placed[frames] = scene.cameras, scene.placed
    wide.points, wide.known = scene.points.copy(), scene.known.copy()
    return wide


def _refuse_outliers(scene: Reconstruction) -> None:
    """Unsee observations far outside the spread of the others."""
    frames, known, observed = scene.observed()
    error, _ = scene.errors()
    bad = error > max(_OUTLIER * np.median(error), 0.1)
    scene.xy[frames[observed.camera[bad]], known[observed.point[bad]]] = np.nan


def _place(scene: Reconstruction, frame: int) -> bool:
    """PnP from the nearest placed frame."""
    placed = np.flatnonzero(scene.placed)
    nearest = int(placed[np.argmin(np.abs(placed - frame))])
    visible = scene.known & np.isfinite(scene.xy[frame, :, 0])
    points, xy = scene.points[visible], scene.xy[frame, visible]
    camera = adjust_pose(scene.cameras[nearest], points, xy, scene.intrinsics)
    pixels, local = project(camera, points, scene.intrinsics)
    good = (np.linalg.norm(pixels - xy, axis=1) < _MAX_ERROR_PX) & (local[:, 2] > 0)
    if good.sum() < MIN_POINTS or good.mean() < 0.5:
        return False
    scene.cameras[frame], scene.placed[frame] = camera, True
    return True


def _triangulate(scene: Reconstruction) -> None:
    """Recompute unknown points from all placed frames, then drop those that fit badly."""
    frames = np.flatnonzero(scene.placed)
    seen = scene.seen[frames]
    wanted = np.flatnonzero(~scene.known & (seen.sum(axis=0) >= 2))
    if len(wanted):
        cameras = scene.cameras[frames]
        centres = -np.einsum("cji,cj->ci", cameras.rotations, cameras.translations)
        rays = np.einsum("cji,cpj->cpi", cameras.rotations, scene.rays[np.ix_(frames, wanted)])
        points, angle = triangulate(centres, rays, seen[:, wanted])
        wanted, points = wanted[angle > _MIN_ANGLE], points[angle > _MIN_ANGLE]
        if len(wanted):
            _, _, observed = scene.observed(wanted)
            scene.points[wanted] = adjust_points(cameras, points, observed)
            scene.known[wanted] = True
    _drop_bad_points(scene)


def _drop_bad_points(scene: Reconstruction) -> None:
    """Drop points behind a camera, or over 2 px mean error."""
    if not scene.known.any():
        return
    _, known, observed = scene.observed()
    error, depth = scene.errors()
    count = np.bincount(observed.point, minlength=len(known))
    mean = np.bincount(observed.point, error, len(known)) / np.maximum(count, 1)
    behind = np.bincount(observed.point, depth <= 0, len(known)) > 0
    scene.known[known[(mean > _MAX_ERROR_PX) | behind | (count < 2)]] = False


def _adjust(scene: Reconstruction, limit: int, iterations: int) -> None:
    """Bundle adjustment over placed frames and the `limit` longest tracks; the other points
    follow the cameras."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    length = scene.seen[np.ix_(frames, known)].sum(axis=0)
    limit = max(limit, _POINTS_PER_FRAME * len(frames))
    chosen = np.sort(known[np.argsort(-length, kind="stable")[:limit]])
    _, _, observed = scene.observed(chosen)
    anchor = int(np.searchsorted(frames, scene.anchor))
    cameras, scene.points[chosen] = bundle_adjust(
        scene.cameras[frames], scene.points[chosen], observed, anchor, iterations
    )
    scene.cameras[frames] = cameras
    rest = np.setdiff1d(known, chosen)
    if len(rest):
        _, _, others = scene.observed(rest)
        scene.points[rest] = adjust_points(cameras, scene.points[rest], others)
    _drop_bad_points(scene)
