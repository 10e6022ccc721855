"""Poses from pixels on a CPU: Lucas-Kanade tracks, a two-view start, PnP, bundle adjustment.

frames -> tracks -> (parallax?) -> start pairs -> race on key frames -> all frames -> poses

A clip without parallax has no centres to find: it is solved for orientation alone. The result is
known up to one similarity; scale comes from the start pair's unit baseline.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation
from sana_wm_gym.poses.diagnostics import Diagnosis, Solution, better_of, diagnose, rotation_gap_deg
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
from sana_wm_gym.poses.tracks import (
    TrackerSettings,
    Tracks,
    choose_reduction,
    choose_settings,
    grey_frames,
    reduced,
    track_points,
)
from sana_wm_gym.poses.two_view import Parallax, parallaxes, relative_poses

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_STILL_PX = 0.1  # median image motion of a clip in which nothing moves
_STARTS = 2  # start pairs tried, each with up to three motions
_RACE = 32  # key frames that every start must explain before one is chosen
# RotErr in degrees under which two reconstructions are one, by width in pixels.
_SAME_DEG = {64: 0.4, 128: 0.5}
_SAME_DEG_OLD = 0.3
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

    Attributes:
        version: `3`, or `2` to compare with numbers of before. That one takes corners wherever they
            are strongest, frames at their size only and one bound for all sizes on starts that
            are one reconstruction; it measures nothing that speaks against an estimate.
        diagnosed: Whether to estimate the reversed frames too, keep the better of the two, and
            measure what speaks against it, for two and a half times the work.

    Source: steps and thresholds are classical structure from motion (Hartley and Zisserman,
    "Multiple View Geometry", 2004) on optical-flow tracks.
    """

    version: Literal[2, 3] = 3
    diagnosed: bool = True

    def __post_init__(self) -> None:
        if self.version not in (2, 3):
            raise ValueError(f"given version {self.version!r}, expected 2 or 3")

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame; see `PoseEstimator.estimate`. `fps` is not used."""
        frames, used, assumed = check_input(frames, intrinsics, fps)
        diagnosis, reduction = Diagnosis(), 1
        if self.version == 2:
            found = self._solve(frames, used, choose_settings(frames))
        else:
            reduction, settings = choose_reduction(frames)
            small, lens = reduced(frames, reduction), scaled(used, 1 / reduction)
            settings = replace(settings, spread=True)
            found = self._solve(small, lens, settings)
            if self.diagnosed:
                backward = self._solve(small[::-1], lens, settings).reversed()
                found, other = better_of(found, backward)
                diagnosis = diagnose(found, other)
        look, error = found.tracks.settings.name, found.error_px
        info = EstimatorInfo(
            "lk_bundle_adjustment",
            str(self.version),
            "estimated",
            found.mode,
            None if error is None else error * reduction,
            used,
            assumed,
            look if reduction == 1 else f"{look} at 1/{reduction}",
        )
        return replace(PoseEstimate.of(found.c2w, found.valid, info), **vars(diagnosis))

    def _solve(self, frames: Frames, intrinsics: Intrinsics, settings: TrackerSettings) -> Solution:
        old = self.version == 2
        tracks = track_points(frames, settings)
        pairs = parallaxes(tracks, intrinsics) if len(frames) > 1 else []
        still = np.tile(np.eye(4), (len(frames), 1, 1))
        if not pairs:
            # Nothing could be followed. Frame 0 alone is where it is by definition.
            mode: Mode = "static" if old or len(frames) == 1 else "lost"
            return Solution(tracks, intrinsics, mode, still, np.arange(len(frames)) < 1, None)
        if max(pair.motion_px for pair in pairs) < _STILL_PX:
            valid = np.ones(len(frames), dtype=bool)
            return Solution(tracks, intrinsics, "static", still, valid, None)
        threshold = 0.25 + 0.6 * frames.shape[2] / 256
        if max(pair.residual_px for pair in pairs) >= threshold:
            same_deg = _SAME_DEG_OLD if old else same_deg_at(frames.shape[2])
            best = _reconstruct(tracks, intrinsics, frames, same_deg)
            if best is not None:
                error = best.rms_error()
                return Solution(tracks, intrinsics, "full", best.c2w, best.placed, error, best)
        rotations, valid, error_px = orientations(tracks, intrinsics)
        c2w = from_rotation_translation(rotations, np.zeros((len(frames), 3)))
        mode = "rotation_only" if old or valid.mean() >= 0.5 else "lost"
        return Solution(tracks, intrinsics, mode, c2w, valid, error_px)


def scaled(intrinsics: Intrinsics, factor: float) -> Intrinsics:
    """Of frames whose sides are `factor` times as long."""
    fx, fy, cx, cy = intrinsics
    return fx * factor, fy * factor, cx * factor, cy * factor


def same_deg_at(width: int) -> float:
    """RotErr in degrees under which two reconstructions from frames of a width in pixels are one
    that is not adjusted to the end yet."""
    return float(np.interp(width, list(_SAME_DEG), list(_SAME_DEG.values())))


def _reconstruct(
    tracks: Tracks, intrinsics: Intrinsics, frames: Frames, same_deg: float
) -> Reconstruction | None:
    """The best of several starts, carried to all frames; None if it places under half."""
    n = len(frames)
    keys = _key_frames(tracks)
    grey, radius = grey_frames(frames, tracks.settings), tracks.settings.refine_radius
    on_keys = Tracks(tracks.xy[keys], tracks.settings)
    finished = _race(on_keys, intrinsics, grey[keys], radius, same_deg)
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
    tracks: Tracks,
    intrinsics: Intrinsics,
    grey: npt.NDArray[np.uint8],
    radius: int,
    same_deg: float,
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
            _gap_deg(scene, other) > same_deg for other in distinct
        ):
            distinct.append(scene)
    for scene in distinct[:_FINISHED]:
        polish(scene, grey, radius, rounds=2)
    return distinct[:_FINISHED]


def _gap_deg(a: Reconstruction, b: Reconstruction) -> float:
    """RotErr between two reconstructions, in frames that both place; inf under three."""
    gap = rotation_gap_deg(a.c2w, b.c2w, a.placed & b.placed)
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
