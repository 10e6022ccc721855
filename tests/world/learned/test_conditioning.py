"""What the generator reads of cameras: ray matrices, Pluecker maps, and waves over them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from camera_paths import poses_ahead

from sana_wm_gym.camera.rays import latent_cameras, latent_intrinsics, plucker_windows
from sana_wm_gym.models.transformer import Conditioning
from sana_wm_gym.world.learned.conditioning import chunk_conditioning

SIZE, GRID = (32, 48), (4, 6)
C2W = np.stack([poses_ahead(range(25), 0.04, 0.02) for _ in range(2)])
C2W[1, :, 0, 3] = -0.02 * np.arange(25)
INTRINSICS = np.broadcast_to(np.array([30.0, 30.0, 24.0, 16.0]), (2, 25, 4))


def made(
    frequencies: tuple[float, ...], first: bool = True, yaw: float = 0.0, x: float = 0.0
) -> Conditioning:
    """Of two cameras that move and turn, from a pose of their own."""
    [anchor] = poses_ahead(range(1, 2), step=0.0, turn=yaw)
    anchor[0, 3] = x
    return chunk_conditioning(anchor @ C2W, INTRINSICS, SIZE, GRID, first, frequencies)


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
    cameras = latent_cameras(C2W, latent_intrinsics(INTRINSICS, SIZE, GRID))
    given = chunk_conditioning(C2W, INTRINSICS, SIZE, GRID, True).plucker
    assert given is not None
    assert given.numpy().tobytes() == plucker_windows(cameras, *GRID).tobytes()


def test_another_place_is_another_conditioning() -> None:
    here, there, turned = made((1.5,)), made((1.5,), x=1.0), made((1.5,), yaw=0.5)
    assert here.plucker is not None
    for other in (there, turned):
        assert other.plucker is not None
        assert (other.plucker - here.plucker).abs().max() > 0.1
