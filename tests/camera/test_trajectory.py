"""The pose integrator: parity with the release, laws, and boundaries."""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.camera import (
    SANA_WM_2026_05,
    SANA_WM_2026_06,
    CameraState,
    CameraTrajectory,
    Controls,
    integrate,
    relative_to_first,
    rollout,
    rollout_action_string,
)

Array = npt.NDArray[np.float64]
Arrays = dict[str, npt.NDArray[Any]]
# SHA-256 of the float32 bytes of the five trajectories shipped with SANA-WM.
DEMO_DIGESTS = {
    "demo_0": "af5f140ff932a4936a0c685d1723ffa5b7ac0e1989670273de03c18e12f19f95",
    "demo_1": "0728cc270cece54d9075dc421e777fdeaef87cfa9e73197c25f1f4ad5ead39d3",
    "demo_2": "a88e25f905fa511f667924c1f49afd052c8d8387211393eff75aed7d59599a73",
    "demo_3": "d716d5a509ce59bc3832bfdd02dd333f3ed1f89729c4f6b354cad88751901f23",
    "demo_4": "49c176d64415fd1eeaac749706f08bcc1232a319cd63747f4e53b03c3085d86c",
}


def controls(frames: int, **motion: Any) -> Controls:
    names = ("forward", "right", "down", "yaw", "pitch", "roll")
    return Controls(*(np.broadcast_to(motion.get(name, 0.0), frames) for name in names))


@st.composite
def any_controls(draw: st.DrawFn, max_frames: int = 30) -> Controls:
    frames = draw(st.integers(1, max_frames))
    values = st.lists(st.floats(-0.2, 0.2), min_size=frames, max_size=frames)
    return Controls(*(np.array(draw(values)) for _ in range(6)))


def test_rollouts_match_the_release(facts: dict[str, Any], actions: Arrays) -> None:
    for name, case in facts["actions"].items():
        key_map = replace(
            SANA_WM_2026_06,
            translation_speed=case.get("translation_speed", 0.025),
            rotation_speed=math.radians(case.get("rotation_speed_deg", 0.6)),
            pitch_limit=math.radians(case.get("pitch_limit_deg", 60.0)),
            smoothing=SANA_WM_2026_06.smoothing if case.get("smooth", True) else None,
        )
        poses = rollout_action_string(case["string"], key_map)
        assert np.abs(poses.astype(np.float32) - actions[name]).max() <= 1e-6, name


@pytest.mark.parametrize("name", sorted(DEMO_DIGESTS))
def test_shipped_demos_are_reproduced_bit_for_bit(facts: dict[str, Any], name: str) -> None:
    demo = facts["demos"][name]
    key_map = replace(SANA_WM_2026_06, translation_speed=demo["translation_speed"])
    poses = rollout_action_string(demo["action"], key_map).astype(np.float32)
    assert hashlib.sha256(poses.tobytes()).hexdigest() == DEMO_DIGESTS[name]


