"""Poses from pixels on a CPU: Lucas-Kanade tracks, a two-view start, PnP, bundle adjustment.

frames -> tracks -> (parallax?) -> start pair -> grow frame by frame -> adjust all -> poses

A clip without parallax has no centres to find: it is solved for orientation alone. The result is
known up to one similarity; scale comes from the start pair's unit baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation, invert, relative_to_first
from sana_wm_gym.metrics.estimators.bundle import (
    Observations,
    adjust_points,
    adjust_pose,
    bundle_adjust,
    project,
)
from sana_wm_gym.metrics.estimators.protocol import (
    EstimatorInfo,
    Frames,
    Intrinsics,
    Mode,
    PoseEstimate,
    check_input,
)
from sana_wm_gym.metrics.estimators.settle import settle_tracks
from sana_wm_gym.metrics.estimators.tracks import Tracks, track_points
from sana_wm_gym.metrics.estimators.two_view import (
    Parallax,
    bearings,
    fit_rotation,
    parallaxes,
    relative_poses,
    triangulate,
)
from sana_wm_gym.metrics.pose import RELEASE, score_poses

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_STILL_PX = 0.1  # median image motion of a clip in which nothing moves
_MIN_ANGLE = np.deg2rad(0.7)  # between rays that may fix a point
_MAX_ERROR_PX = 2.0  # mean reprojection error of a kept point
_MIN_POINTS = 12  # that a placed camera must see
_GOOD_PX = 0.5  # reprojection error of an explained observation
_OUTLIER = 5.0  # times the median error
_STARTS = 2  # start pairs tried, each with up to three motions
_SAME_DEG = 0.3  # RotErr under which two reconstructions are one
_MIN_SHARE = 0.8  # of the best one's observations that another must explain to compete
_FINISHED = 2  # reconstructions adjusted to the end
_ROUNDS = 3  # of adjusting and settling
_GROW = 4  # frames placed between triangulations
_ADJUST_EVERY = 16  # frames placed between adjustments
_ADJUST_POINTS = (800, 2000)  # longest tracks used while growing and at the end


@dataclass(frozen=True)
class LKBundleAdjustment:
    """The default estimator; needs no weights and no GPU.

    Accurate to about 0.1 degrees at 128 pixels and 0.3 degrees at 64 on textured scenes that do
    not move; frames under 48 pixels wide cannot be scored, except for pure rotation.

    Source: steps and thresholds are classical structure from motion (Hartley and Zisserman,
    "Multiple View Geometry", 2004) on optical-flow tracks.
    """

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame; see `PoseEstimator.estimate`. `fps` is not used."""
        frames, used, assumed = check_input(frames, intrinsics, fps)
        tracks = track_points(frames)
        pairs = parallaxes(tracks, used) if len(frames) > 1 else []

        def result(c2w: Array, valid: Mask, mode: Mode, error: float | None) -> PoseEstimate:
            info = EstimatorInfo(
                "lk_bundle_adjustment", "1", "estimated", mode, error, used, assumed
            )
            poses = np.full((len(frames), 4, 4), np.nan)
            if valid.any():
                poses[valid] = relative_to_first(c2w[valid])
            return PoseEstimate(poses, valid, info)

        still = np.tile(np.eye(4), (len(frames), 1, 1))
        if not pairs:
            # Nothing could be followed. Frame 0 alone is where it is by definition.
            return result(still, np.arange(len(frames)) < 1, "static", None)
        if max(pair.motion_px for pair in pairs) < _STILL_PX:
            return result(still, np.ones(len(frames), dtype=bool), "static", None)
        threshold = 0.25 + 0.6 * frames.shape[2] / 256
        if max(pair.residual_px for pair in pairs) >= threshold:
            best = _reconstruct(tracks, used, pairs, frames)
            if best is not None:
                return result(_c2w(best), best.placed, "full", _rms_error(best))
        rotations, valid = _rotations(tracks, used)
        centres = np.zeros((len(frames), 3))
        return result(from_rotation_translation(rotations, centres), valid, "rotation_only", None)


@dataclass
class _Scene:
    """What is known so far: world-to-camera poses of placed frames, and points of known tracks."""

    xy: Array  # [n, p, 2] pixels, NaN where unseen or refused as an outlier
    intrinsics: Intrinsics
    anchor: int  # frame that never moves
    rays: Array  # [n, p, 3] unit, camera axes
    rotations: Array  # [n, 3, 3]
    translations: Array  # [n, 3]
    placed: Mask  # [n]
    points: Array  # [p, 3]
    known: Mask  # [p]

    @property
    def seen(self) -> Mask:
        return np.isfinite(self.xy[..., 0])


