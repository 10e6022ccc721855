"""What the generator reads of a camera path: pose vectors, Plücker maps and ray matrices.

A latent frame stands for 8 video frames. Its pose is that of the last of them; its Plücker map
holds all 8. Cells of the latent grid have integer coordinates: cell (row v, column u) looks
along the ray of its top-left corner, not of its centre.

Poses are relative to the first frame of the rollout. All functions take leading batch axes, and
compute in float32, one elementwise operation at a time, so that the result for a frame has the
same bits whatever else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Rounding = Callable[[Array], Array]

FRAMES_PER_LATENT = 8
"""Video frames per latent frame; the first latent frame stands for video frame 0 alone."""

_NORM_EPS = np.float32(1e-6)


def _keep(values: Array) -> Array:
    return values


def round_to_bfloat16(values: npt.NDArray[np.floating]) -> Array:
    """The nearest bfloat16 of each value, ties to even, held in float32."""
    single = np.asarray(values, dtype=np.float32)
    bits = single.view(np.uint32)
    # Adding just under half of the dropped part, plus the last kept bit, carries when it should.
    nearest = (bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(single), single, nearest.view(np.float32))


@dataclass(frozen=True, eq=False)
class LatentCameras:
    """The cameras of T latent frames.

    Attributes:
        c2w: Pose of each latent frame, [..., T, 4, 4].
        intrinsics: (fx, fy, cx, cy) of each latent frame, [..., T, 4].
        window_c2w: Poses of the 8 video frames of each Plücker window, [..., T, 8, 4, 4].
        window_intrinsics: Their intrinsics, [..., T, 8, 4].
    """

    c2w: Array
    intrinsics: Array
    window_c2w: Array
    window_intrinsics: Array


def latent_intrinsics(
    intrinsics: npt.NDArray[np.floating], image_size: tuple[int, int], grid_size: tuple[int, int]
) -> Array:
    """Intrinsics in latent cells from intrinsics in pixels.

    Args:
        intrinsics: (fx, fy, cx, cy) in pixels, [..., 4].
        image_size: Image (height, width) in pixels.
        grid_size: Latent grid (rows, columns).
    """
    y, x = (cells / pixels for cells, pixels in zip(grid_size, image_size, strict=True))
    return np.asarray(intrinsics * np.array([x, y, x, y]), dtype=np.float32)


def latent_cameras(
    c2w: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating]
) -> LatentCameras:
    """Cameras of all latent frames of a clip that starts at video frame 0.

    Latent frame j is at video frame 8j and its window is 8j-7 ... 8j; that of latent frame 0 is
    0 ... 7. A window past the end of the clip repeats the last video frame.

    Args:
        c2w: Poses of F video frames relative to the first, [..., F, 4, 4].
        intrinsics: In latent cells, [..., F, 4].

    Raises:
        ValueError: The shapes are others, or there is no frame.

    Source: SANA-WM (arXiv 2605.15178) and its released inference script.
    """
    c2w, intrinsics = _frames(c2w, intrinsics)
    last = c2w.shape[-3] - 1
    ends = np.arange(0, last + 1, FRAMES_PER_LATENT)
    starts = np.maximum(ends - (FRAMES_PER_LATENT - 1), 0)
    window = np.minimum(starts[:, None] + np.arange(FRAMES_PER_LATENT), last)
    return LatentCameras(
        c2w=c2w[..., ends, :, :],
        intrinsics=intrinsics[..., ends, :],
        window_c2w=c2w[..., window, :, :],
        window_intrinsics=intrinsics[..., window, :],
    )


def next_latent_cameras(
    c2w: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating]
) -> LatentCameras:
    """Cameras of the latent frames that follow, from their new video frames alone.

    The first chunk of a rollout goes through `latent_cameras` with frames 0 ... 24, every later
    chunk through this function: together the bits of one call of `latent_cameras` on the whole.

    Args:
        c2w: Poses of the 8k new video frames relative to frame 0 of the rollout, [..., 8k, 4, 4].
        intrinsics: In latent cells, [..., 8k, 4].

    Raises:
        ValueError: The shapes are others, or the frames do not fill whole latent frames.
    """
    c2w, intrinsics = _frames(c2w, intrinsics)
    frames = c2w.shape[-3]
    if frames % FRAMES_PER_LATENT:
        raise ValueError(
            f"given {frames} new video frames, expected a multiple of {FRAMES_PER_LATENT}"
        )
    window_c2w = c2w.reshape(*c2w.shape[:-3], -1, FRAMES_PER_LATENT, 4, 4)
    window_intrinsics = intrinsics.reshape(*intrinsics.shape[:-2], -1, FRAMES_PER_LATENT, 4)
    return LatentCameras(
        c2w=window_c2w[..., -1, :, :],
        intrinsics=window_intrinsics[..., -1, :],
        window_c2w=window_c2w,
        window_intrinsics=window_intrinsics,
    )


def pose_vectors(cameras: LatentCameras) -> Array:
    """Each latent frame's camera as 20 numbers: row-major c2w, then fx, fy, cx, cy; [..., T, 20].

    SANA-WM's code calls this tensor the raymap.
    """
    flat = cameras.c2w.reshape(*cameras.c2w.shape[:-2], 16)
    return np.concatenate([flat, cameras.intrinsics], axis=-1)


def plucker(c2w: Array, intrinsics: Array, rows: int, columns: int) -> Array:
    """Plücker coordinates of every cell's ray, [..., 6, rows, columns].

    Channels are the unit direction d in world axes, then the moment m = o x d.

    Args:
        c2w: Poses, [..., 4, 4].
        intrinsics: In latent cells, [..., 4].
        rows: Height of the latent grid.
        columns: Width of the latent grid.
    """
    x, y = _image_plane(intrinsics, rows, columns, _keep)
    direction = _unit(_rotate(c2w, np.stack([x, y, np.ones_like(x)], axis=-1)), _keep)
    origin = np.broadcast_to(c2w[..., None, None, :3, 3], direction.shape)
    moment = _cross(origin, direction, _keep)
    return np.moveaxis(np.concatenate([direction, moment], axis=-1), -1, -3)


def plucker_windows(cameras: LatentCameras, rows: int, columns: int) -> Array:
    """Plücker maps of each latent frame's window, [..., 48, T, rows, columns].

    Channels 6r ... 6r+5 belong to video frame r of the window.
    """
    maps = plucker(cameras.window_c2w, cameras.window_intrinsics, rows, columns)
    maps = maps.reshape(*maps.shape[:-4], 6 * FRAMES_PER_LATENT, rows, columns)
    return np.moveaxis(maps, -4, -3)


def ray_matrices(
    c2w: Array, intrinsics: Array, rows: int, columns: int, rounding: Rounding = _keep
) -> Array:
    """Rigid transforms from world to each cell's ray frame (UCPE), [..., rows, columns, 4, 4].

    The ray frame sits at the camera centre; z is the ray, x = (camera y axis) x z, y = z x x, so
    a rolled camera gives rolled ray frames. A cell without a finite ray gets the identity.

    Args:
        c2w: Poses, [..., 4, 4].
        intrinsics: In latent cells, [..., 4].
        rows: Height of the latent grid.
        columns: Width of the latent grid.
        rounding: Applied to the inputs and after every operation. `round_to_bfloat16` imitates
            the released pipeline, which holds the field of view to half a degree and translation
            to 8 significant bits; the default keeps float32.

    Source: unified camera positional encoding as used by SANA-WM (arXiv 2605.15178).
    """
    c2w = rounding(np.asarray(c2w, dtype=np.float32))
    intrinsics = rounding(np.asarray(intrinsics, dtype=np.float32))
    fx = _through_field_of_view(intrinsics[..., 0], columns, rounding)
    fy = _through_field_of_view(intrinsics[..., 1], rows, rounding)
    focal = np.stack([fx, fy, intrinsics[..., 2], intrinsics[..., 3]], axis=-1)
    with np.errstate(invalid="ignore"):
        x, y = _image_plane(focal, rows, columns, rounding)
        squared = rounding(np.float32(1) + rounding(rounding(x * x) + rounding(y * y)))
        depth = rounding(rounding(np.sqrt(squared)) / squared)
        ray = np.stack([rounding(depth * x), rounding(depth * y), depth], axis=-1)
        z = _unit(rounding(_rotate(c2w, ray)), rounding)
        down = np.broadcast_to(c2w[..., None, None, :3, 1], z.shape)
        x_axis = _unit(_cross(down, z, rounding), rounding)
        y_axis = _unit(_cross(z, x_axis, rounding), rounding)
        basis = np.stack([x_axis, y_axis, z], axis=-2)
        origin = c2w[..., None, None, :3, 3]
        matrices = _rigid(basis, -rounding(_dot(basis, origin[..., None, :])))
    lost = np.isnan(matrices).any(axis=(-2, -1), keepdims=True)
    return np.where(lost, np.eye(4, dtype=np.float32), matrices)


def invert_ray_matrices(matrices: Array, rounding: Rounding = _keep) -> Array:
    """Transforms from each cell's ray frame to world: rigid inverses of [..., 4, 4]."""
    rotation = np.swapaxes(matrices[..., :3, :3], -1, -2)
    return _rigid(rotation, -rounding(_dot(rotation, matrices[..., None, :3, 3])))