def test_first_release_stops_a_whole_step_before_its_pitch_limit() -> None:
    poses = rollout_action_string("i-90", SANA_WM_2026_05)
    pitch = np.rad2deg(np.arcsin(-poses[:, 1, 2]))
    assert np.allclose(pitch[:71], 1.2 * np.arange(71), atol=1e-9)
    assert np.allclose(pitch[71:], 84.0, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(st.text("wasdijkl", max_size=4), st.text("wasdijkl", max_size=4), st.integers(60, 90))
def test_first_release_profile_equals_its_rules_written_out(a: str, b: str, frames: int) -> None:
    # Headings and pitch as angles, a step across 85 degrees refused: no matrix, no clamp.
    heading = pitch = x = z = 0.0
    for letters in [a] * frames + [b] * frames:
        signs = {key: letters.count(key) > 0 for key in "wasdijkl"}
        strafe, turn = signs["d"] - signs["a"], signs["l"] - signs["j"]
        tilted = pitch + 1.2 * (signs["i"] - signs["k"])
        pitch = tilted if abs(tilted) <= 85 else pitch
        heading += math.radians(1.2 * (turn + 0.4 * strafe))
        walk = 0.04 * (signs["w"] - signs["s"])
        x += walk * math.sin(heading) + 0.04 * strafe * math.cos(heading)
        z += walk * math.cos(heading) - 0.04 * strafe * math.sin(heading)
    pose = rollout_action_string(f"{a}-{frames},{b}-{frames}", SANA_WM_2026_05)[-1]
    assert np.allclose(pose[:3, 3], [x, 0, z], atol=1e-4)
    up, flat = math.sin(math.radians(pitch)), math.cos(math.radians(pitch))
    view = [flat * math.sin(heading), -up, flat * math.cos(heading)]
    assert np.allclose(pose[:3, 2], view, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(any_controls(), st.integers(1, 29))
def test_stopping_and_going_on_changes_no_bit(motion: Controls, cut: int) -> None:
    whole, end = integrate(CameraState(), motion)
    cut = min(cut, len(motion))
    names = ("forward", "right", "down", "yaw", "pitch", "roll")
    head = Controls(*(getattr(motion, name)[:cut] for name in names))
    tail = Controls(*(getattr(motion, name)[cut:] for name in names))
    first, state = integrate(CameraState(), head)
    second, state = integrate(state, tail)
    assert (np.concatenate([first, second]) == whole).all()
    assert (state.c2w == end.c2w).all() and (state.pitch, state.roll) == (end.pitch, end.roll)


@settings(deadline=None, max_examples=50)
@given(any_controls())
def test_poses_stay_rigid_and_pitch_stays_inside(motion: Controls) -> None:
    poses = rollout(motion)
    rotation = poses[:, :3, :3]
    assert np.allclose(rotation @ rotation.transpose(0, 2, 1), np.eye(3), atol=1e-12)
    assert (np.linalg.det(rotation) > 0).all()
    elevation = np.arcsin(np.clip(-poses[:, 1, 2], -1, 1))
    assert (np.abs(elevation) <= math.radians(60) + 1e-9).all()


@settings(deadline=None, max_examples=50)
@given(any_controls())
def test_roll_changes_neither_path_nor_view_direction(motion: Controls) -> None:
    rolled = rollout(motion)
    level = rollout(replace(motion, roll=np.zeros(len(motion))))
    assert np.allclose(rolled[:, :3, 2:], level[:, :3, 2:], atol=1e-12)


@settings(deadline=None, max_examples=50)
@given(any_controls())
def test_moving_down_changes_the_height_alone(motion: Controls) -> None:
    poses = rollout(motion)
    flat = rollout(replace(motion, down=np.zeros(len(motion))))
    assert np.allclose(poses[:, 1, 3], np.concatenate([[0], np.cumsum(motion.down)]), atol=1e-12)
    assert (flat[:, 1, 3] == 0).all()
    poses[:, 1, 3] = 0
    assert (poses == flat).all()


@settings(deadline=None, max_examples=50)
@given(any_controls(), st.floats(-3, 3))
def test_motion_does_not_depend_on_the_heading_at_the_start(motion: Controls, yaw: float) -> None:
    turned, state = integrate(CameraState(), controls(1, yaw=yaw))
    poses, _ = integrate(state, motion)
    moved = relative_to_first(np.concatenate([turned, poses]))
    assert np.allclose(moved, rollout(motion), atol=1e-9)


def test_there_and_back_again() -> None:
    there = controls(1, forward=0.3, right=-0.2, down=0.1)
    back = controls(1, forward=-0.3, right=0.2, down=-0.1)
    poses = rollout(Controls.concatenate([there, back]))
    assert np.allclose(poses[-1], np.eye(4), atol=1e-15)
    poses = rollout(controls(2, yaw=[0.4, -0.4], pitch=[0.2, -0.2], roll=[0.5, -0.5]))
    assert np.allclose(poses[-1], np.eye(4), atol=1e-15)


def test_trajectory_is_a_value_and_slices() -> None:
    poses = rollout(controls(24, forward=0.1))
    camera = CameraTrajectory(poses, np.array([32.0, 32.0, 32.0, 32.0]), width=64, height=64)
    assert camera.intrinsics.shape == (25, 4) and len(camera) == 25
    assert (camera[1:].c2w == poses[1:]).all() and len(camera[1:]) == 24
    poses[0, 0, 3] = 5.0
    assert camera.c2w[0, 0, 3] == 0.0
    with pytest.raises(ValueError, match="read-only"):
        camera.c2w[0] = 0.0


def spoiled(frame: int, index: tuple[int, int], value: float) -> Array:
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[(frame, *index)] = value
    return poses


@pytest.mark.parametrize(
    ("c2w", "message"),
    [
        (spoiled(3, (0, 3), math.nan), "frame 3 has values that are not finite"),
        (spoiled(2, (1, 1), math.inf), "frame 2 has values that are not finite"),
        (spoiled(1, (3, 0), 0.1), r"frame 1 has a last row other than"),
        (spoiled(4, (0, 1), 0.01), "frame 4 has a rotation part that is not orthonormal"),
        (spoiled(2, (0, 0), -1.0), "frame 2 is a reflection"),
        (np.eye(4), r"shape \(4, 4\), expected \(n, 4, 4\)"),
        (np.zeros((0, 4, 4)), "number of poses is 0"),
    ],
)
def test_bad_poses_are_refused(c2w: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraTrajectory(c2w, np.ones(4), width=4, height=4)


@pytest.mark.parametrize(
    ("intrinsics", "message"),
    [
        (np.ones((4, 4)), r"shape \(4, 4\), expected \(5, 4\)"),
        (np.array([1.0, math.nan, 1.0, 1.0]), "frame 0"),
        (np.array([0.0, 1.0, 1.0, 1.0]), "positive focal lengths"),
    ],
)
def test_bad_intrinsics_are_refused(intrinsics: Array, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CameraTrajectory(np.tile(np.eye(4), (5, 1, 1)), intrinsics, width=4, height=4)


def test_bad_states_are_refused() -> None:
    with pytest.raises(ValueError, match="CameraState.c2w"):
        CameraState(np.zeros((4, 4)))
    with pytest.raises(ValueError, match="pitch is nan"):
        CameraState(pitch=math.nan)
