"""From a chunk's cameras to what the generator reads."""

from __future__ import annotations

import numpy as np
import torch

from sana_wm_gym.camera.rays import (
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
    frequencies: tuple[float, ...] = (),
) -> Conditioning:
    """Conditioning of one chunk for a batch of worlds.

    Args:
        c2w: Poses in the frame that the generator is given cameras in, [b, n + 1, 4, 4]: the last
            pose of the previous chunk (frame 0 at the start), then the chunk's n = 8k video
            frames. For the released models this frame is each rollout's first camera.
        intrinsics: (fx, fy, cx, cy) in pixels of the frames, [b, n + 1, 4].
        image_size: Frame (height, width).
        grid_size: Latent (rows, columns).
        first: Whether the chunk is the first of its rollout; then it has k + 1 latent frames.
        frequencies: In radians per unit; sine and cosine of every Pluecker coordinate at each of
            them are appended to the Pluecker maps. Released models have none.

    Returns:
        Ray matrices [b, f, h, w, 4, 4] and Pluecker maps [b, 48 (1 + 2 m), f, h, w] for m
        frequencies, both float32.
    """
    cells = latent_intrinsics(intrinsics, image_size, grid_size)
    if first:
        cameras = latent_cameras(c2w, cells)
    else:
        cameras = next_latent_cameras(c2w[:, 1:], cells[:, 1:])
    rays = ray_matrices(cameras.c2w, cameras.intrinsics, *grid_size)
    maps = torch.from_numpy(np.ascontiguousarray(plucker_windows(cameras, *grid_size)))
    waves = [wave(maps * k) for k in frequencies for wave in (torch.sin, torch.cos)]
    return Conditioning(
        ray_from_world=torch.from_numpy(np.ascontiguousarray(rays)),
        plucker=torch.cat([maps, *waves], dim=1),
    )
