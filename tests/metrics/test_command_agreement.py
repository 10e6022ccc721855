"""Command agreement: points that a command can have sent there are at distance 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sana_wm_gym.camera.se3 import from_rotation_translation, rotation_y
from sana_wm_gym.evaluation.command_agreement import command_agreement
from sana_wm_gym.metrics.command_agreement import (
    PairAgreement,
    clip_agreement,
    mean_agreement,
    pair_agreement,
    relative_command,
)
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import generate_scene, sample_pose

LENS = (50.0, 50.0, 32.0, 32.0)
RIGHT = from_rotation_translation(np.eye(3), np.array([0.2, 0.0, 0.0]))


def points(n: int = 40) -> Any:
    return np.random.default_rng(0).uniform(8, 56, (n, 2))


def moved(xy: Any, relative: Any, depths: Any) -> Any:
    """Pixels of points of known depths in the second camera."""
    fx, fy, cx, cy = LENS
    rays = np.stack([(xy[:, 0] - cx) / fx, (xy[:, 1] - cy) / fy, np.ones(len(xy))], axis=1)
    seen = (rays * depths[:, None]) @ relative[:3, :3].T + relative[:3, 3]
    return seen[:, :2] / seen[:, 2:] * [fx, fy] + [cx, cy]


@pytest.mark.parametrize("turn", [0.0, 0.1])
def test_points_of_any_admissible_depth_agree(turn: float) -> None:
    relative = from_rotation_translation(rotation_y(turn), np.array([0.1, -0.05, -0.2]))
    xy, depths = points(), np.random.default_rng(1).uniform(1.0, 5.0, 40)
    pair = pair_agreement(moved(xy, relative, depths), xy, relative, LENS, (0.5, 8.0))
    assert pair.away_px < 1e-9
    assert pair.sampson_px is not None and pair.sampson_px < 1e-9
    assert pair.epipolar_px is not None and pair.epipolar_px < 1e-9
    assert pair.still_px > 0.5


def test_distances_by_hand() -> None:
    # The first camera stands 0.2 m to the right of where it is seen from: a point at depth z moves
    # right by 50 * 0.2 / z pixels, so by 1.25 to 20 px for depths of 0.5 to 8 m.
    xy = points()
    pair = pair_agreement(xy + np.array([30.0, 0.0]), xy, RIGHT, LENS, (0.5, 8.0))
    assert pair.away_px == pytest.approx(10.0)  # 10 px past the nearest depth, along the line
    assert pair.still_px == pytest.approx(1.25)
    assert pair.sampson_px == pytest.approx(0.0, abs=1e-12)
    across = pair_agreement(xy + np.array([10.0, 3.0]), xy, RIGHT, LENS, (0.5, 8.0))
    assert across.away_px == pytest.approx(3.0)
    assert across.epipolar_px == pytest.approx(3.0)
    assert across.sampson_px == pytest.approx(3.0 / np.sqrt(2))


def test_commands_of_unknown_unit_leave_any_depth() -> None:
    pair = pair_agreement(points() + np.array([30.0, 0.0]), points(), RIGHT, LENS)
    assert pair.away_px == pytest.approx(0.0, abs=1e-9)
    assert pair.still_px == pytest.approx(0.0, abs=1e-9)


def test_a_turn_on_the_spot_has_no_epipolar_lines() -> None:
    relative = from_rotation_translation(rotation_y(0.2), np.zeros(3))
    xy = points()
    pair = pair_agreement(moved(xy, relative, np.ones(len(xy))), xy, relative, LENS)
    assert pair.away_px < 1e-9 and pair.still_px > 5
    assert pair.sampson_px is None and pair.epipolar_px is None


def test_what_the_command_puts_behind_the_camera_cannot_agree() -> None:
    about = from_rotation_translation(rotation_y(np.pi), np.zeros(3))
    assert pair_agreement(points(), points(), about, LENS).away_px == 64.0


def test_sums_over_pairs_and_clips() -> None:
    pairs = [PairAgreement(1.0, 10.0, 0.5, 0.5), PairAgreement(3.0, 10.0, None, None)]
    clip = clip_agreement(1.0, pairs, left_out=2)
    assert (clip.agreement, clip.pairs, clip.left_out) == (pytest.approx(0.2), 2, 2)
    assert clip.sampson_px == 0.5 and clip.tsed == {1.0: 1.0, 2.0: 1.0, 4.0: 1.0}
    other = clip_agreement(1.0, [PairAgreement(5.0, 5.0, 9.0, 3.0)])
    both = mean_agreement([clip, other, clip_agreement(1.0, [], left_out=4)])
    assert both.agreement == pytest.approx((2 + 5) / (10 + 5))
    assert both.tsed == {1.0: 0.5, 2.0: 0.5, 4.0: 1.0} and both.left_out == 6
    assert both.to_dict()["tsed_4px"] == 1.0
    with pytest.raises(ValueError, match="expected one span"):
        mean_agreement([clip, clip_agreement(0.5, pairs)])


def test_a_motionless_command_is_undefined() -> None:
    pair = pair_agreement(points() + 1.0, points(), np.eye(4), LENS)
    clip = clip_agreement(1.0, [pair])
    assert clip.code == "command_motionless" and clip.agreement is None
    assert clip_agreement(1.0, []).code == "too_few_points"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"found": points(3)}, "expected .n, 2. twice"),
        ({"relative": np.eye(3)}, "expected .4, 4."),
        ({"depths_m": (2.0, 1.0)}, "rising"),
    ],
)
def test_bad_input(change: dict[str, Any], fault: str) -> None:
    given = {"found": points(), "points": points(), "relative": RIGHT, "intrinsics": LENS} | change
    with pytest.raises(ValueError, match=fault):
        pair_agreement(**given)


@pytest.fixture(scope="module")
def video() -> tuple[Any, Any]:
    """49 true frames of a walk that turns, and its poses."""
    scene = generate_scene(1)
    start = sample_pose(scene, np.random.default_rng(0), view=2.5)
    walk = np.tile(np.eye(4), (49, 1, 1))
    walk[:, 0, 3] = np.linspace(0.0, 0.5, 49)
    walk[:, :3, :3] = [rotation_y(angle) for angle in np.linspace(0, 0.4, 49)]
    return render(scene, start @ walk, default_intrinsics(64, 64), (64, 64)), walk


def test_true_frames_follow_and_others_do_not(video: tuple[Any, Any]) -> None:
    frames, walk = video
    lens = default_intrinsics(64, 64)

    def measure(frames: Any, path: Any) -> float:
        clip = command_agreement(frames, path, lens, 16.0, depths_m=(0.3, 12.0))[1.0]
        assert clip.agreement is not None and clip.pairs == 5
        return clip.agreement

    assert measure(frames, walk) < 0.05
    assert measure(np.repeat(frames[:1], 49, axis=0), walk) == pytest.approx(1.0, abs=0.02)
    back = np.linalg.inv(walk)
    assert measure(frames, back) > 1.0
    assert np.allclose(relative_command(walk, 3, 3), np.eye(4))


def test_videos_and_poses_of_one_length(video: tuple[Any, Any]) -> None:
    frames, walk = video
    with pytest.raises(ValueError, match="given 48 frames and 49 poses"):
        command_agreement(frames[:48], walk, default_intrinsics(64, 64), 16.0)
    grey = np.full_like(frames, 128)
    clip = command_agreement(grey, walk, default_intrinsics(64, 64), 16.0)[1.0]
    assert clip.code == "too_few_points" and clip.left_out == 5
