"""Orientation alone: for clips whose camera turns but does not travel.

Without parallax there are no centres to find, and with centres held at zero nothing can trade
rotation for translation. That makes this the steadiest estimator for pans, and a wrong one for
any clip that travels: read RotErr only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import from_rotation_translation
from sana_wm_gym.poses.protocol import EstimatorInfo, Frames, Intrinsics, PoseEstimate, check_input
from sana_wm_gym.poses.tracks import Tracks, choose_settings, track_points
from sana_wm_gym.poses.two_view import bearings, fit_rotation

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MIN_TRACKS = 12  # that must agree on a frame's orientation
_AGREE_PX = 1.5  # image distance at which a track agrees
_ROUNDS = 8  # of re-estimating directions and orientations


@dataclass(frozen=True)
class RotationOnly:
    """Chained robust rotation fits on Lucas-Kanade tracks; centres are returned as zero.

    A frame is valid where at least 12 tracks, and half of all, agree on its orientation to
    1.5 pixels.

    Source: Kabsch, Acta Cryst. A32, 1976, with least-absolute-deviation weights.
    """

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Orient every frame; see `PoseEstimator.estimate`. `fps` is not used."""
        frames, used, assumed = check_input(frames, intrinsics, fps)
        settings = choose_settings(frames)
        rotations, valid, error = orientations(track_points(frames, settings), used)
        c2w = from_rotation_translation(rotations, np.zeros((len(frames), 3)))
        info = EstimatorInfo(
            "rotation_only", "1", "estimated", "rotation_only", error, used, assumed, settings.name
        )
        return PoseEstimate.of(c2w, valid, info)


def orientations(tracks: Tracks, intrinsics: Intrinsics) -> tuple[Array, Mask, float | None]:
    """Camera-to-world orientations of a clip without parallax.

    Every frame is chained to the last one that could be oriented, then tracks (as directions) and
    orientations are re-estimated in turn, which spreads the drift of the chain over all tracks.

    Returns:
        Rotations [n, 3, 3], which of them are known [n], and the root mean square image error of
        agreeing tracks in pixels, None if only the first frame is known.
    """
    rays, seen = np.nan_to_num(bearings(tracks.xy, intrinsics)), tracks.seen
    focal = 0.5 * (intrinsics[0] + intrinsics[1])
    rotations, valid = np.tile(np.eye(3), (len(rays), 1, 1)), np.zeros(len(rays), dtype=bool)
    valid[0], last = True, 0
    for index in range(1, len(rays)):
        common = seen[index] & seen[last]
        if common.sum() < _MIN_TRACKS:
            continue
        there, here = rays[last, common], rays[index, common]
        step = fit_rotation(here, there)
        if _agreement(focal * (here @ step.T - there)) is not None:
            rotations[index], valid[index], last = rotations[last] @ step, True, index
    chained = np.flatnonzero(valid)
    mean = directions(rotations, rays, seen & valid[:, None])
    for _ in range(_ROUNDS):
        for index in map(int, chained):
            rotations[index] = fit_rotation(rays[index, seen[index]], mean[seen[index]], 2)
        mean = directions(rotations, rays, seen & valid[:, None])

    squares = []
    for index in map(int, chained[1:]):
        mine = seen[index]
        error = _agreement(focal * (rays[index, mine] @ rotations[index].T - mean[mine]))
        valid[index] = error is not None
        if error is not None:
            squares.append(error)
    return rotations, valid, float(np.sqrt(np.mean(squares))) if squares else None


def _agreement(gaps: Array) -> float | None:
    """Mean square of the gaps [n, 3] in pixels that are small; None if too few are."""
    distance = np.linalg.norm(gaps, axis=1)
    agree = distance < _AGREE_PX
    if agree.sum() < _MIN_TRACKS or agree.mean() < 0.5:
        return None
    return float(np.mean(distance[agree] ** 2))


def directions(rotations: Array, rays: Array, seen: Mask) -> Array:
    """Mean world direction of every track, unit [p, 3]."""
    world = np.einsum("nij,npj->npi", rotations, rays) * seen[..., None]
    mean = world.sum(axis=0)
    return np.asarray(mean / np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-9))
