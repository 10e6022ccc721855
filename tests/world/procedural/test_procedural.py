"""The procedural world: exact geometry, values that depend on nothing but their arguments."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scene_values import Array, pose

from sana_wm_gym.camera.se3 import rotation_x
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render, render_geometry
from sana_wm_gym.world.procedural.scenes import (
    Scene,
    cast,
    free_space,
    generate_scene,
    sample_pose,
)
from sana_wm_gym.world.procedural.textures import FACE_AXES, TEXELS_PER_METRE, Tile, draw_sky, pack

SCENE = generate_scene(3)


def poses_in(scene: Scene, count: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    return np.stack([sample_pose(scene, rng) for _ in range(count)])


def inside(scene: Scene, place: tuple[float, float, float]) -> Array:
    """A point of the room, whose walls are at -1 and 1."""
    low, high = scene.lower[0], scene.upper[0]
    return np.asarray((low + high) / 2 + (high - low) / 2 * place)


def project(point: Array, c2w: Array, size: tuple[int, int]) -> Array:
    """Textbook pinhole: world point to (u, v) pixels."""
    fx, fy, cx, cy = default_intrinsics(*size)
    x, y, z = c2w[:3, :3].T @ (point - c2w[:3, 3])
    return np.array([fx * x / z + cx, fy * y / z + cy])


def plain_scene(boxes: list[tuple[Array, Array]], dot: tuple[int, Array] | None = None) -> Scene:
    """A 6 x 2.6 x 6 m room and boxes, each face of one grey; optionally one white dot.

    The dot is (tile index, world point on that face), a Gaussian of 0.1 m.
    """
    lower = np.array([[-3, -1.2, -3], *(low for low, _ in boxes)], np.float64)
    upper = np.array([[3, 1.4, 3], *(high for _, high in boxes)], np.float64)
    tiles = []
    for index in range(6 * len(lower)):
        u, v = FACE_AXES[index % 6 // 2]
        corner, far = lower[index // 6][[u, v]], upper[index // 6][[u, v]]
        shape = np.ceil((far - corner) * TEXELS_PER_METRE).astype(int) + 5
        grey = 0.02 * (index + 1)
        image = np.full((shape[1], shape[0], 3), grey, np.float32)
        if dot is not None and dot[0] == index:
            columns = corner[0] + (np.arange(shape[0]) - 2) / TEXELS_PER_METRE - dot[1][u]
            rows = corner[1] + (np.arange(shape[1]) - 2) / TEXELS_PER_METRE - dot[1][v]
            bump = np.exp(-(columns**2 + rows[:, None] ** 2) / (2 * 0.1**2))
            image += ((1 - grey) * bump)[..., None].astype(np.float32)
        tiles.append(Tile(image, (float(corner[0]), float(corner[1]))))
    atlas = pack([*tiles, draw_sky(np.random.default_rng(0))])
    shown = np.arange(len(tiles))[None]
    return Scene(0, lower, upper, False, atlas, shown, surface_of=np.full(len(lower), -1))


BOX = (np.array([-0.5, 0.2, 1.0]), np.array([0.4, 1.4, 1.9]))


@pytest.mark.parametrize(
    ("tile", "point", "camera"),
    [
        (5, (0.4, -0.2, 3.0), pose(0, 0, 0, 0)),
        (5, (1.3, -0.5, 3.0), pose(-1, 0.1, 0.5, 0.5, 0.1)),
        (4, (-0.7, 0.3, -3.0), pose(0, 0, 0, np.pi)),
        (0, (-3.0, 0.3, 0.5), pose(0.5, 0, 0, -np.pi / 2, 0.0, 0.3)),
        (1, (3.0, -0.3, -0.4), pose(0.5, 0, 0, np.pi / 2)),
        (3, (1.2, 1.4, 2.0), pose(0, 0, 0, 0, -0.5)),
        (2, (0.2, -1.2, 1.9), pose(0, 0, 0, 0, 0.5)),
        (10, (0.1, 0.8, 1.0), pose(0, 0.3, -1.5, 0, -0.1)),
        (6, (-0.5, 0.7, 1.4), pose(-2.5, 0.2, 1.0, np.pi / 2)),
        (8, (0.0, 0.2, 1.5), pose(0, -1.0, -0.3, 0, -0.6)),
    ],
)
def test_surface_point_appears_where_the_pinhole_projects_it(
    tile: int, point: tuple[float, float, float], camera: Array
) -> None:
    size = (96, 128)
    with_dot = plain_scene([BOX], (tile, np.array(point)))
    difference = (
        render(with_dot, camera[None], size=size)[0].astype(float)
        - render(plain_scene([BOX]), camera[None], size=size)[0]
    ).sum(-1)
    assert difference.max() > 100
    expected = project(np.array(point), camera, size)
    # The brightest part only, so that perspective does not pull the mean.
    weight = np.where(difference > 0.8 * difference.max(), difference, 0)
    v, u = np.indices(size) + 0.5
    found = np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()
    np.testing.assert_allclose(found, expected, atol=0.35)


@pytest.mark.parametrize("side", [0, 1])
def test_box_edge_lies_where_the_pinhole_projects_it(side: int) -> None:
    scene, size, camera = plain_scene([BOX]), (240, 320), pose(0.1, -0.1, -1.5, 0.03)
    empty = render_geometry(plain_scene([]), camera[None], size=size)[0][0]
    on_box = render_geometry(scene, camera[None], size=size)[0][0] < empty - 1e-4
    # Without pitch a vertical edge projects to one column.
    u, v = project(np.array([BOX[side][0], 0.8, BOX[0][2]]), camera, size)
    covered = np.flatnonzero(on_box[int(v)]) + 0.5
    if side == 0:
        assert covered[0] - 1 < u <= covered[0]
    else:
        assert covered[-1] <= u < covered[-1] + 1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 30),
    angles=st.tuples(*[st.floats(-np.pi, np.pi)] * 3),
    place=st.tuples(*[st.floats(-0.95, 0.95)] * 3),
)
def test_depth_equals_rays_cast_one_by_one(
    seed: int, angles: tuple[float, float, float], place: tuple[float, float, float]
) -> None:
    scene, size = generate_scene(seed), (24, 32)
    c2w = pose(*inside(scene, place), *angles)
    fx, fy, cx, cy = default_intrinsics(*size)
    v, u = np.indices(size) + 0.5
    directions = np.stack([(u - cx) / fx, (v - cy) / fy, np.ones(size)], -1) @ c2w[:3, :3].T
    directions = directions.reshape(-1, 3)
    expected = cast(scene, np.broadcast_to(c2w[:3, 3], directions.shape), directions)
    found = render_geometry(scene, c2w[None], size=size)[0][0].ravel()
    # A ray that grazes an edge may fall on either side of it in float32.
    agrees = np.isclose(found, expected, rtol=1e-3, atol=1e-3)
    assert agrees.mean() > 0.99


@pytest.mark.parametrize("seed", range(12))
def test_scene_is_as_described(seed: int) -> None:
    scene = generate_scene(seed)
    size = scene.upper - scene.lower
    assert np.all((size[0] >= [5, 2.6, 5] - np.array(1e-9)) & (size[0] <= [7, 2.6 + 1e-9, 7]))
    assert np.all(size[1:, [0, 2]] >= 0.4) and np.all(size[1:, [0, 2]] <= 1.2)
    assert 3 <= len(size) - 1 <= 5
    assert np.all(scene.lower[1:] >= scene.lower[0] - 1e-9)
    assert np.all(scene.upper[1:] <= scene.upper[0] + 1e-9)


def test_scenes_of_ordinary_seeds_look_as_they_always_did() -> None:
    digest = hashlib.sha256()
    for seed in range(12):
        scene = generate_scene(seed)
        assert scene.surfaces == () and scene.appearance == ()
        digest.update(render(scene, poses_in(scene, 3, seed)).tobytes())
    expected = "4c472aa1ac7c60ef96bfe184a97b2fd6260c6f258f79a4199e873564e0a4ca7a"
    assert digest.hexdigest() == expected


def test_supersampling_is_the_mean_of_a_finer_image() -> None:
    cameras = poses_in(SCENE, 3)
    fine = render(SCENE, cameras, size=(128, 128), samples=1).astype(float)
    mean = fine.reshape(3, 64, 2, 64, 2, 3).mean((2, 4))
    np.testing.assert_allclose(render(SCENE, cameras), mean, atol=1.01)


@pytest.mark.parametrize("zoomed", [False, True])
def test_frames_and_their_intrinsics_do_not_depend_on_the_batch(zoomed: bool) -> None:
    cameras = poses_in(SCENE, 2)
    intrinsics = np.tile(default_intrinsics(64, 64), (2, 1))
    if zoomed:
        intrinsics[1] = [70, 60, 30, 33]
    together = render(SCENE, cameras, intrinsics)
    for n in range(2):
        alone = render(SCENE, cameras[n : n + 1], intrinsics[n])
        np.testing.assert_array_equal(together[n], alone[0])
    assert np.any(together[1] != render(SCENE, cameras[1:])[0]) == zoomed


def test_sky_moves_with_rotation_only() -> None:
    courtyard = next(s for s in map(generate_scene, range(20)) if s.open_sky)
    up = poses_in(courtyard, 2)
    up[:, :3, :3] = rotation_x(np.pi / 2)
    frames = render(courtyard, up, default_intrinsics(64, 64, 40.0))
    np.testing.assert_array_equal(frames[0, 24:40, 24:40], frames[1, 24:40, 24:40])
    assert frames[0].std() > 1


@pytest.mark.parametrize(
    "where", [(50.0, 0.0, 0.0), (0.0, -30.0, 4.0), (3.5, 1.4, 3.5), (0.0, 0.0, 0.0)]
)
def test_any_camera_renders_something_finite(where: tuple[float, float, float]) -> None:
    cameras = np.stack([pose(*where, yaw) for yaw in (0.0, np.pi / 2, 1.0, np.pi)])
    x, y, z = (SCENE.lower[1] + SCENE.upper[1]) / 2
    inside = pose(x, y, z, 0.3)
    cameras = np.concatenate([cameras, inside[None]])
    with np.errstate(all="raise"):
        depth = render_geometry(SCENE, cameras)[0]
        frames = render(SCENE, cameras)
    assert np.isfinite(depth).all() and (depth > 0).all()
    assert frames[-1].std() > 1


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 30),
    place=st.tuples(*[st.floats(-1.1, 1.1)] * 3),
    margin=st.floats(0, 0.6),
)
def test_free_space_is_distance_to_every_surface(
    seed: int, place: tuple[float, float, float], margin: float
) -> None:
    scene = generate_scene(seed)
    point = inside(scene, place)
    to_walls = np.minimum(point - scene.lower[0], scene.upper[0] - point).min()
    to_boxes = min(
        np.max(np.maximum(low - point, point - high))
        for low, high in zip(scene.lower[1:], scene.upper[1:], strict=True)
    )
    clearance = min(to_walls, to_boxes)
    if abs(clearance - margin) > 1e-9:
        assert bool(free_space(scene, point, margin)) == (clearance > margin)


@pytest.mark.parametrize("seed", range(8))
def test_sampled_poses_are_upright_free_and_have_a_view(seed: int) -> None:
    scene = generate_scene(seed)
    c2w = poses_in(scene, 20, seed)
    assert free_space(scene, c2w[:, :3, 3], 0.4).all()
    np.testing.assert_allclose(c2w[:, :3, 1], [[0, 1, 0]] * 20)
    np.testing.assert_allclose(c2w[:, :3, :3] @ c2w[:, :3, :3].mT, [np.eye(3)] * 20, atol=1e-12)
    depth = render_geometry(scene, c2w, size=(65, 65))[0]
    assert depth[:, 32, 32].min() >= 0.99


@pytest.mark.parametrize(
    ("c2w", "intrinsics", "size"),
    [
        (np.eye(4), None, (8, 8)),
        (np.full((1, 4, 4), np.nan), None, (8, 8)),
        (np.eye(4)[None], (1.0, 1.0, 0.0), (8, 8)),
        (np.eye(4)[None], (0.0, 1.0, 4.0, 4.0), (8, 8)),
        (np.eye(4)[None], (np.inf, 1.0, 4.0, 4.0), (8, 8)),
        (np.eye(4)[None], None, (0, 8)),
    ],
)
def test_render_rejects_bad_arguments(
    c2w: Array, intrinsics: tuple[float, ...] | None, size: tuple[int, int]
) -> None:
    with pytest.raises(ValueError, match="got"):
        render(SCENE, c2w, intrinsics, size)
