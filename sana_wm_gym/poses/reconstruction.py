"""A scene that grows: cameras and points found so far, and the steps that find more.

start pair -> place a camera -> triangulate -> adjust -> ... -> refine tracks -> adjust to the end

Nothing here decides which start is right; see `lk_bundle_adjustment`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation, invert
from sana_wm_gym.poses.bundle import (
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
class Scene:
    """What is known so far: world-to-camera poses of placed frames, and points of known tracks.

    Attributes:
        xy: [n, p, 2] pixels, NaN where unseen or refused as an outlier.
        intrinsics: (fx, fy, cx, cy) in pixels.
        anchor: Frame that never moves.
        rays: [n, p, 3] unit, camera axes.
        rotations: [n, 3, 3].
        translations: [n, 3].
        placed: [n].
        points: [p, 3].
        known: [p].
    """

    xy: Array
    intrinsics: Intrinsics
    anchor: int
    rays: Array
    rotations: Array
    translations: Array
    placed: Mask
    points: Array
    known: Mask

    @property
    def seen(self) -> Mask:
        """bool [n, p]."""
        return np.isfinite(self.xy[..., 0])

    @property
    def c2w(self) -> Array:
        """Camera-to-world [n, 4, 4]; meaningless where not placed."""
        return invert(from_rotation_translation(self.rotations, self.translations))

    def explained(self) -> int:
        """Observations that known points meet within the width of a good track."""
        if not self.known.any():
            return 0
        error, depth = self._errors()
        return int(((error < _GOOD_PX) & (depth > 0)).sum())

    def rms_error(self) -> float:
        """Root mean square reprojection error of known points, pixels; inf without any."""
        if not self.known.any():
            return np.inf
        error, _ = self._errors()
        return float(np.sqrt(np.mean(error**2)))

    def _errors(self) -> tuple[Array, Array]:
        frames, known = np.flatnonzero(self.placed), np.flatnonzero(self.known)
        return _residuals(self, frames, known, Observations.of(self.xy[np.ix_(frames, known)]))


def start_scene(
    xy: Array, intrinsics: Intrinsics, first: int, second: int, motion: tuple[Array, Array]
) -> Scene | None:
    """A scene of two placed frames, the first at the origin; None if too few points follow."""
    n, p = xy.shape[:2]
    scene = Scene(
        xy.copy(),
        intrinsics,
        first,
        bearings(xy, intrinsics),
        np.tile(np.eye(3), (n, 1, 1)),
        np.zeros((n, 3)),
        np.zeros(n, dtype=bool),
        np.zeros((p, 3)),
        np.zeros(p, dtype=bool),
    )
    scene.rotations[second], scene.translations[second] = motion
    scene.placed[[first, second]] = True
    _triangulate(scene)
    if scene.known.sum() < MIN_POINTS:
        return None
    _adjust(scene, limit=_ADJUST_POINTS[0], iterations=15)
    return scene if scene.known.sum() >= MIN_POINTS else None


def grow(scene: Scene, most: int | None = None, adjusted: bool = True) -> None:
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


def polish(scene: Scene, grey: npt.NDArray[np.uint8], radius: int, rounds: int) -> None:
    """Adjust everything, refining tracks and refusing outliers in between."""
    for _ in range(rounds):
        _adjust(scene, limit=_ADJUST_POINTS[1], iterations=8)
        _refine(scene, grey, radius)
        _refuse_outliers(scene)
        _triangulate(scene)
    _adjust(scene, limit=_ADJUST_POINTS[1], iterations=12)


def widen(scene: Scene, xy: Array, frames: npt.NDArray[np.intp]) -> Scene:
    """The same scene among all frames of a clip; the new ones are still to be placed.

    Args:
        scene: A reconstruction of some frames.
        xy: Tracks of all frames [n, p, 2].
        frames: Which of them the scene knows.
    """
    wide = xy.copy()
    wide[frames] = scene.xy
    n = len(xy)
    rotations, translations = np.tile(np.eye(3), (n, 1, 1)), np.zeros((n, 3))
    placed = np.zeros(n, dtype=bool)
    rotations[frames], translations[frames] = scene.rotations, scene.translations
    placed[frames] = scene.placed
    return replace(
        scene,
        xy=wide,
        anchor=int(frames[scene.anchor]),
        rays=bearings(wide, scene.intrinsics),
        rotations=rotations,
        translations=translations,
        placed=placed,
        points=scene.points.copy(),
        known=scene.known.copy(),
    )


def _refine(scene: Scene, grey: npt.NDArray[np.uint8], radius: int) -> None:
    """Look known points up again in all placed frames."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    scene.xy[np.ix_(frames, known)] = refine_tracks(
        grey[frames],
        scene.xy[np.ix_(frames, known)],
        scene.rotations[frames],
        scene.translations[frames],
        scene.points[known],
        scene.intrinsics,
        radius,
    )


