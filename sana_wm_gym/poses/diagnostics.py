"""What speaks against a reconstruction: tracks that it does not explain, another focal length."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sana_wm_gym.poses.bundle import Observations, adjust_points, bundle_adjust
from sana_wm_gym.poses.reconstruction import Reconstruction
from sana_wm_gym.poses.two_view import triangulate

Array = npt.NDArray[np.float64]

EXPLAINED_PX = 2.0
"""Mean distance within which a track is explained, pixels."""
LEAST_TRACK = 8
"""Frames of a track that counts: over fewer, any motion fits some depth."""
_STEP = 1.1  # between focal lengths tried
_STEPS = 5  # to either side
_FRAMES, _POINTS = 16, 150  # of the reconstruction that is adjusted anew
_ITERATIONS = 12
_FLAT = 0.05  # rise of the error, relative, by which a focal length is told from its neighbours


def explained_fraction(scene: Reconstruction, xy: Array) -> float | None:
    """Fraction of tracks that some point of a rigid scene explains, seen by the placed cameras.

    Args:
        scene: Cameras to judge by.
        xy: All tracks [n, p, 2] before any was refused, pixels, NaN where unseen.

    Returns:
        In [0, 1]; None without a track of `LEAST_TRACK` placed frames.
    """
    frames = np.flatnonzero(scene.placed)
    seen = np.isfinite(xy[frames, :, 0])
    long = np.flatnonzero(seen.sum(axis=0) >= min(LEAST_TRACK, len(frames)))
    if not len(long) or len(frames) < 2:
        return None
    cameras, seen = scene.cameras[frames], seen[:, long]
    tracks = Reconstruction.empty(xy[np.ix_(frames, long)], scene.intrinsics, 0)
    centres = -np.einsum("cji,cj->ci", cameras.rotations, cameras.translations)
    rays = np.einsum("cji,cpj->cpi", cameras.rotations, tracks.rays)
    points, _ = triangulate(centres, rays, seen)
    observed = Observations.of(tracks.xy, scene.intrinsics)
    points = adjust_points(cameras, points, observed)
    residual, _ = observed.residuals(cameras, points)
    error = np.linalg.norm(residual, axis=1)
    mean = np.bincount(observed.point, error, len(long)) / seen.sum(axis=0)
    return float(np.mean(mean < EXPLAINED_PX))


def best_focal_ratio(scene: Reconstruction) -> float | None:
    """The focal length that explains the tracks best, over the one that was given.

    The reconstruction is adjusted anew at focal lengths around the given one, each from the result
    of its neighbour.

    Returns:
        The ratio at the smallest error; None where the errors hardly differ, as on weak
        perspective.
    """
    frames = np.flatnonzero(scene.placed)
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, _FRAMES).round().astype(int))]
    length = np.isfinite(scene.xy[np.ix_(frames, np.flatnonzero(scene.known))][..., 0]).sum(axis=0)
    points = np.flatnonzero(scene.known)[np.argsort(-length, kind="stable")[:_POINTS]]
    xy = scene.xy[np.ix_(frames, points)]
    seen = np.isfinite(xy[..., 0]).sum(axis=0) >= 3
    xy, points = xy[:, seen], points[seen]
    if len(points) < 20 or len(frames) < 4:
        return None
    fx, fy, cx, cy = scene.intrinsics
    given = Observations.of(xy, scene.intrinsics)

    def sweep(factor: float) -> list[float]:
        cameras, where = scene.cameras[frames], scene.points[points].copy()
        errors, ratio = [], 1.0
        for _ in range(_STEPS + 1):
            lens = (fx * ratio, fy * ratio, cx, cy)
            observed = replace(given, intrinsics=lens)
            cameras, where = bundle_adjust(cameras, where, observed, 0, _ITERATIONS)
            residual, _ = observed.residuals(cameras, where)
            errors.append(float(np.mean(np.minimum(np.linalg.norm(residual, axis=1), 2.0))))
            ratio *= factor
        return errors

    up, down = sweep(_STEP), sweep(1 / _STEP)
    errors = np.array([*down[:0:-1], *up])
    ratios = _STEP ** np.arange(-_STEPS, _STEPS + 1)
    best = int(np.argmin(errors))
    around = errors[max(best - 2, 0)], errors[min(best + 2, len(errors) - 1)]
    if max(around) < (1 + _FLAT) * errors[best]:
        return None
    return float(ratios[best])
