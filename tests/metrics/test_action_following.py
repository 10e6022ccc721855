"""Numbers known by hand: action following, inverse actions, AUC, spans, WorldScore, hints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.se3 import invert, rotation_x, rotation_y
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.metrics import (
    CONVENTIONS,
    RELEASE,
    DegenerateTrajectoryError,
    InvalidPosesError,
    action_following,
    forward_backward_error,
    pose_auc,
    score_drift,
    score_poses,
    trajectory_error,
    worldscore_camera_error,
)


def path(yaw_deg: Any, forward: Any) -> Any:
    """Poses of a camera that turns and then walks by this much in each frame, identity first."""
    poses = [np.eye(4)]
    for turn, step in zip(np.radians(yaw_deg), forward, strict=True):
        move = np.eye(4)
        move[:3, :3] = rotation_y(turn)
        move[:3, 3] = move[:3, :3] @ [0, 0, step]
        poses.append(poses[-1] @ move)
    return np.array(poses)


BODY = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
COMMANDED = path([1.0] * 8 + [0.0] * 8 + [-1.0] * 8, [0.0] * 8 + [0.05] * 8 + [0.0] * 8)


def random_path(seed: int = 0, n: int = 20) -> Any:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, 3] = np.cumsum(rng.normal(size=(n, 3)), axis=0)
    poses[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(n, 3))).as_matrix()
    return poses


def test_a_path_follows_itself() -> None:
    result = action_following(COMMANDED, COMMANDED, 8)
    assert (result.turn.chunks, result.step.chunks) == (2, 1)
    for part in (result.turn, result.step):
        assert (part.sign, part.delay_frames) == (1.0, 0)
        assert part.ratio == pytest.approx(1.0)


def test_half_the_turn_and_the_wrong_way() -> None:
    half = path([0.5] * 8 + [0.0] * 8 + [0.5] * 8, [0.0] * 8 + [0.05] * 8 + [0.0] * 8)
    turn = action_following(half, COMMANDED, 8).turn
    assert turn.ratio == pytest.approx((0.5 - 0.5) / 2, abs=1e-9)
    assert turn.sign == 0.5


def test_delays_are_found_and_even_commands_have_none() -> None:
    late = path([0.0] * 2 + [1.0] * 8 + [0.0] * 8 + [-1.0] * 6, [0.0] * 10 + [0.05] * 8 + [0.0] * 6)
    result = action_following(late, COMMANDED, 8)
    assert result.turn.delay_frames == 2 and result.step.delay_frames == 2
    even = path([1.0] * 24, [0.0] * 24)
    assert action_following(even, even, 8).turn.delay_frames is None
    assert action_following(even, even, 8).step.chunks == 0


def test_frames_without_estimate_leave_their_chunks_out() -> None:
    valid = np.ones(25, dtype=bool)
    valid[16] = False
    spoilt = np.where(valid[:, None, None], COMMANDED, np.nan)
    assert action_following(spoilt, COMMANDED, 8, valid).turn.chunks == 1


def test_there_and_back() -> None:
    there = path([2.0] * 5, [0.1] * 5)
    assert forward_backward_error(np.concatenate([there, there[-2::-1]]), 5).rotation_deg < 1e-6
    stays = np.concatenate([there, np.repeat(there[-1:], 5, axis=0)])
    error = forward_backward_error(stays, 5)
    assert error.rotation_deg == pytest.approx(np.mean([10, 8, 6, 4, 2]))
    straight = path([0.0] * 10, [0.1] * 10)
    # Frames k and 10 - k are 1.0, 0.8, 0.6, 0.4 and 0.2 m apart on a path of 1 m.
    assert forward_backward_error(straight, 5).translation == pytest.approx(0.6)
    assert forward_backward_error(np.tile(np.eye(4), (3, 1, 1)), 1).translation is None
    with pytest.raises(ValueError, match="expected 9 poses"):
        forward_backward_error(straight, 4)


def test_auc_by_hand() -> None:
    reference = path([0.0] * 3, [0.1] * 3)
    tilted = reference.copy()
    tilted[2:, :3, :3] = reference[2:, :3, :3] @ rotation_x(np.radians(2.5))
    # Of six pairs only that of frames 0 and 1 is right. Four have one tilted end; seen from frame 2
    # the way to frame 3 is 2.5 degrees off.
    result = pose_auc(tilted, reference, (2, 5))
    assert result == {2: pytest.approx(1 / 6), 5: pytest.approx((1 / 6 + 1 / 6 + 1 + 1 + 1) / 5)}
    assert pose_auc(reference, reference) == {5: 1.0, 15: 1.0, 30: 1.0}
    assert pose_auc(2 * reference - np.eye(4), reference)[5] == 1.0  # free of scale
    with pytest.raises(DegenerateTrajectoryError, match="too_few_frames"):
        pose_auc(reference[:1], reference[:1])


@pytest.mark.parametrize("span", [1, 3, 10])
def test_spans_and_scale(span: int) -> None:
    reference = random_path()
    twice = reference.copy()
    twice[:, :3, 3] *= 2
    error = trajectory_error(twice, reference, span=span)
    assert error.rpe_trans_rmse < 1e-9 and error.scale == pytest.approx(0.5)
    metric = trajectory_error(twice, reference, span=span, with_scale=False)
    steps = invert(reference[:-span]) @ reference[span:]
    expected = np.sqrt(np.mean(np.sum(steps[:, :3, 3] ** 2, axis=1)))
    assert metric.rpe_trans_rmse == pytest.approx(expected) and metric.scale == 1.0
    assert metric.ate_rmse > 1


def test_masked_frames_are_read_on_neither_side() -> None:
    whole, valid = random_path(), np.arange(20) > 4
    gap = np.where(valid[:, None, None], whole, np.nan)
    assert score_poses(gap, gap, RELEASE, valid).rot_err == pytest.approx(0, abs=1e-6)
    assert trajectory_error(gap, gap, valid).ate_rmse < 1e-9
    assert pose_auc(gap, gap, valid=valid)[5] == 1.0
    assert worldscore_camera_error(gap, gap, valid).error < 1e-6
    with pytest.raises(InvalidPosesError, match="reference frame 0"):
        score_poses(whole, gap, RELEASE)


def test_worldscore_error_by_hand() -> None:
    reference = path([0.0] * 4, [1.0] * 4)
    estimate = reference.copy()
    estimate[:, 2, 3] *= -0.5
    estimate[4, 2, 3] = 1.0  # one outlier does not move a fit by least absolute deviation
    estimate[1:, :3, :3] = rotation_y(np.radians(10))
    error = worldscore_camera_error(estimate, reference)
    assert error.scale == pytest.approx(-2.0)
    assert error.rotation_deg == pytest.approx(8.0)
    assert error.translation == pytest.approx(6 / 5)
    assert error.error == pytest.approx(np.sqrt(8.0 * 6 / 5))
    with pytest.raises(DegenerateTrajectoryError, match="estimate_static"):
        worldscore_camera_error(np.tile(np.eye(4), (5, 1, 1)), reference)


@pytest.mark.parametrize(
    ("flag", "read"),
    [
        ("axes_opengl", lambda poses: poses @ np.diag([1.0, -1.0, -1.0, 1.0])),
        ("axes_world_to_camera", invert),
        (
            "axes_forward_left_up",
            lambda poses: (
                poses @ np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
            ),
        ),
    ],
)
def test_other_axes_are_named(flag: str, read: Any) -> None:
    poses = random_path()
    for convention in CONVENTIONS.values():
        flags = score_poses(read(poses), poses, convention).flags
        assert [name for name in flags if name.startswith("axes")] == [flag]
        assert not any("axes" in name for name in score_poses(poses, poses, convention).flags)
    noisy = random_path(seed=1)
    assert not any("axes" in name for name in score_poses(noisy, poses, RELEASE).flags)


def test_rounded_rotations_are_refused_with_the_way_out() -> None:
    rounded = np.round(random_path(), 3)
    with pytest.raises(InvalidPosesError, match="nearest_rotation"):
        score_poses(rounded, rounded, RELEASE)
    with pytest.raises(ValueError, match="nearest_rotation"):
        CameraTrajectory(rounded, np.array([32.0] * 4), width=64, height=64)
    sheared = random_path()
    sheared[:, :3, :3] *= 2
    with pytest.raises(InvalidPosesError, match="orthonormal") as refused:
        score_poses(sheared, random_path(), RELEASE)
    assert "nearest_rotation" not in str(refused.value)


def test_a_revisit_without_looking_away_is_none() -> None:
    lingers = np.tile(np.eye(4), (200, 1, 1))
    assert find_revisits(lingers, 16.0)
    assert not find_revisits(lingers, 16.0, look_away_deg=60.0)
    turns = path([1.0] * 90 + [-1.0] * 90, [0.0] * 180)
    pairs = find_revisits(turns, 16.0, look_away_deg=60.0)
    assert pairs and all(pair.frame_a < 60 and pair.frame_b > 120 for pair in pairs)


def test_a_collapse_in_mid_clip_is_seen() -> None:
    rng = np.random.default_rng(0)
    video = rng.integers(0, 255, (96, 16, 16, 3), dtype=np.uint8)
    video[32:64] = 128
    drift = score_drift(video, 16.0, window_s=2.0)
    last, largest = drift.drop("contrast"), drift.largest_change("contrast")
    assert last is not None and abs(last) < 2
    assert largest is not None and largest > 40
