"""COLMAP as a second opinion; skipped where pycolmap is not installed."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from sana_wm_gym.evaluation.estimator_floors import CLIPS, FPS, place
from sana_wm_gym.metrics import RELEASE, score_poses
from sana_wm_gym.poses import ColmapSift
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import generate_scene

SIZE = 128
INTRINSICS = default_intrinsics(SIZE, SIZE)


def test_without_the_package_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(ImportError, match=r"sana_wm_gym\[eval\]") as caught:
        ColmapSift().estimate(np.zeros((2, 8, 8, 3), np.uint8), None, FPS)
    assert "\n" not in str(caught.value)


def test_a_travelling_clip_is_placed() -> None:
    pytest.importorskip("pycolmap", reason="pycolmap, of the extra `eval`, is not installed")
    scene = generate_scene(1)
    truth = place(scene, CLIPS["strafe_yaw"](np.arange(65) / FPS), seed=1)[:36:4]
    frames = render(scene, truth, INTRINSICS, (SIZE, SIZE), samples=2)
    estimate = ColmapSift().estimate(frames, INTRINSICS, FPS)
    assert estimate.valid.all()
    score = score_poses(estimate.poses, truth, RELEASE, estimate.valid)
    assert score.rot_err is not None and score.rot_err < 0.6
    assert estimate.info.reprojection_error_px is not None
    assert estimate.info.name == "colmap_sift" and estimate.info.version


def test_frames_without_texture_are_all_invalid() -> None:
    pytest.importorskip("pycolmap", reason="pycolmap, of the extra `eval`, is not installed")
    estimate = ColmapSift().estimate(np.full((4, 64, 64, 3), 90, np.uint8), None, FPS)
    assert not estimate.valid.any()
    assert np.isnan(estimate.poses).all()