def _frames(
    c2w: npt.NDArray[np.floating], intrinsics: npt.NDArray[np.floating]
) -> tuple[Array, Array]:
    if c2w.ndim < 3 or c2w.shape[-2:] != (4, 4) or c2w.shape[-3] == 0:
        raise ValueError(f"c2w has shape {c2w.shape}, expected (..., F, 4, 4) with F >= 1")
    if intrinsics.shape != (*c2w.shape[:-2], 4):
        raise ValueError(
            f"intrinsics have shape {intrinsics.shape}, expected {(*c2w.shape[:-2], 4)}"
        )
    return c2w.astype(np.float32), intrinsics.astype(np.float32)


def _through_field_of_view(focal: Array, cells: int, rounding: Rounding) -> Array:
    """Focal length -> field of view in degrees -> focal length, as the released model does.

    Without rounding nothing changes; in bfloat16 the coarse degrees do.
    """
    ratio = rounding(rounding(np.float32(2) * focal) / np.float32(cells))
    half_angle = rounding(np.arctan(rounding(np.float32(1) / ratio)))
    degrees = rounding(np.rad2deg(rounding(np.float32(2) * half_angle)))
    half = rounding(np.deg2rad(rounding(np.float32(0.5) * degrees)))
    adjacent = rounding(np.float32(0.5 * cells) * rounding(np.cos(half)))
    return rounding(adjacent / rounding(np.sin(half)))


