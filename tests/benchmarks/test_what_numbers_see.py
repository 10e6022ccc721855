"""Every wrong video is caught by the number that is meant for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.what_numbers_see import COMMAND, score_videos, side_by_side, tables
from sana_wm_gym.evaluation.estimator_floors import CLIPS, FPS, place
from sana_wm_gym.poses.protocol import EstimatorInfo, Frames, PoseEstimate
from sana_wm_gym.world.procedural.scenes import generate_scene


class Blind:
    """Reads no pose."""

    def estimate(self, frames: Frames, intrinsics: object, fps: float) -> PoseEstimate:
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        info = EstimatorInfo("blind", "1", "estimated", "full", None, None, False)
        return PoseEstimate(poses, np.zeros(len(frames), bool), info)


@pytest.fixture(scope="module")
def rows() -> dict[str, dict[str, Any]]:
    scene = generate_scene(0)
    command = place(scene, CLIPS[COMMAND](np.arange(49) / FPS), seed=0)
    return {row["name"]: row for row in score_videos(scene, command, 32, Blind(), lambda: None)}


def test_known_poses_of_the_right_video_score_nothing(rows: dict[str, dict[str, Any]]) -> None:
    for scores in rows["as commanded"]["known"].values():
        assert scores["rot_err"] < 1e-5
        assert scores["trans_err"] < 1e-9
    assert rows["as commanded"]["psnr_db"] is None
    assert rows["as commanded"]["frame_change"] == 1


def test_each_fault_has_its_number(rows: dict[str, dict[str, Any]]) -> None:
    def known(name: str, convention: str, key: str) -> float:
        return float(rows[name]["known"][convention][key])

    little = known("turns 10 % too little", "release", "rot_err")
    assert 0.1 < little < known("turns the other way", "release", "rot_err")
    # An aligned number forgives the scale; the fitted scale shows it.
    assert known("half speed", "scale_only", "scale") == pytest.approx(2, rel=0.15)
    assert rows["frozen"]["frame_change"] == 0
    assert rows["frozen"]["known"]["scale_only"]["scale"] is None
    assert known("one chunk late", "scale_only", "rot_err") > 0.5
    assert rows["frames shuffled"]["frame_change"] > 1.5
    assert all(row["psnr_db"] < 40 for row in rows.values() if row["psnr_db"] is not None)


def test_poses_that_cannot_be_read_show_a_code(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["frozen"]["read"]["release"] == {"code": "too_few_valid"}
    table = tables(list(rows.values()), side_by_side(49))[0].markdown()
    assert table.count("`too_few_valid`") >= 4 * len(rows)


def test_similarity_is_refused_on_a_straight_path_and_release_is_not() -> None:
    paths = side_by_side(97)
    assert "collinear" in str(paths["dolly"]["paper_sim3"])
    assert paths["dolly"]["release"]["rot_err"] < 0.3
    assert "reference_static" in str(paths["pan"]["paper_sim3"])
    assert paths["s_curve"]["paper_sim3"]["rot_err"] > paths["s_curve"]["release"]["rot_err"]
