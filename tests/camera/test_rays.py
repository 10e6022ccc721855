"""What the generator reads of a camera path: parity, streaming, numerics."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sana_wm_gym.camera import (
    LatentCameras,
    MotionLimits,
    invert_ray_matrices,
    latent_cameras,
    latent_intrinsics,
    next_latent_cameras,
    plucker,
    plucker_windows,
    pose_vectors,
    ray_matrices,
    relative_to_first,
    rollout,
    round_to_bfloat16,
    twist_to_controls,
)

Arrays = dict[str, npt.NDArray[Any]]
ROWS, COLUMNS = 3, 5
FOCAL = np.array([4.0, 3.0, 2.5, 1.5], dtype=np.float32)


def path(frames: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """A smooth walk of `frames` frames that uses every degree of freedom."""
    action = np.random.default_rng(seed).uniform(-1, 1, 5)
    limits = MotionLimits(0.1, 0.1, 0.1, 0.05, 0.05)
    return rollout(twist_to_controls(action, limits, frames))[:frames]


def cameras(frames: int, seed: int = 0) -> LatentCameras:
    return latent_cameras(path(frames, seed), np.tile(FOCAL, (frames, 1)))


@pytest.mark.parametrize("case", ["small", "full_grid"])
def test_model_inputs_match_the_release(
    model_inputs: Arrays, facts: dict[str, Any], case: str
) -> None:
    size = tuple(facts["model_inputs"][case]["target_size_hw"])
    grid = (size[0] // 32, size[1] // 32)
    latent = latent_cameras(
        relative_to_first(model_inputs[f"{case}_c2w"].astype(np.float64)),
        latent_intrinsics(model_inputs[f"{case}_intrinsics"], size, grid),
    )
    matrices = ray_matrices(latent.c2w, latent.intrinsics, *grid)
    ours = {
        "raymap": pose_vectors(latent),
        "chunk_plucker": plucker_windows(latent, *grid),
        "raymats": matrices[None],
        "raymats_inv": invert_ray_matrices(matrices).reshape(1, -1, 4, 4),
    }
    for name, values in ours.items():
        if f"{case}_{name}" in model_inputs:
            reference = model_inputs[f"{case}_{name}"]
            assert values.shape == reference.shape
            assert np.allclose(values, reference, rtol=1e-5, atol=1e-5), name


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 99))
def test_streaming_equals_offline_bit_for_bit(chunks: int, latents: int, seed: int) -> None:
    frames = 1 + 8 * latents * (chunks + 1)
    c2w, intrinsics = path(frames, seed), np.linspace(FOCAL, FOCAL * 1.1, frames)
    step = 8 * latents
    parts = [latent_cameras(c2w[: step + 1], intrinsics[: step + 1])]
    for start in range(step + 1, frames, step):
        chunk = slice(start, start + step)
        parts.append(next_latent_cameras(c2w[chunk], intrinsics[chunk]))
    whole = latent_cameras(c2w, intrinsics)

    poses = np.concatenate([pose_vectors(part) for part in parts])
    assert (poses == pose_vectors(whole)).all()
    maps = np.concatenate([plucker_windows(part, ROWS, COLUMNS) for part in parts], axis=1)
    assert (maps == plucker_windows(whole, ROWS, COLUMNS)).all()
    for rounding in (lambda values: values, round_to_bfloat16):
        rays = [ray_matrices(p.c2w, p.intrinsics, ROWS, COLUMNS, rounding) for p in parts]
        expected = ray_matrices(whole.c2w, whole.intrinsics, ROWS, COLUMNS, rounding)
        assert (np.concatenate(rays) == expected).all()


def test_a_batch_equals_its_members_bit_for_bit() -> None:
    members = [cameras(17, seed) for seed in range(4)]
    c2w = np.stack([path(17, seed) for seed in range(4)])
    batch = latent_cameras(c2w, np.tile(FOCAL, (4, 17, 1)))
    maps, rays = (
        plucker_windows(batch, ROWS, COLUMNS),
        ray_matrices(batch.c2w, batch.intrinsics, ROWS, COLUMNS),
    )
    assert maps.shape == (4, 48, 3, ROWS, COLUMNS) and rays.shape == (4, 3, ROWS, COLUMNS, 4, 4)
    for index, one in enumerate(members):
        assert (maps[index] == plucker_windows(one, ROWS, COLUMNS)).all()
        assert (rays[index] == ray_matrices(one.c2w, one.intrinsics, ROWS, COLUMNS)).all()


def test_windows_are_the_eight_frames_up_to_each_latent() -> None:
    numbered = np.tile(np.eye(4), (25, 1, 1))
    numbered[:, 0, 3] = np.arange(25)
    latent = latent_cameras(numbered, np.tile(FOCAL, (25, 1)))
    assert latent.window_c2w[..., 0, 3].tolist() == [
        [0, 1, 2, 3, 4, 5, 6, 7],
        [1, 2, 3, 4, 5, 6, 7, 8],
        [9, 10, 11, 12, 13, 14, 15, 16],
        [17, 18, 19, 20, 21, 22, 23, 24],
    ]
    assert latent.c2w[:, 0, 3].tolist() == [0, 8, 16, 24]


def test_missing_frames_repeat_the_last() -> None:
    numbered = np.tile(np.eye(4), (3, 1, 1))
    numbered[:, 0, 3] = np.arange(3)
    latent = latent_cameras(numbered, np.tile(FOCAL, (3, 1)))
    assert latent.window_c2w[..., 0, 3].tolist() == [[0, 1, 2, 2, 2, 2, 2, 2]]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999))
def test_plucker_coordinates_describe_lines(seed: int) -> None:
    c2w = path(9, seed)[-1].astype(np.float32)
    direction, moment = plucker(c2w, FOCAL, ROWS, COLUMNS).reshape(2, 3, ROWS, COLUMNS)
    assert np.allclose(np.linalg.norm(direction, axis=0), 1, atol=1e-6)
    assert np.allclose((direction * moment).sum(axis=0), 0, atol=1e-6)
    # Any point of the line gives the same moment.
    point = c2w[:3, 3, None, None] + 3 * direction
    assert np.allclose(np.cross(point, direction, axis=0), moment, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 999))
def test_ray_frames_are_rigid_and_look_along_the_cell(seed: int) -> None:
    c2w = path(9, seed)[-1].astype(np.float32)
    rays = ray_matrices(c2w, FOCAL, ROWS, COLUMNS)
    rotation = rays[..., :3, :3]
    assert np.allclose(rotation @ np.swapaxes(rotation, -1, -2), np.eye(3), atol=1e-5)
    assert np.allclose(rays @ invert_ray_matrices(rays), np.eye(4), atol=1e-5)
    assert np.allclose(rays @ np.append(c2w[:3, 3], 1), [0, 0, 0, 1], atol=1e-5)
    direction = plucker(c2w, FOCAL, ROWS, COLUMNS)[:3]
    assert np.allclose(np.moveaxis(rotation[..., 2, :], -1, 0), direction, atol=1e-5)
    # The camera's own y axis has no x component in any ray frame, so roll is kept.
    assert np.allclose(rotation[..., 0, :] @ c2w[:3, 1], 0, atol=1e-5)


def test_a_cell_without_a_ray_gets_the_identity() -> None:
    broken = np.array([np.nan, 3.0, 2.5, 1.5], dtype=np.float32)
    rays = ray_matrices(np.eye(4, dtype=np.float32), broken, ROWS, COLUMNS)
    assert (rays == np.eye(4)).all()


@settings(deadline=None)
@given(arrays(np.float32, 8, elements=st.floats(width=32)))
def test_bfloat16_rounding_is_that_of_torch(values: npt.NDArray[np.float32]) -> None:
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(values).bfloat16().float().numpy()
    rounded = round_to_bfloat16(values)
    assert np.array_equal(rounded, expected, equal_nan=True)
    assert np.array_equal(round_to_bfloat16(rounded), rounded, equal_nan=True)


def test_bfloat16_rays_are_those_of_a_bfloat16_computation(model_inputs: Arrays) -> None:
    torch = pytest.importorskip("torch")
    rows, columns = 4, 6
    conditions = torch.from_numpy(model_inputs["small_raymap"]).bfloat16()
    rotation, origin = conditions[:, :16].reshape(-1, 4, 4)[:, :3].split([3, 1], dim=-1)
    fx, fy, cx, cy = conditions[:, 16:, None, None].unbind(1)

    def through_degrees(focal: Any, cells: int) -> Any:
        half = torch.deg2rad(0.5 * torch.rad2deg(2 * torch.atan(1 / (2 * focal / cells))))
        return 0.5 * cells * torch.cos(half) / torch.sin(half)

    u, v = torch.arange(columns).bfloat16(), torch.arange(rows).bfloat16()[:, None]
    x, y = torch.broadcast_tensors(
        (u - cx) / through_degrees(fx, columns), (v - cy) / through_degrees(fy, rows)
    )
    squared = 1 + (x * x + y * y)
    depth = torch.sqrt(squared) / squared
    ray = torch.stack([depth * x, depth * y, depth], dim=-1)

    def unit(vector: Any) -> Any:
        return torch.nn.functional.normalize(vector, dim=-1, eps=1e-6)

    z = unit(torch.einsum("tij,thwj->thwi", rotation, ray))
    down = rotation[:, None, None, :, 1].expand_as(z)
    x_axis = unit(torch.cross(down, z, dim=-1))
    basis = torch.stack([x_axis, unit(torch.cross(z, x_axis, dim=-1)), z], dim=-2)
    moved = -torch.einsum("thwij,tj->thwi", basis, origin[..., 0])
    expected = torch.cat([basis, moved[..., None]], dim=-1).float().numpy()

    c2w, intrinsics = np.split(model_inputs["small_raymap"], [16], axis=-1)
    ours = ray_matrices(c2w.reshape(-1, 4, 4), intrinsics, rows, columns, round_to_bfloat16)
    # One step of bfloat16 at 1, for torch builds that sum in another order.
    assert np.abs(ours[..., :3, :] - expected).max() <= 2**-7
    assert (ours[..., :3, :] == expected).mean() > 0.99
    single = ray_matrices(c2w.reshape(-1, 4, 4), intrinsics, rows, columns)
    assert np.abs(ours - single).max() > 2**-8


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \(9, 4\)"):
        latent_cameras(path(9), np.tile(FOCAL, (8, 1)))
    with pytest.raises(ValueError, match=r"expected \(..., F, 4, 4\)"):
        latent_cameras(np.eye(4), FOCAL)
    with pytest.raises(ValueError, match="given 9 new video frames, expected a multiple of 8"):
        next_latent_cameras(path(9), np.tile(FOCAL, (9, 1)))
