"""Exact pinhole rendering of a procedural scene: one ray per sample, boxes met analytically.

Pixel (column u, row v) has its centre at (u + 0.5, v + 0.5). Samples are averaged inside a pixel
and textures are looked up in a copy blurred to the sample's footprint, so that motion does not
alias. Each frame is computed by itself; a batch changes nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.world.procedural.scenes import Scene
from sana_wm_gym.world.procedural.textures import (
    BASE_BLUR,
    BLUR_LEVELS,
    SKY_RADIUS,
    TEXELS_PER_METRE,
)

FloatArray = npt.NDArray[np.float32]
Intrinsics = tuple[float, float, float, float]

_NEAR = 1e-3
_CEILING = 2


def default_intrinsics(height: int, width: int, field_of_view: float = 64.0) -> Intrinsics:
    """(fx, fy, cx, cy) in pixels: square pixels, centred, horizontal field of view in degrees."""
    focal = 0.5 * width / math.tan(math.radians(field_of_view) / 2)
    return focal, focal, width / 2, height / 2


@lru_cache(maxsize=8)
def _camera_rays(intrinsics: Intrinsics, height: int, width: int, samples: int) -> FloatArray:
    """Directions with z = 1 in camera axes, float32 [2, height * samples, width * samples]."""
    fx, fy, cx, cy = intrinsics
    x = ((np.arange(width * samples) + 0.5) / samples - cx) / fx
    y = ((np.arange(height * samples) + 0.5) / samples - cy) / fy
    rays = np.stack(np.meshgrid(x, y)).astype(np.float32)
    rays.setflags(write=False)
    return rays


def _window(corners: npt.NDArray[np.float64], rays: FloatArray) -> tuple[slice, slice] | None:
    """Rows and columns of samples that can see the hull of camera-frame corners [8, 3]."""
    depth = corners[:, 2]
    if depth.max() < _NEAR:
        return None
    if depth.min() < _NEAR:
        return slice(None), slice(None)
    x, y = corners[:, 0] / depth, corners[:, 1] / depth
    left, right = np.searchsorted(rays[0, 0], (x.min() - 1e-5, x.max() + 1e-5))
    top, bottom = np.searchsorted(rays[1, :, 0], (y.min() - 1e-5, y.max() + 1e-5))
    if left == right or top == bottom:
        return None
    return slice(top, bottom), slice(left, right)


def _first_hits(
    scene: Scene, c2w: npt.NDArray[np.float64], rays: FloatArray
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.intp]]:
    """World directions [3, H, W], depth [H, W] and face 6 * solid + f [H, W] of every sample."""
    rotation = c2w[:3, :3].astype(np.float32)
    origin = c2w[:3, 3]
    direction = np.stack([r[0] * rays[0] + r[1] * rays[1] + r[2] for r in rotation])
    inverse = 1 / np.where(np.abs(direction) < 1e-9, np.float32(1e-9), direction)
    reach = np.abs(inverse)
    forward = (direction > 0).astype(np.intp)
    centre = (0.5 * (scene.lower + scene.upper) - origin).astype(np.float32)
    half = (0.5 * (scene.upper - scene.lower)).astype(np.float32)

    exits = inverse * centre[0, :, None, None] + reach * half[0, :, None, None]
    depth = exits.min(0)
    face = _face(exits, depth, forward)
    np.maximum(depth, np.float32(_NEAR), out=depth)

    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
    for solid in range(1, len(centre)):
        corners = (centre[solid] + signs * half[solid]) @ c2w[:3, :3]
        window = _window(corners, rays)
        if window is None:
            continue
        rows, columns = window
        middle = inverse[:, rows, columns] * centre[solid, :, None, None]
        extent = reach[:, rows, columns] * half[solid, :, None, None]
        near = middle - extent
        enter, leave = near.max(0), (middle + extent).min(0)
        old = depth[rows, columns]
        hit = (enter < leave) & (enter > _NEAR) & (enter < old)
        np.copyto(old, enter, where=hit)
        # A ray travelling up an axis meets the lower face of a box.
        met = 6 * solid + _face(near, enter, 1 - forward[:, rows, columns])
        np.copyto(face[rows, columns], met, where=hit)
    return direction, depth, face


def _face(
    bounds: npt.NDArray[Any], bound: FloatArray, side: npt.NDArray[np.intp]
) -> npt.NDArray[np.intp]:
    """The face 2 * axis + side whose bound [3, H, W] is the one that counts, [H, W]."""
    other = np.where(bounds[1] == bound, 2 + side[1], 4 + side[2])
    return np.where(bounds[0] == bound, side[0], other)


def _shade(
    scene: Scene,
    origin: npt.NDArray[np.float64],
    direction: FloatArray,
    depth: FloatArray,
    face: npt.NDArray[np.intp],
    tiles: npt.NDArray[np.intp],
    sample_angle: float,
) -> FloatArray:
    """Look the hits up in the atlas; float32 RGB [H, W, 3] in [0, 255].

    `tiles` is the tile of each face, intp [6 * solids].
    """
    lower, upper = scene.lower[0].astype(np.float32), scene.upper[0].astype(np.float32)
    # Clipped so that a camera outside the room still finds texels of the face it is given.
    x, y, z = (
        np.clip(direction[a] * depth + np.float32(origin[a]), lower[a], upper[a]) for a in range(3)
    )
    axis = face % 6 // 2
    scale = np.float32(TEXELS_PER_METRE)
    map_x = np.where(axis == 0, z, x) * scale
    map_y = np.where(axis == 1, z, y) * scale
    length = np.sqrt(direction[0] ** 2 + direction[1] ** 2 + direction[2] ** 2)
    facing = np.abs(np.where(axis == 0, direction[0], np.where(axis == 1, *direction[1:])))
    # Half the sample's footprint, averaged geometrically over its short and its slanted side.
    spread = (depth * np.float32(0.5 * sample_angle / BASE_BLUR)) ** 2 * length
    level = 0.5 * np.log2(np.maximum(spread / np.maximum(facing, np.float32(1e-6)), 1))
    if scene.open_sky:
        sky = face == _CEILING
        np.copyto(map_x, direction[0] / length * np.float32(SKY_RADIUS), where=sky)
        np.copyto(map_y, direction[2] / length * np.float32(SKY_RADIUS), where=sky)
        level[sky] = 0
    offsets = scene.atlas.offsets[tiles]
    map_x += offsets[:, 0][face]
    map_y += offsets[:, 1][face]

    level = np.minimum(level, np.float32(BLUR_LEVELS - 1))
    whole = np.floor(np.minimum(level, np.float32(BLUR_LEVELS - 1.001)))
    map_y += whole * np.float32(scene.atlas.rows)
    fine = cv2.remap(scene.atlas.texels, map_x, map_y, cv2.INTER_LINEAR).astype(np.float32)
    map_y += np.float32(scene.atlas.rows)
    coarse = cv2.remap(scene.atlas.texels, map_x, map_y, cv2.INTER_LINEAR).astype(np.float32)
    coarse -= fine
    coarse *= (level - whole)[..., None]
    fine += coarse
    return fine


def render(
    scene: Scene,
    c2w: npt.NDArray[np.float64],
    intrinsics: npt.ArrayLike | None = None,
    size: tuple[int, int] = (64, 64),
    samples: int = 2,
) -> npt.NDArray[np.uint8]:
    """Render frames of a scene.

    A camera inside a box looks through it; outside the room, near walls are transparent.

    Args:
        scene: The scene.
        c2w: Camera-to-world poses in scene axes, float64 [n, 4, 4].
        intrinsics: (fx, fy, cx, cy) in pixels, [4] or [n, 4]; None is `default_intrinsics`.
        size: (height, width) in pixels.
        samples: Samples per pixel and axis.

    Returns:
        uint8 [n, height, width, 3] RGB.

    Raises:
        ValueError: Poses or intrinsics of another shape or not finite, or an empty size.
    """
    height, width = size
    frames = np.empty((len(c2w), height, width, 3), np.uint8)
    tiles = scene.shown_tiles()
    if scene.open_sky:
        tiles[_CEILING] = len(scene.atlas.offsets) - 1
    for frame, pose, camera in zip(frames, *_check(c2w, intrinsics, size, samples), strict=True):
        rays = _camera_rays(camera, height, width, samples)
        direction, depth, face = _first_hits(scene, pose, rays)
        angle = 1 / (camera[0] * samples)
        colour = _shade(scene, pose[:3, 3], direction, depth, face, tiles, angle)
        mean = cv2.resize(colour, (width, height), interpolation=cv2.INTER_AREA)
        frame[...] = np.rint(mean)
    return frames


def render_geometry(
    scene: Scene,
    c2w: npt.NDArray[np.float64],
    intrinsics: npt.ArrayLike | None = None,
    size: tuple[int, int] = (64, 64),
) -> tuple[FloatArray, npt.NDArray[np.intp]]:
    """What pixel centres show; arguments and errors as of `render`.

    Returns:
        Depth along the camera's z axis in metres, the sky's that of the ceiling, float32
        [n, height, width]; and the varying surface, intp [n, height, width], an index into
        `scene.surfaces` or -1.
    """
    shape = (len(c2w), *size)
    depths, surfaces = np.empty(shape, np.float32), np.empty(shape, np.intp)
    for frame, (pose, camera) in enumerate(zip(*_check(c2w, intrinsics, size, 1), strict=True)):
        _, depths[frame], face = _first_hits(scene, pose, _camera_rays(camera, *size, 1))
        surfaces[frame] = scene.surface_of[face // 6]
    return depths, surfaces


def _check(
    c2w: npt.NDArray[np.float64],
    intrinsics: npt.ArrayLike | None,
    size: tuple[int, int],
    samples: int,
) -> tuple[npt.NDArray[np.float64], list[Intrinsics]]:
    """Poses and one (fx, fy, cx, cy) per pose, checked."""
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or not np.all(np.isfinite(c2w)):
        raise ValueError(f"c2w must be finite poses [n, 4, 4], got shape {c2w.shape}")
    if min(*size, samples) < 1:
        raise ValueError(f"size and samples must be positive, got {size} and {samples}")
    if intrinsics is None:
        intrinsics = default_intrinsics(*size)
    cameras = np.asarray(intrinsics, np.float64)
    if cameras.shape not in ((4,), (len(c2w), 4)) or not np.all(np.isfinite(cameras)):
        raise ValueError(
            f"intrinsics must be finite (fx, fy, cx, cy), [4] or [{len(c2w)}, 4], "
            f"got shape {cameras.shape}"
        )
    if np.any(cameras[..., :2] <= 0):
        raise ValueError(f"focal lengths must be positive, got {cameras[..., :2].tolist()}")
    rows = np.broadcast_to(cameras, (len(c2w), 4)).tolist()
    return c2w, [(fx, fy, cx, cy) for fx, fy, cx, cy in rows]