def _refuse_outliers(scene: Scene) -> None:
    """Unsee observations far outside the spread of the others."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    observed = Observations.of(scene.xy[np.ix_(frames, known)])
    error, _ = _residuals(scene, frames, known, observed)
    bad = error > max(_OUTLIER * np.median(error), 0.1)
    scene.xy[frames[observed.camera[bad]], known[observed.point[bad]]] = np.nan


def _place(scene: Scene, frame: int) -> bool:
    """PnP from the nearest placed frame."""
    placed = np.flatnonzero(scene.placed)
    nearest = int(placed[np.argmin(np.abs(placed - frame))])
    visible = scene.known & np.isfinite(scene.xy[frame, :, 0])
    points, xy = scene.points[visible], scene.xy[frame, visible]
    rotation, translation = adjust_pose(
        scene.rotations[nearest], scene.translations[nearest], points, xy, scene.intrinsics
    )
    pixels, local = project(rotation, translation, points, scene.intrinsics)
    good = (np.linalg.norm(pixels - xy, axis=1) < _MAX_ERROR_PX) & (local[:, 2] > 0)
    if good.sum() < MIN_POINTS or good.mean() < 0.5:
        return False
    scene.rotations[frame], scene.translations[frame] = rotation, translation
    scene.placed[frame] = True
    return True


def _triangulate(scene: Scene) -> None:
    """Recompute unknown points from all placed frames, then drop those that fit badly."""
    frames = np.flatnonzero(scene.placed)
    seen = scene.seen[frames]
    wanted = np.flatnonzero(~scene.known & (seen.sum(axis=0) >= 2))
    if len(wanted):
        rotations = scene.rotations[frames]
        centres = -np.einsum("cji,cj->ci", rotations, scene.translations[frames])
        rays = np.einsum("cji,cpj->cpi", rotations, scene.rays[np.ix_(frames, wanted)])
        points, angle = triangulate(centres, rays, seen[:, wanted])
        wanted, points = wanted[angle > _MIN_ANGLE], points[angle > _MIN_ANGLE]
        if len(wanted):
            observed = Observations.of(scene.xy[np.ix_(frames, wanted)])
            scene.points[wanted] = adjust_points(
                rotations, scene.translations[frames], points, observed, scene.intrinsics
            )
            scene.known[wanted] = True
    _drop_bad_points(scene)


def _drop_bad_points(scene: Scene) -> None:
    """Forget points behind a camera, or over 2 px mean error."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    if len(known) == 0:
        return
    observed = Observations.of(scene.xy[np.ix_(frames, known)])
    error, depth = _residuals(scene, frames, known, observed)
    count = np.bincount(observed.point, minlength=len(known))
    mean = np.bincount(observed.point, error, len(known)) / np.maximum(count, 1)
    behind = np.bincount(observed.point, depth <= 0, len(known)) > 0
    scene.known[known[(mean > _MAX_ERROR_PX) | behind | (count < 2)]] = False


def _residuals(
    scene: Scene, frames: npt.NDArray[np.intp], points: npt.NDArray[np.intp], at: Observations
) -> tuple[Array, Array]:
    """Reprojection error in pixels and depth of every observation."""
    camera = frames[at.camera]
    pixels, local = project(
        scene.rotations[camera],
        scene.translations[camera],
        scene.points[points[at.point]],
        scene.intrinsics,
    )
    return np.linalg.norm(pixels - at.xy, axis=1), local[:, 2]


def _adjust(scene: Scene, limit: int, iterations: int) -> None:
    """Bundle adjustment over placed frames and the `limit` longest tracks; the other points
    follow the cameras."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    length = scene.seen[np.ix_(frames, known)].sum(axis=0)
    limit = max(limit, _POINTS_PER_FRAME * len(frames))
    chosen = np.sort(known[np.argsort(-length, kind="stable")[:limit]])
    observed = Observations.of(scene.xy[np.ix_(frames, chosen)])
    anchor = int(np.searchsorted(frames, scene.anchor))
    rotations, translations, points = bundle_adjust(
        scene.rotations[frames],
        scene.translations[frames],
        scene.points[chosen],
        observed,
        scene.intrinsics,
        anchor,
        iterations,
    )
    scene.rotations[frames], scene.translations[frames] = rotations, translations
    scene.points[chosen] = points
    rest = np.setdiff1d(known, chosen)
    if len(rest):
        others = Observations.of(scene.xy[np.ix_(frames, rest)])
        scene.points[rest] = adjust_points(
            rotations, translations, scene.points[rest], others, scene.intrinsics
        )
    _drop_bad_points(scene)
