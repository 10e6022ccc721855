"""What is held against an estimate: something moves, the focal length is wrong, frames are lost."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.evaluation.photograph_clips import FPS, TEXTURES, PhotographClip, photograph_clip
from sana_wm_gym.metrics import RELEASE, score_poses
from sana_wm_gym.poses import ESTIMATORS, LKBundleAdjustment, PoseEstimate
from sana_wm_gym.poses.diagnostics import rotation_gap_deg

pytest.importorskip("skimage")


@lru_cache
def clip() -> PhotographClip:
    return photograph_clip("room", "s_curve", 64, seed=0)


def estimate(video: PhotographClip, focal: float = 1.0) -> PoseEstimate:
    intrinsics = np.array(video.intrinsics) * [focal, focal, 1, 1]
    return LKBundleAdjustment().estimate(video.frames, intrinsics, FPS)


def test_nothing_is_held_against_true_frames() -> None:
    video = clip().compressed()
    found = estimate(video)
    assert found.info.mode == "full" and found.flags == ()
    assert found.explained is not None and found.explained > 0.95
    assert found.reversed_deg is not None and found.reversed_deg < 0.5
    score = score_poses(found.poses, video.c2w, RELEASE, found.valid)
    assert score.rot_err is not None and score.rot_err < 0.25


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_disc_that_moves_over_a_quarter_of_the_picture_is_flagged(texture: str) -> None:
    found = estimate(clip().with_disc(0.25, texture, seed=0).compressed())
    assert "unexplained" in found.flags


def test_a_small_moving_disc_is_not_flagged() -> None:
    found = estimate(clip().with_disc(0.05, "noise", seed=0).compressed())
    assert found.flags == ()


@pytest.mark.parametrize("focal", [0.7, 1.4])
def test_a_wrong_focal_length_is_flagged(focal: float) -> None:
    found = estimate(clip().compressed(), focal)
    assert "focal_length" in found.flags
    assert found.focal_ratio == pytest.approx(1 / focal, rel=0.2)


def test_frames_that_share_nothing_are_lost() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (17, 64, 64, 3)).astype(np.uint8)
    found = LKBundleAdjustment().estimate(noise, None, FPS)
    assert found.info.mode == "lost" and found.valid.mean() < 0.5
    assert (found.explained, found.focal_ratio, found.flags) == (None, None, ())


def test_the_older_version_is_selected_by_name_and_measures_nothing_against_itself() -> None:
    frames = clip().frames[:17]
    old = ESTIMATORS["lk_bundle_adjustment_2"].estimate(frames, clip().intrinsics, FPS)
    new = ESTIMATORS["lk_bundle_adjustment"].estimate(frames, clip().intrinsics, FPS)
    assert (old.info.version, new.info.version) == ("2", "3")
    assert (old.explained, old.reversed_deg, old.focal_ratio) == (None, None, None)
    assert new.explained is not None
    with pytest.raises(ValueError, match="expected 2 or 3"):
        LKBundleAdjustment(version=4)  # type: ignore[arg-type]


def test_the_gap_between_paths_forgives_one_turn_of_all() -> None:
    path = np.tile(np.eye(4), (9, 1, 1))
    path[:, :3, :3] = [rotation_y(angle) for angle in np.linspace(0, 0.4, 9)]
    turned = path.copy()
    turned[:, :3, :3] = path[5, :3, :3] @ path[:, :3, :3]
    both = np.ones(len(path), dtype=bool)
    assert rotation_gap_deg(path, turned, both) == pytest.approx(0.0, abs=1e-6)
    assert rotation_gap_deg(path, path, both & False) is None
    still = np.tile(np.eye(4), (len(path), 1, 1))
    gap = rotation_gap_deg(path, still, both)
    assert gap is not None and gap > 4
