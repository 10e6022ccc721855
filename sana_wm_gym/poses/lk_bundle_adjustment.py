"""Poses from pixels on a CPU: Lucas-Kanade tracks, a two-view start, PnP, bundle adjustment.

frames -> tracks -> (parallax?) -> start pairs -> race on key frames -> all frames -> poses

A clip without parallax has no centres to find: it is solved for orientation alone. The result is
known up to one similarity; scale comes from the start pair's unit baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import (
    from_rotation_translation,
    geodesic_angle,
    nearest_rotation,
    relative_to_first,
)
from sana_wm_gym.poses.protocol import (
    EstimatorInfo,
    Frames,
    Intrinsics,
    Mode,
    PoseEstimate,
    check_input,
)
from sana_wm_gym.poses.reconstruction import (
    Reconstruction,
    grow,
    polish,
    start_reconstruction,
    widen,
)
from sana_wm_gym.poses.rotation_only import orientations
from sana_wm_gym.poses.tracks import Tracks, choose_settings, grey_frames, track_points
from sana_wm_gym.poses.two_view import Parallax, parallaxes, relative_poses

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_STILL_PX = 0.1  # median image motion of a clip in which nothing moves
_STARTS = 2  # start pairs tried, each with up to three motions
_RACE = 32  # key frames that every start must explain before one is chosen
_SAME_DEG = 0.3  # RotErr under which two reconstructions are one
_MIN_FRACTION = 0.8  # of the best one's observations that another must explain to compete
_FINISHED = 2  # reconstructions adjusted to the end
_KEYS_PER_TRACK = 5  # key frames in a track of median length
_MAX_STRIDE = 4  # frames between key frames
_ALL = 241  # frames up to which all are adjusted together


@dataclass(frozen=True)
class LKBundleAdjustment:
    """The default estimator; needs no weights and no GPU.

    Frames are tracked at full rate. Key frames carry the reconstruction; up to 241 frames are
    adjusted together, those between the key frames of a longer clip are placed on its points.
    Measured floors: `floors.floor_of`.

    Source: steps and thresholds are classical structure from motion (Hartley and Zisserman,
    "Multiple View Geometry", 2004) on optical-flow tracks.
    """

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame; see `PoseEstimator.estimate`. `fps` is not used."""
        frames, used, assumed = check_input(frames, intrinsics, fps)
        tracks = track_points(frames, choose_settings(frames))
        pairs = parallaxes(tracks, used) if len(frames) > 1 else []

        def result(c2w: Array, valid: Mask, mode: Mode, error: float | None) -> PoseEstimate:
            name, version = "lk_bundle_adjustment", "2"
            info = EstimatorInfo(
                name, version, "estimated", mode, error, used, assumed, tracks.settings.name
            )
            return PoseEstimate.of(c2w, valid, info)

        still = np.tile(np.eye(4), (len(frames), 1, 1))
        if not pairs:
            # Nothing could be followed. Frame 0 alone is where it is by definition.
            return result(still, np.arange(len(frames)) < 1, "static", None)
        if max(pair.motion_px for pair in pairs) < _STILL_PX:
            return result(still, np.ones(len(frames), dtype=bool), "static", None)
        threshold = 0.25 + 0.6 * frames.shape[2] / 256
        if max(pair.residual_px for pair in pairs) >= threshold:
            best = _reconstruct(tracks, used, frames)
            if best is not None:
                return result(best.c2w, best.placed, "full", best.rms_error())
        rotations, valid, error = orientations(tracks, used)
        c2w = from_rotation_translation(rotations, np.zeros((len(frames), 3)))
        return result(c2w, valid, "rotation_only", error)


def _reconstruct(tracks: Tracks, intrinsics: Intrinsics, frames: Frames) -> Reconstruction | None:
    """The best of several starts, carried to all frames; None if it places under half."""
    n = len(frames)
    keys = _key_frames(tracks)
    grey, radius = grey_frames(frames, tracks.settings), tracks.settings.refine_radius
    on_keys = Tracks(tracks.xy[keys], tracks.settings)
    finished = _race(on_keys, intrinsics, grey[keys], radius)
    if not finished:
        return None
    # The wrong one of a plane's two motions fits almost as many tracks, but less closely.
    best = min(finished, key=Reconstruction.rms_error)
    grow(best)
    if n <= _ALL:
        best = widen(best, tracks.xy, keys)
        grow(best)
        polish(best, grey, radius, rounds=1)
    else:
        polish(best, grey[keys], radius, rounds=1)
        best = widen(best, tracks.xy, keys)
        grow(best, adjusted=False)
    return best if best.placed.mean() >= 0.5 else None


def _key_frames(tracks: Tracks) -> npt.NDArray[np.intp]:
    """Frames close enough for a usual track to be seen in several of them."""
    n = len(tracks.xy)
    length = float(np.median(tracks.seen.sum(axis=0)))
    stride = int(np.clip(length // _KEYS_PER_TRACK, 1, _MAX_STRIDE))
    stride = max(stride, -(-n // _ALL))
    return np.arange(0, n, stride)


def _race(
    tracks: Tracks, intrinsics: Intrinsics, grey: npt.NDArray[np.uint8], radius: int
) -> list[Reconstruction]:
    """Reconstructions of part of a clip that differ and explain it about equally well."""
    enough = min(_RACE, len(tracks.xy))
    grown = []
    for pair in _start_pairs(parallaxes(tracks, intrinsics)):
        common = tracks.seen[pair.first] & tracks.seen[pair.second]
        ends = tracks.xy[pair.first, common], tracks.xy[pair.second, common]
        for motion in relative_poses(*ends, intrinsics, 0.3 + 0.5 * intrinsics[2] / 128):
            scene = start_reconstruction(tracks.xy, intrinsics, pair.first, pair.second, motion)
            if scene is None:
                continue
            grow(scene, enough)
            if scene.placed.sum() >= 0.5 * enough:
                grown.append(scene)
    # Starts that ended in one place need to be finished only once.
    grown.sort(key=Reconstruction.explained, reverse=True)
    distinct: list[Reconstruction] = []
    for scene in grown:
        if scene.explained() > _MIN_FRACTION * grown[0].explained() and all(
            _gap_deg(scene, other) > _SAME_DEG for other in distinct
        ):
            distinct.append(scene)
    for scene in distinct[:_FINISHED]:
        polish(scene, grey, radius, rounds=2)
    return distinct[:_FINISHED]


def _gap_deg(a: Reconstruction, b: Reconstruction) -> float:
    """Mean angle between the orientations of two reconstructions, in frames that both place, after
    their mean offset is taken out: RotErr under `release`."""
    both = a.placed & b.placed
    if both.sum() < 3:
        return np.inf
    ours, theirs = (relative_to_first(scene.c2w[both])[:, :3, :3] for scene in (a, b))
    offset = nearest_rotation(np.mean(ours @ theirs.transpose(0, 2, 1), axis=0))
    return float(np.mean(np.rad2deg(geodesic_angle(theirs, offset.T @ ours))))


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
