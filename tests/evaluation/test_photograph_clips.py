"""Videos of photographs: their cameras are what they say, discs cover what they should."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from sana_wm_gym.evaluation.photograph_clips import TEXTURES, photograph_clip
from sana_wm_gym.metrics import psnr

pytest.importorskip("skimage")


def test_a_pan_is_the_homography_of_its_rotation() -> None:
    clip = photograph_clip("pan", "pan", 128, seed=0)
    fx, fy, cx, cy = clip.intrinsics
    # OpenCV puts the centre of the first pixel at 0.
    camera = np.array([[fx, 0, cx - 0.5], [0, fy, cy - 0.5], [0, 0, 1]])
    turn = clip.c2w[12, :3, :3].T @ clip.c2w[0, :3, :3]
    drawn = cv2.warpPerspective(
        clip.frames[0], camera @ turn @ np.linalg.inv(camera), (128, 128), flags=cv2.INTER_CUBIC
    )
    middle = np.s_[16:-16, 16:96]  # away from what was not in the first frame
    exact, before = (
        psnr(np.asarray(image, np.uint8)[middle], clip.frames[12][middle])
        for image in (drawn, clip.frames[0])
    )
    assert exact > before + 10


def test_a_room_shows_depth_and_two_boards_move_most() -> None:
    clip = photograph_clip("room", "strafe", 64, seed=0)
    assert clip.frames.shape == (49, 64, 64, 3) and clip.frames.dtype == np.uint8
    assert clip.frames.min(axis=-1).astype(bool).mean() > 0.9  # walls leave no hole
    assert np.linalg.norm(clip.c2w[-1, :3, 3] - clip.c2w[0, :3, 3]) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize("texture", TEXTURES)
def test_a_disc_covers_its_fraction_of_the_middle_frame(texture: str) -> None:
    clip = photograph_clip("plane", "strafe", 64, seed=0)
    moving = clip.with_disc(0.25, texture, seed=0)
    changed = (moving.frames != clip.frames).any(axis=-1)
    assert changed[24].mean() == pytest.approx(0.25, abs=0.03)
    assert changed[0].mean() < 0.25  # partly outside
    kept = moving.compressed()
    assert kept.frames.shape == clip.frames.shape
    assert 25 < psnr(kept.frames, moving.frames) < 60