def _reconstruct(
    tracks: Tracks, intrinsics: Intrinsics, pairs: list[Parallax], frames: Frames
) -> _Scene | None:
    """The best of several starts, or None if no start places half of the frames."""
    grown = []
    for pair in _start_pairs(pairs):
        for scene in _starts(tracks, intrinsics, pair):
            _grow(scene)
            if scene.placed.mean() >= 0.5:
                grown.append(scene)
    # Starts that ended in one place need to be finished only once.
    distinct: list[_Scene] = []
    for scene in sorted(grown, key=_explained, reverse=True):
        if _explained(scene) > _MIN_SHARE * _explained(distinct[0] if distinct else scene) and all(
            _gap_deg(scene, other) > _SAME_DEG for other in distinct
        ):
            distinct.append(scene)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    for scene in distinct[:_FINISHED]:
        _polish(scene, grey)
    # The wrong one of a plane's two motions fits almost as many tracks, but less closely.
    return min(distinct[:_FINISHED], key=_rms_error, default=None)


def _gap_deg(a: _Scene, b: _Scene) -> float:
    """RotErr between two reconstructions over the frames that both place."""
    both = a.placed & b.placed
    if both.sum() < 3:
        return np.inf
    gap = score_poses(_c2w(a)[both], _c2w(b)[both], RELEASE).rot_err
    return np.inf if gap is None else gap


def _start_pairs(pairs: list[Parallax]) -> list[Parallax]:
    """The best pairs, no two sharing both ends closely."""
    chosen: list[Parallax] = []
    for pair in sorted(pairs, key=lambda p: -p.weight):
        if len(chosen) == _STARTS:
            break
        span = max(pair.second - pair.first, 1)
        if all(
            abs(pair.first - other.first) + abs(pair.second - other.second) > 0.25 * span
            for other in chosen
        ):
            chosen.append(pair)
    return chosen


def _starts(tracks: Tracks, intrinsics: Intrinsics, pair: Parallax) -> list[_Scene]:
    """Scenes of two placed frames, one for each motion that may lie between them."""
    common = tracks.seen[pair.first] & tracks.seen[pair.second]
    start, end = tracks.xy[pair.first, common], tracks.xy[pair.second, common]
    threshold = 0.3 + 0.5 * intrinsics[2] / 128
    scenes = [
        _start(tracks, intrinsics, pair, motion)
        for motion in relative_poses(start, end, intrinsics, threshold)
    ]
    return [scene for scene in scenes if scene.known.sum() >= _MIN_POINTS]


def _start(
    tracks: Tracks, intrinsics: Intrinsics, pair: Parallax, motion: tuple[Array, Array]
) -> _Scene:
    """A scene of two frames, the first at the origin."""
    n, p = tracks.xy.shape[:2]
    scene = _Scene(
        tracks.xy.copy(),
        intrinsics,
        pair.first,
        bearings(tracks.xy, intrinsics),
        np.tile(np.eye(3), (n, 1, 1)),
        np.zeros((n, 3)),
        np.zeros(n, dtype=bool),
        np.zeros((p, 3)),
        np.zeros(p, dtype=bool),
    )
    scene.rotations[pair.second], scene.translations[pair.second] = motion[0], motion[1]
    scene.placed[[pair.first, pair.second]] = True
    _triangulate(scene)
    if scene.known.sum() >= _MIN_POINTS:
        _adjust(scene, limit=_ADJUST_POINTS[0], iterations=15)
    return scene


def _grow(scene: _Scene) -> None:
    """Place all frames that can be placed."""
    since_adjusted = 0
    while True:
        fresh = 0
        refused = np.zeros(len(scene.placed), dtype=bool)
        while fresh < _GROW:
            support = (scene.seen & scene.known).sum(axis=1)
            support[scene.placed | refused] = 0
            frame = int(np.argmax(support))
            if support[frame] < _MIN_POINTS:
                break
            if _place(scene, frame):
                fresh += 1
            else:
                refused[frame] = True
        if fresh == 0:
            break
        _triangulate(scene)
        since_adjusted += fresh
        if since_adjusted >= _ADJUST_EVERY:
            _adjust(scene, limit=_ADJUST_POINTS[0], iterations=4)
            _triangulate(scene)
            since_adjusted = 0


