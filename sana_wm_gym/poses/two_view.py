"""Geometry of two frames: rotation, parallax, essential matrix, depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.poses.protocol import Intrinsics
from sana_wm_gym.poses.tracks import Tracks

Array = npt.NDArray[np.float64]

_MIN_COMMON = 24  # tracks that two frames must share to be compared
_GRID = 24  # frames tried as members of the start pair


@dataclass(frozen=True)
class Parallax:
    """How a frame pair moves.

    Attributes:
        first: Frame index.
        second: Later frame index.
        common: Tracks seen in both.
        residual_px: Median image distance left after the best pure rotation.
        motion_px: Median image distance without it.
    """

    first: int
    second: int
    common: int
    residual_px: float
    motion_px: float

    @property
    def weight(self) -> float:
        """Fitness as a start pair: parallax counts, and so do the tracks that show it."""
        return self.residual_px * float(np.sqrt(self.common))


def bearings(xy: Array, intrinsics: Intrinsics) -> Array:
    """Unit rays [..., 3] through pixels [..., 2]."""
    fx, fy, cx, cy = intrinsics
    rays = np.stack(
        [(xy[..., 0] - cx) / fx, (xy[..., 1] - cy) / fy, np.ones(xy.shape[:-1])], axis=-1
    )
    return np.asarray(rays / np.linalg.norm(rays, axis=-1, keepdims=True))


def fit_rotation(start: Array, end: Array, iterations: int = 6) -> Array:
    """Rotation [3, 3] that takes unit rays `start` [n, 3] to `end`, robust to outliers.

    Weighted Kabsch, each ray weighted by the inverse of its residual (least absolute deviation).
    """
    weight = np.ones(len(start))
    rotation = np.eye(3)
    for _ in range(iterations):
        u, _, vt = np.linalg.svd((end * weight[:, None]).T @ start)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        residual = np.linalg.norm(end - start @ rotation.T, axis=1)
        weight = 1.0 / np.maximum(residual, 1e-4)
    return rotation


def parallaxes(tracks: Tracks, intrinsics: Intrinsics) -> list[Parallax]:
    """Compare frames of a coarse grid pairwise; pairs with too few common tracks are left out."""
    frames = np.unique(np.linspace(0, len(tracks.xy) - 1, _GRID).round().astype(int))
    rays, seen = bearings(tracks.xy, intrinsics), tracks.seen
    focal = 0.5 * (intrinsics[0] + intrinsics[1])
    found = []
    for position, first in enumerate(frames):
        for second in frames[position + 1 :]:
            common = seen[first] & seen[second]
            count = int(common.sum())
            if count < _MIN_COMMON:
                continue
            start, end = rays[first, common], rays[second, common]
            rotation = fit_rotation(start, end)
            residual = focal * np.median(np.linalg.norm(end - start @ rotation.T, axis=1))
            motion = np.median(
                np.linalg.norm(tracks.xy[second, common] - tracks.xy[first, common], axis=1)
            )
            found.append(Parallax(int(first), int(second), count, residual, float(motion)))
    return found


def relative_poses(
    start: Array, end: Array, intrinsics: Intrinsics, threshold_px: float
) -> list[tuple[Array, Array]]:
    """Motions x_end = R x_start + t, |t| = 1, that may explain pixels [n, 2] seen twice.

    One comes from the essential matrix. Points on one plane fit two motions equally well and the
    essential matrix picks blindly, so where a homography explains most points its motions follow.

    Source: Nister, IEEE TPAMI 26(6), 2004; Malis and Vargas, INRIA RR-6303, 2007.
    """
    fx, fy, cx, cy = intrinsics
    camera = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    motions: list[tuple[npt.ArrayLike, npt.ArrayLike]] = []
    cv2.setRNGSeed(0)
    essential, inliers = cv2.findEssentialMat(
        start, end, camera, method=cv2.RANSAC, prob=0.9999, threshold=threshold_px
    )
    if essential is not None and essential.shape == (3, 3):
        _, turn, shift, _ = cv2.recoverPose(essential, start, end, camera, mask=inliers)
        motions.append((turn, shift))
    homography, inliers = cv2.findHomography(start, end, cv2.RANSAC, threshold_px)
    if homography is not None and inliers.mean() >= 0.5:
        rays = bearings(start[inliers.ravel() > 0], intrinsics)
        _, turns, shifts, normals = cv2.decomposeHomographyMat(homography, camera)
        for turn, shift, normal in zip(turns, shifts, normals, strict=True):
            # The plane is in front of the camera, and the camera moves.
            if np.mean(rays @ normal > 0) > 0.5 and np.linalg.norm(shift) > 1e-3:
                motions.append((turn, shift / np.linalg.norm(shift)))
    return [
        (np.asarray(turn, dtype=np.float64), np.asarray(shift, dtype=np.float64).ravel())
        for turn, shift in motions
    ]


def triangulate(centres: Array, rays: Array, seen: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Points closest to all their rays, and the widest angle between them.

    Args:
        centres: Camera centres [c, 3].
        rays: Unit rays in world axes [c, p, 3]; not read where `seen` is False.
        seen: bool [c, p]; every point is seen at least twice.

    Returns:
        Points [p, 3] and angles [p] in radians, each measured from the point's first ray.
    """
    rays = np.where(seen[..., None], rays, 0.0)
    across = seen[..., None, None] * np.eye(3) - rays[..., :, None] * rays[..., None, :]
    normal = across.sum(axis=0) + 1e-9 * np.eye(3)
    right = np.einsum("cpij,cj->pi", across, centres)
    points = np.linalg.solve(normal, right[..., None])[..., 0]
    first = rays[np.argmax(seen, axis=0), np.arange(seen.shape[1])]
    cosine = np.where(seen, np.einsum("cpi,pi->cp", rays, first), 1.0)
    return points, np.arccos(np.clip(cosine.min(axis=0), -1.0, 1.0))
