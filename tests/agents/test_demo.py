"""The demo: a tour that keeps clear of walls, and its three files."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from sana_wm_gym import cli
from sana_wm_gym.agents import demo
from sana_wm_gym.agents.tour import MARGIN, plan_tour
from sana_wm_gym.camera.controls import Controls, twist_to_controls
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.metrics import PoseScore
from sana_wm_gym.poses.protocol import OracleEstimator
from sana_wm_gym.video import probe
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS, ProceduralWorld
from sana_wm_gym.world.procedural.scenes import free_space, generate_scene, sample_pose

SPEC = ProceduralWorld().spec


def path_of(actions):
    parts = [twist_to_controls(action, WALK_LIMITS, CHUNK_FRAMES) for action in actions]
    return rollout(Controls.concatenate(parts), WALK_LIMITS.pitch_limit)


@pytest.mark.parametrize("seed", range(6))
def test_tour_keeps_clear_and_gets_somewhere(seed):
    scene, rng = generate_scene(seed), np.random.default_rng(seed)
    start = sample_pose(scene, rng)
    actions = plan_tour(scene, start, SPEC, 16, rng)
    assert actions.shape == (16, 5) and np.abs(actions).max() <= 1
    poses = start @ path_of(actions)
    # A start may itself be nearer than the margin; the tour must not be.
    assert free_space(scene, poses[1:, :3, 3], MARGIN).all()
    assert np.linalg.norm(poses[:, :3, 3] - poses[0, :3, 3], axis=1).max() > 0.5


def test_tour_is_a_function_of_its_seed():
    scene = generate_scene(5)
    start = sample_pose(scene, np.random.default_rng(0))
    first, again, other = (
        plan_tour(scene, start, SPEC, 4, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_command_on_the_exact_world(tmp_path, capsys):
    arguments = ["--world", "procedural", "--chunks", "3", "--seed", "1", "--out", str(tmp_path)]
    assert demo.main(arguments) == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "rollout.mp4",
        "trajectory.png",
        "metrics.json",
    }
    video = probe(tmp_path / "rollout.mp4")
    assert Image.open(tmp_path / "trajectory.png").size[0] > 300
    assert video.frames == 3 * CHUNK_FRAMES + 1 and video.rate == 16
    result = json.loads((tmp_path / "metrics.json").read_text())
    for key in ("command", "version", "date"):
        assert result[key]
    assert np.shape(result["actions"]) == (3, 5)
    assert result["psnr_db"] == [100.0] * 3  # this world is the truth
    assert max(result["psnr_db_of_repeating_the_first_frame"]) < 40
    camera = result["camera"]
    # True frames in both places: the score is its own floor.
    assert camera["scores"] == camera["floor"]
    assert camera["source"] == "estimated" and camera["frames_asked"] == 37
    shown = capsys.readouterr().out
    for word in ("release", "scale_only", "floor", "motionless", "no rotation", "metrics.json"):
        assert word in shown


def test_path_is_drawn_in_the_frame_it_was_commanded_in(monkeypatch):
    """Known poses, the first frames missing: centres still lie on the commanded path."""
    tour = demo.walk(ProceduralWorld(scenes=(5,)), 2, 3, demo.Console(quiet=True))

    class Late:
        def estimate(self, frames, intrinsics, fps):
            known = OracleEstimator(tour.c2w[:: demo.SCORED_EVERY])
            estimate = known.estimate(frames, intrinsics, fps)
            estimate.valid[:5] = False
            poses = np.linalg.inv(estimate.poses[5]) @ estimate.poses
            poses[:, :3, 3] *= 0.1  # a unit of its own
            estimate.poses[:] = poses
            return estimate

    monkeypatch.setattr(demo, "LKBundleAdjustment", Late)
    result, centres = demo.score(tour, 16.0)
    assert isinstance(result.scale_only, PoseScore)
    assert result.scale_only.scale == pytest.approx(10)
    np.testing.assert_allclose(centres, tour.c2w[:: demo.SCORED_EVERY][5:, :3, 3], atol=1e-9)


def test_the_video_holds_generated_and_true_frames():
    rng = np.random.default_rng(0)
    made, true = rng.integers(0, 256, (2, 3, 8, 8, 3), np.uint8)
    pages = list(demo.side_by_side(made, true))
    assert len(pages) == 3 and len({page.shape for page in pages}) == 1
    for page, left, right in zip(pages, made, true, strict=True):
        large = page[-32:]
        np.testing.assert_array_equal(large[::4, :32:4], left)
        np.testing.assert_array_equal(large[::4, -32::4], right)


@pytest.mark.parametrize("arguments", [["--chunks", "0"], ["--seed", "-1"], ["--world", "nowhere"]])
def test_bad_arguments_end_before_any_work(arguments):
    with pytest.raises(SystemExit) as end:
        demo.main(arguments)
    assert end.value.code == 2


def test_missing_weights_are_one_line(monkeypatch, tmp_path, capsys):
    def absent(name):
        raise FileNotFoundError("no weights at somewhere")

    monkeypatch.setattr(demo, "load_world", absent)
    assert cli.main(["demo", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: no weights at somewhere\n"
