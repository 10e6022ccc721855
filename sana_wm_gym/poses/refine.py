"""Track positions refined once depth and cameras are known.

Lucas-Kanade moves a patch without changing its shape. Walking towards a wall the patch grows, and
its best place without growing is a biased one, alike for all frames, so no later step can average
it out. With a first reconstruction the change of shape is known: each patch is taken from the
middle of its track, drawn as the other camera would see it, and only the remaining shift is
sought.
"""

from __future__ import annotations

from functools import lru_cache
from math import isqrt

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.poses.bundle import Cameras, project
from sana_wm_gym.poses.protocol import Intrinsics

Array = npt.NDArray[np.float64]

_ITERATIONS = 4
_FARTHEST_PX = 1.0  # from where the track had it
_LEAST_CORRELATION = 0.8


def refine_tracks(
    frames: npt.NDArray[np.uint8],
    xy: Array,
    cameras: Cameras,
    points: Array,
    intrinsics: Intrinsics,
    radius: int = 3,
) -> Array:
    """Positions refined to what the patches show.

    Args:
        frames: Grey uint8 [n, height, width].
        xy: Tracks [n, p, 2] in pixels, NaN where unseen; every track is seen at least once.
        cameras: n of them.
        points: World points [p, 3] of the tracks.
        intrinsics: (fx, fy, cx, cy) in pixels.
        radius: Of a patch, pixels; it is (2 radius + 1) squared.

    Returns:
        Positions [n, p, 2]; NaN where unseen, and where the patch no longer looks alike.
    """
    seen = np.isfinite(xy[..., 0])
    middle = _middle(seen)
    index = np.arange(len(points))
    home = xy[middle, index]
    world = _patches(home, cameras[middle], points, intrinsics, _offsets(radius))

    template = np.empty(world.shape[:2])
    for frame in np.unique(middle):
        mine = middle == frame
        template[mine] = _sample(frames[frame], home[mine, None] + _offsets(radius))
    template = _centred(template)

    refined = np.full_like(xy, np.nan)
    for frame, image in enumerate(frames):
        mine = np.flatnonzero(seen[frame])
        if len(mine) == 0:
            continue
        drawn, _ = project(cameras[frame], world[mine].reshape(-1, 3), intrinsics)
        drawn = drawn.reshape(len(mine), -1, 2)
        shape = drawn - drawn[:, drawn.shape[1] // 2, None]
        place, correlation = _shift(image, shape, xy[frame, mine], template[mine])
        near = np.linalg.norm(place - xy[frame, mine], axis=1) < _FARTHEST_PX
        kept = near & (correlation > _LEAST_CORRELATION)
        kept |= middle[mine] == frame
        refined[frame, mine[kept]] = place[kept]
    return refined


def _middle(seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Frame of the middle observation of every track [p]."""
    rank = np.cumsum(seen, axis=0)
    return np.argmax(rank >= (rank[-1] + 1) // 2, axis=0)


@lru_cache
def _offsets(radius: int) -> Array:
    """Pixels of a patch about its centre, [(2 radius + 1)^2, 2]."""
    line = np.arange(-radius, radius + 1, dtype=np.float64)
    return np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)


@lru_cache
def _weights(size: int) -> Array:
    """Gaussian window over a patch of `size` pixels, sums to one."""
    radius = (isqrt(size) - 1) // 2
    weights = np.exp(-0.5 * np.sum((_offsets(radius) / (0.6 * radius)) ** 2, axis=1))
    return np.asarray(weights / weights.sum())


def _patches(
    home: Array, cameras: Cameras, points: Array, intrinsics: Intrinsics, offsets: Array
) -> Array:
    """World points [p, patch, 3] under the pixels of each patch, taken to face the camera."""
    fx, fy, cx, cy = intrinsics
    _, centres = project(cameras, points, intrinsics)
    depth = centres[:, 2, None]
    pixels = home[:, None] + offsets
    local = np.stack(
        [
            (pixels[..., 0] - cx) / fx * depth,
            (pixels[..., 1] - cy) / fy * depth,
            np.broadcast_to(depth, pixels.shape[:2]),
        ],
        axis=-1,
    )
    return np.einsum("pji,pkj->pki", cameras.rotations, local - cameras.translations[:, None])


def _sample(image: npt.NDArray[np.integer | np.floating], xy: Array) -> Array:
    """Values at pixels [m, k, 2], edges repeated."""
    where = (xy - 0.5).astype(np.float32)
    values = cv2.remap(
        image.astype(np.float32),
        where[..., 0],
        where[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return values.astype(np.float64)


def _centred(patches: Array) -> Array:
    """Patches [m, k] with zero weighted mean and unit weighted norm."""
    weights = _weights(patches.shape[1])
    centred = patches - (patches @ weights)[:, None]
    norm = np.sqrt(centred**2 @ weights)
    return centred / np.maximum(norm, 1e-6)[:, None]


def _shift(
    image: npt.NDArray[np.uint8], shape: Array, start: Array, template: Array
) -> tuple[Array, Array]:
    """Gauss-Newton over the two shifts of every patch.

    Args:
        image: Grey frame.
        shape: Patch pixels about the centre as this camera sees them, [m, k, 2].
        start: First guess of the centres [m, 2].
        template: Normalised grey values to find, [m, k].

    Returns:
        Centres [m, 2] and correlation with the template [m].
    """
    weights = _weights(template.shape[1])
    place = start
    grey = image.astype(np.float32)
    kernel = np.array([[-0.5, 0.0, 0.5]], np.float32)
    slopes = [np.asarray(cv2.filter2D(grey, -1, k)) for k in (kernel, kernel.T)]
    for _ in range(_ITERATIONS):
        at = place[:, None] + shape
        raw = _sample(image, at)
        gradient = np.stack([_sample(slope, at) for slope in slopes], axis=-1)
        contrast = np.sqrt((raw - (raw @ weights)[:, None]) ** 2 @ weights)[:, None]
        gradient -= np.einsum("mki,k->mi", gradient, weights)[:, None]
        residual = _centred(raw) * contrast - template * contrast
        normal = np.einsum("mki,mkj,k->mij", gradient, gradient, weights)
        right = np.einsum("mki,mk,k->mi", gradient, residual, weights)
        normal += 1e-2 * np.eye(2)
        move = np.linalg.solve(normal, right[..., None])[..., 0]
        place = place - np.clip(move, -0.5, 0.5)
    correlation = (_centred(_sample(image, place[:, None] + shape)) * template) @ weights
    return place, correlation
