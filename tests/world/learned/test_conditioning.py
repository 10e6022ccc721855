"""What the generator reads of cameras: ray matrices, Pluecker maps, and waves over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.models.transformer import Conditioning
from sana_wm_gym.world.learned.conditioning import chunk_conditioning

SIZE, GRID = (32, 48), (4, 6)


def made(frequencies: tuple[float, ...], first: bool = True, **anchor: float) -> Conditioning:
    """Of two cameras that walk and turn, from a place of their own."""
    c2w = np.tile(np.eye(4), (2, 25, 1, 1))
    for frame in range(25):
        c2w[:, frame, :3, :3] = rotation_y(0.02 * frame)
        c2w[:, frame, 2, 3] = 0.04 * frame
    c2w[1, :, 0, 3] = -0.02 * np.arange(25)
    place = np.eye(4)
    place[:3, :3] = rotation_y(anchor.get("yaw", 0.0))
    place[0, 3] = anchor.get("x", 0.0)
    intrinsics = np.broadcast_to(np.array([30.0, 30.0, 24.0, 16.0]), (2, 25, 4))
    return chunk_conditioning(place @ c2w, intrinsics, SIZE, GRID, first, frequencies)


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("frequencies", [(3.0,), (1.5, 3.0, 6.0, 12.0)])
def test_waves_follow_the_pluecker_maps(frequencies: tuple[float, ...], first: bool) -> None:
    plain, waves = made((), first), made(frequencies, first)
    assert plain.plucker is not None and waves.plucker is not None
    assert plain.plucker.shape == (2, 48, 4 if first else 3, *GRID)
    assert waves.plucker.shape[1] == 48 * (1 + 2 * len(frequencies))
    assert waves.plucker.dtype == torch.float32
    maps, *parts = waves.plucker.split(48, dim=1)
    assert torch.equal(maps, plain.plucker)
    for index, frequency in enumerate(frequencies):
        assert torch.equal(parts[2 * index], torch.sin(frequency * maps))
        assert torch.equal(parts[2 * index + 1], torch.cos(frequency * maps))
    assert waves.ray_from_world is not None and plain.ray_from_world is not None
    assert torch.equal(waves.ray_from_world, plain.ray_from_world)


def test_no_frequencies_are_the_released_conditioning() -> None:
    from sana_wm_gym.camera.rays import latent_cameras, latent_intrinsics, plucker_windows

    c2w = np.tile(np.eye(4), (1, 25, 1, 1))
    c2w[0, :, 2, 3] = 0.04 * np.arange(25)
    intrinsics = np.broadcast_to(np.array([30.0, 30.0, 24.0, 16.0]), (1, 25, 4))
    cameras = latent_cameras(c2w, latent_intrinsics(intrinsics, SIZE, GRID))
    given = chunk_conditioning(c2w, intrinsics, SIZE, GRID, True)
    assert given.plucker is not None
    assert given.plucker.numpy().tobytes() == plucker_windows(cameras, *GRID).tobytes()


def test_another_place_is_another_conditioning() -> None:
    here, there, turned = made((1.5,)), made((1.5,), x=1.0), made((1.5,), yaw=0.5)
    assert here.plucker is not None
    for other in (there, turned):
        assert other.plucker is not None
        assert (other.plucker - here.plucker).abs().max() > 0.1