def _polish(scene: _Scene, grey: npt.NDArray[np.uint8]) -> None:
    """Adjust everything, settling tracks and refusing outliers in between."""
    for _ in range(_ROUNDS):
        _adjust(scene, limit=_ADJUST_POINTS[1], iterations=12)
        _settle(scene, grey)
        _refuse_outliers(scene)
        _triangulate(scene)
    _adjust(scene, limit=_ADJUST_POINTS[1], iterations=12)


def _settle(scene: _Scene, grey: npt.NDArray[np.uint8]) -> None:
    """Look known points up again in all placed frames."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    scene.xy[np.ix_(frames, known)] = settle_tracks(
        grey[frames],
        scene.xy[np.ix_(frames, known)],
        scene.rotations[frames],
        scene.translations[frames],
        scene.points[known],
        scene.intrinsics,
    )


def _explained(scene: _Scene) -> int:
    """Observations that known points meet within the width of a good track."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    if len(known) == 0:
        return 0
    observed = Observations.of(scene.xy[np.ix_(frames, known)])
    error, depth = _residuals(scene, frames, known, observed)
    return int(((error < _GOOD_PX) & (depth > 0)).sum())


def _refuse_outliers(scene: _Scene) -> None:
    """Unsee observations far outside the spread of the others."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    observed = Observations.of(scene.xy[np.ix_(frames, known)])
    error, _ = _residuals(scene, frames, known, observed)
    bad = error > max(_OUTLIER * np.median(error), 0.1)
    scene.xy[frames[observed.camera[bad]], known[observed.point[bad]]] = np.nan


def _place(scene: _Scene, frame: int) -> bool:
    """PnP from the nearest placed frame."""
    placed = np.flatnonzero(scene.placed)
    nearest = int(placed[np.argmin(np.abs(placed - frame))])
    visible = scene.known & scene.seen[frame]
    points, xy = scene.points[visible], scene.xy[frame, visible]
    rotation, translation = adjust_pose(
        scene.rotations[nearest], scene.translations[nearest], points, xy, scene.intrinsics
    )
    pixels, local = project(rotation, translation, points, scene.intrinsics)
    good = (np.linalg.norm(pixels - xy, axis=1) < _MAX_ERROR_PX) & (local[:, 2] > 0)
    if good.sum() < _MIN_POINTS or good.mean() < 0.5:
        return False
    scene.rotations[frame], scene.translations[frame] = rotation, translation
    scene.placed[frame] = True
    return True


def _triangulate(scene: _Scene) -> None:
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


def _drop_bad_points(scene: _Scene) -> None:
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
    scene: _Scene, frames: npt.NDArray[np.intp], points: npt.NDArray[np.intp], at: Observations
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


def _adjust(scene: _Scene, limit: int, iterations: int) -> None:
    """Bundle adjustment over placed frames and the `limit` longest tracks; the other points
    follow the cameras."""
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    length = scene.seen[np.ix_(frames, known)].sum(axis=0)
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


def _c2w(scene: _Scene) -> Array:
    return invert(from_rotation_translation(scene.rotations, scene.translations))


def _rms_error(scene: _Scene) -> float:
    frames, known = np.flatnonzero(scene.placed), np.flatnonzero(scene.known)
    observed = Observations.of(scene.xy[np.ix_(frames, known)])
    error, _ = _residuals(scene, frames, known, observed)
    return float(np.sqrt(np.mean(error**2)))


def _rotations(tracks: Tracks, intrinsics: Intrinsics, rounds: int = 8) -> tuple[Array, Mask]:
    """Camera-to-world orientations [n, 3, 3] of a clip without parallax, and which are known.

    Rotations are chained between neighbours, then tracks (as directions) and orientations are
    re-estimated in turn, which spreads the drift of the chain over all tracks.
    """
    rays, seen = np.nan_to_num(bearings(tracks.xy, intrinsics)), tracks.seen
    rotations, valid = np.tile(np.eye(3), (len(rays), 1, 1)), np.zeros(len(rays), dtype=bool)
    valid[0] = True
    for index in range(1, len(rays)):
        common = seen[index] & seen[index - 1]
        if common.sum() < _MIN_POINTS:
            break
        step = fit_rotation(rays[index, common], rays[index - 1, common])
        rotations[index], valid[index] = rotations[index - 1] @ step, True
    for _ in range(rounds):
        world = np.einsum("nij,npj->npi", rotations, rays) * (seen & valid[:, None])[..., None]
        mean = world.sum(axis=0)
        mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9)
        for index in map(int, np.flatnonzero(valid)):
            rotations[index] = fit_rotation(rays[index, seen[index]], mean[seen[index]], 2)
    return rotations, valid
