"""From a chunk's cameras to what the generator reads."""

from __future__ import annotations

import numpy as np
import torch

from sana_wm_gym.camera.rays import (
    LatentCameras,
    latent_cameras,
    latent_intrinsics,
    next_latent_cameras,
    plucker_windows,
    ray_matrices,
)
from sana_wm_gym.models.transformer import Conditioning


def chunk_conditioning(
    c2w: np.ndarray,
    intrinsics: np.ndarray,
    image_size: tuple[int, int],
    grid_size: tuple[int, int],
    first: bool,
) -> Conditioning:
    """Conditioning of one chunk for a batch of worlds.

    Args:
        c2w: Poses relative to each rollout's first frame, [b, n + 1, 4, 4]: the last pose of the
            previous chunk (frame 0 at the start), then the chunk's n = 8k video frames.
        intrinsics: (fx, fy, cx, cy) in pixels of the frames, [b, n + 1, 4].
        image_size: Frame (height, width).
        grid_size: Latent (rows, columns).
        first: Whether the chunk is the first of its rollout; then it has k + 1 latent frames.

    Returns:
        Ray matrices [b, f, h, w, 4, 4] and Pluecker maps [b, 48, f, h, w] as float32.
    """
    cells = latent_intrinsics(intrinsics, image_size, grid_size)
    if first:
        cameras = latent_cameras(c2w, cells)
    else:
        cameras = next_latent_cameras(c2w[:, 1:], cells[:, 1:])
    return conditioning_of(cameras, grid_size)


def conditioning_of(cameras: LatentCameras, grid_size: tuple[int, int]) -> Conditioning:
    """Conditioning of latent cameras [b, f, ...] on a grid of (rows, columns)."""
    rows, columns = grid_size
    rays = ray_matrices(cameras.c2w, cameras.intrinsics, rows, columns)
    maps = plucker_windows(cameras, rows, columns)
    return Conditioning(
        ray_from_world=torch.from_numpy(np.ascontiguousarray(rays)),
        plucker=torch.from_numpy(np.ascontiguousarray(maps)),
    )