def _image_plane(
    intrinsics: Array, rows: int, columns: int, rounding: Rounding
) -> tuple[Array, Array]:
    """Every cell on the plane one unit before the camera: x and y, each [..., rows, columns]."""
    u = np.arange(columns, dtype=np.float32)[None, :]
    v = np.arange(rows, dtype=np.float32)[:, None]
    fx, fy, cx, cy = (intrinsics[..., i, None, None] for i in range(4))
    x, y = rounding(rounding(u - cx) / fx), rounding(rounding(v - cy) / fy)
    shape = np.broadcast_shapes(x.shape, y.shape)
    return np.broadcast_to(x, shape), np.broadcast_to(y, shape)


def _dot(a: Array, b: Array) -> Array:
    # Spelled out: a matrix product may sum in another order when the batch is larger.
    return np.asarray(a[..., 0] * b[..., 0] + a[..., 1] * b[..., 1] + a[..., 2] * b[..., 2])


def _rotate(c2w: Array, vectors: Array) -> Array:
    """Camera vectors [..., rows, columns, 3] in world axes."""
    return _dot(c2w[..., None, None, :3, :3], vectors[..., None, :])


def _unit(vectors: Array, rounding: Rounding) -> Array:
    length = rounding(np.sqrt(_dot(vectors, vectors)))[..., None]
    return rounding(np.asarray(vectors / np.maximum(length, _NORM_EPS), dtype=np.float32))


def _cross(a: Array, b: Array, rounding: Rounding) -> Array:
    following, preceding = [1, 2, 0], [2, 0, 1]
    left = rounding(a[..., following] * b[..., preceding])
    return rounding(left - rounding(a[..., preceding] * b[..., following]))


def _rigid(rotation: Array, translation: Array) -> Array:
    matrices = np.zeros((*rotation.shape[:-2], 4, 4), dtype=np.float32)
    matrices[..., :3, :3] = rotation
    matrices[..., :3, 3] = translation
    matrices[..., 3, 3] = 1.0
    return matrices
