"""The procedural world: starts, frames along a path, twins."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scene_values import pose
from stepping import advance, frames_of

from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.world.procedural.procedural_world import SCENES, ProceduralState, ProceduralWorld
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import free_space, generate_scene, open_spot, sample_pose

WORLD = ProceduralWorld()


def chunk(state: ProceduralState, forward: float = 0.02, yaw: float = 0.01) -> CameraTrajectory:
    """25 poses on from the state's last one."""
    poses = [state.c2w[-1]]
    for _ in range(WORLD.frames_per_chunk):
        poses.append(poses[-1] @ pose(0, 0, forward, yaw))
    return CameraTrajectory(np.stack(poses), np.array(WORLD.spec.intrinsics), 64, 64)


def begin(seed: int = 0) -> ProceduralState:
    return WORLD.begin(WORLD.sample_start(np.random.default_rng(seed)), seed)


def test_start_image_is_the_first_frame() -> None:
    state = begin()
    np.testing.assert_array_equal(frames_of(WORLD, state), state.start.image[None])
    assert state.start.scene in SCENES
    assert WORLD.sample_start(np.random.default_rng(0), 11).scene == 11
    still = advance(WORLD, [state], [chunk(state, 0.0, 0.0)])[0]
    for frame in frames_of(WORLD, still):
        np.testing.assert_array_equal(frame, state.start.image)


def test_frames_are_the_scene_seen_along_the_commanded_path() -> None:
    first, second = begin(0), begin(1)
    cameras = [chunk(first), chunk(second, -0.01)]
    states = advance(WORLD, [first, second], cameras)
    for state, camera in zip(states, cameras, strict=True):
        assert state.chunk == 1 and state.start.scene_c2w is not None
        assert state.start.scene is not None
        expected = render(generate_scene(state.start.scene), state.start.scene_c2w @ camera.c2w[1:])
        np.testing.assert_array_equal(frames_of(WORLD, state), expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("start.image", np.zeros((8, 8, 3), np.uint8)),
        ("c2w", np.eye(4)[None].repeat(3, 0)),
        ("start.scene", np.zeros(2, np.int64)),
        ("start.scene", np.array(-1)),
        ("chunk", np.array(-1)),
        ("start.intrinsics", np.ones(3)),
        ("unknown", np.ones(3)),
    ],
)
def test_unpack_rejects_other_arrays(name: str, value: npt.NDArray[np.generic]) -> None:
    with pytest.raises(ValueError, match="expected|fit|unknown"):
        WORLD.unpack({**WORLD.pack(begin()), name: value})


def test_world_rejects_a_camera_that_does_not_continue_the_state() -> None:
    state = begin()
    good = chunk(state)
    elsewhere = dataclasses.replace(good, c2w=pose(0, 0, 0.1, 0) @ good.c2w)
    with pytest.raises(ValueError, match="expected the same pose"):
        advance(WORLD, [state], [elsewhere])


def test_world_rejects_starts_it_cannot_show() -> None:
    start = WORLD.sample_start(np.random.default_rng(0))
    assert start.scene_c2w is not None
    bad: list[dict[str, Any]] = [
        {"scene": None},
        {"scene_c2w": None},
        {"scene": -1},
        {"scene_c2w": 2 * start.scene_c2w},
        {"scene_c2w": start.scene_c2w[:3]},
        {"image": start.image[:32]},
        {"intrinsics": (0.0, 1.0, 1.0, 1.0)},
    ]
    for change in bad:
        with pytest.raises(ValueError, match="expected"):
            WORLD.begin(dataclasses.replace(start, **change), 0)
    with pytest.raises(ValueError, match="seed"):
        WORLD.sample_start(np.random.default_rng(0), scene=-1)


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_the_open_spot_has_more_room_than_anywhere_else(seed: int) -> None:
    scene = generate_scene(seed)
    # The floor plan alone: a high room, and boxes of any height stand in the way.
    lower, upper = scene.lower.copy(), scene.upper.copy()
    lower[:, 1], upper[:, 1] = -9.0, 9.0
    plan = dataclasses.replace(scene, lower=lower, upper=upper)
    spot, margin = open_spot(scene), 0.3
    while free_space(plan, spot, margin + 0.05):
        margin += 0.05
    assert margin > 0.6
    others = np.random.default_rng(seed).uniform(lower[0], upper[0], (500, 3)) * [1, 0, 1]
    assert free_space(plan, others, 0.3).any()
    # The grid is 0.1 m fine.
    assert not free_space(plan, others, margin + 0.15).any()


def test_starts_stay_near_the_open_spot_when_asked() -> None:
    scene, rng = generate_scene(8), np.random.default_rng(0)
    centre = open_spot(scene)[[0, 2]]
    near = np.array([sample_pose(scene, rng, radius=0.7)[[0, 2], 3] for _ in range(50)])
    far = np.array([sample_pose(scene, rng)[[0, 2], 3] for _ in range(50)])
    assert np.linalg.norm(near - centre, axis=1).max() <= 0.7
    assert np.linalg.norm(far - centre, axis=1).max() > 1.5


@pytest.mark.parametrize("seed", range(3))
def test_a_twin_draws_the_starts_of_the_other_world(seed: int) -> None:
    other = ProceduralWorld(size=(24, 32), scenes=(5, 8), start_radius=0.7)
    twin = ProceduralWorld.twin(
        dataclasses.replace(other.spec, name="learned", latent_shape=(2, 3, 4))
    )
    assert twin == dataclasses.replace(other, name="twin") and twin.spec.name == "twin"
    start, same = (w.sample_start(np.random.default_rng(seed)) for w in (other, twin))
    assert np.array_equal(start.image, same.image)
    scene = generate_scene(start.scene)
    away = (start.scene_c2w[:3, 3] - open_spot(scene))[[0, 2]]
    assert np.hypot(*away) <= 0.7
    anywhere = ProceduralWorld(size=(24, 32), scenes=(5, 8))
    assert not np.array_equal(
        anywhere.sample_start(np.random.default_rng(seed)).scene_c2w, start.scene_c2w
    )


def test_a_twin_needs_scenes_and_a_radius_some_size() -> None:
    with pytest.raises(ValueError, match="no twin"):
        ProceduralWorld.twin(dataclasses.replace(ProceduralWorld().spec, scenes=()))
    with pytest.raises(ValueError, match="start_radius = 0"):
        ProceduralWorld(start_radius=0)
