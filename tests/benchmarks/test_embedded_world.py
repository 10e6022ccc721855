"""The scores of a world: laws on the perfect world, and the command on a small one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import embedded_world
from benchmarks.first_version import speed_ratio
from benchmarks.training_curve import main as draw_curve
from sana_wm_gym.evaluation import foreign_pictures, world_report
from sana_wm_gym.evaluation.conditions import wrong_prompt
from sana_wm_gym.evaluation.held_out import held_out_clips, repeat_first, truth_of
from sana_wm_gym.evaluation.pictures import (
    ENLARGED,
    MOVING_BYTES,
    Strip,
    enlarge,
    write_moving,
    write_strips,
)
from sana_wm_gym.evaluation.variant_scores import LEAST_COVERAGE, score_variants, surface_views
from sana_wm_gym.evaluation.world_scores import (
    camera_errors,
    frame_statistics,
    score_cameras,
    statistics_range,
    through_codec,
    training_statistics,
)
from sana_wm_gym.metrics import SCALE_ONLY, mean_squared_error
from sana_wm_gym.poses.protocol import EstimatorInfo, OracleEstimator, PoseEstimate
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.procedural.scenes import generate_scene

SPEC = ProceduralWorld(scenes=(5,)).spec


@pytest.fixture(scope="module")
def clips():
    return held_out_clips(SPEC, 3, 2)


@pytest.fixture(scope="module")
def truth(clips):
    return truth_of(clips)


class Knows:
    """An estimator that knows one path and takes every clip for it; blind to black videos."""

    def __init__(self, c2w):
        self.c2w = c2w

    def estimate(self, frames, intrinsics, fps):
        if frames.any():
            return OracleEstimator(self.c2w).estimate(frames, intrinsics, fps)
        nothing = np.arange(len(frames)) < 1
        info = EstimatorInfo("blind", "1", "estimated", "static", None, None, False)
        return PoseEstimate(np.tile(np.eye(4), (len(frames), 1, 1)), nothing, info)


def test_camera_errors_of_known_and_failed_clips(clips, truth):
    """Known poses give ratio 0; a failure leaves the mean and returns as a motionless camera."""
    first = [clips[0]] * 2
    seen = np.stack([truth[0], np.zeros_like(truth[0])])
    scores = score_cameras(seen, first, 16.0, Knows(clips[0].c2w), lambda made: None)
    summary = camera_errors(scores, SCALE_ONLY)
    clips = ("clips_scored", "clips_generated", "floor_clips", "frames_scored", "frames_generated")
    assert [summary[name] for name in clips] == [1, 2, 2, 49, 98]
    assert summary["failures"] == {"too_few_valid": 1}
    for means in (summary["rot_err"], summary["trans_err"]):
        assert means["generated"] == pytest.approx(0, abs=1e-6) == means["floor"] == means["ratio"]
        assert means["motionless"] > 0
        assert means["ratio_with_failures"] == pytest.approx(0.5)
    nothing = camera_errors(scores[1:], SCALE_ONLY)
    assert nothing["rot_err"] is nothing["trans_err"] is None and nothing["clips_scored"] == 0


def test_codec_keeps_the_first_frame_and_comes_closer_than_repeating_it(small_world_file, truth):
    made = through_codec(read_world_file(small_world_file).codec, truth)
    assert made.shape == truth.shape and made.dtype == np.uint8
    np.testing.assert_array_equal(made[:, 0], truth[:, 0])
    assert mean_squared_error(made, truth) < mean_squared_error(repeat_first(truth).copy(), truth)


def test_statistics_of_a_flat_and_a_striped_frame():
    flat = np.full((1, 4, 4, 3), 10, np.uint8)
    striped = flat.copy()
    striped[:, ::2, :, 1] = 30
    rows = frame_statistics(np.concatenate([flat, striped]))
    np.testing.assert_allclose(rows, [[10, 10, 10, 0, 0, 0], [10, 20, 10, 0, 10, 0]])
    assert statistics_range(rows, rows)["inside"] == 1
    assert statistics_range(rows, rows[:1])["inside"] == 0.5


@pytest.fixture(scope="module")
def varied():
    """Clips of the courtyard, each in an appearance of its own."""
    return held_out_clips(replace(SPEC, scenes=(COURTYARD,)), 3, 2)


@pytest.fixture(scope="module")
def courtyard(courtyard_world_file):
    return world_of(read_world_file(courtyard_world_file))


def test_ground_truth_shows_the_true_variants(varied):
    """And with every surface changed, none of them; first frames never count."""
    surfaces, views = generate_scene(COURTYARD).surfaces, surface_views(varied)
    truth = truth_of(varied)
    score = score_variants(views, truth, surfaces)
    assert score is not None
    assert (score.true, score.decided, score.pairs) == (1, 1, len(views))
    assert sum(pairs for pairs, _ in score.surfaces.values()) == score.pairs >= score.hidden_pairs
    wrong = truth.copy()
    for view in views:
        assert view.frames.min() > 0 and view.mask.mean(axis=(1, 2)).min() >= LEAST_COVERAGE
        video = wrong[view.clip]
        rows = video[view.frames]
        rows[view.mask] = view.variants[1 - view.true]
        video[view.frames] = rows
    changed = score_variants(views, wrong, surfaces)
    assert changed is not None and changed.true == 0 and changed.decided == 1


def test_few_clips_score_their_own_surfaces(varied):
    views, truth = surface_views(varied), varied[0].truth[None]
    score = score_variants(views, truth, generate_scene(COURTYARD).surfaces)
    assert score is not None
    assert score.pairs == sum(view.clip == 0 for view in views)
    assert score_variants([], truth, ()) is None


def test_wrong_prompt_names_no_true_variant(courtyard):
    spec = courtyard.spec
    right = tuple(range(len(spec.surfaces)))
    right = tuple(i % len(s.variants) for i, s in zip(right, spec.surfaces, strict=True))
    wrong = wrong_prompt(spec, right).split(", ")
    assert len(wrong) == len(spec.surfaces)
    assert not set(wrong) & set(prompt_of(spec.surfaces, right).split(", "))


def test_statistics_cover_appearances(courtyard):
    """Frames of walks in different appearances, not of one."""
    assert training_statistics(courtyard.spec, 2, frames=32).shape == (2 * 3, 6)


def test_pictured_clips_begin_far_apart(varied):
    assert world_report.spread([varied[0], varied[0], varied[2]], 2) == [0, 2]
    assert world_report.spread(varied[:2], 4) == [0, 1]


def test_speed_ratio_of_a_smaller_world_is_above_one(courtyard):
    ticks = []
    speed = speed_ratio(courtyard, 2, ticks.append)
    assert speed.pairs == 2 and speed.steps_per_s > 0 and sum(ticks) >= 2
    assert min(speed.ratio, speed.ratio_cpu) > 1


def test_strip_shows_every_pixel(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (2, 5, 7, 3), np.uint8)
    write_strips(tmp_path / "strip.png", [Strip([("truth", frames)])], ["0 s", "1 s"])
    sheet = np.asarray(Image.open(tmp_path / "strip.png"))
    shape = (5 * ENLARGED, 7 * ENLARGED, 3)
    windows = np.lib.stride_tricks.sliding_window_view(sheet, shape)[:, :, 0]
    for frame in frames:
        assert (windows == np.asarray(enlarge(frame))).all(axis=(2, 3, 4)).any()
    assert list(tmp_path.iterdir()) == [tmp_path / "strip.png"]


def test_moving_picture_keeps_time_and_size(tmp_path):
    """Noise does not compress: the quality falls until the file fits."""
    frames = np.random.default_rng(0).integers(0, 256, (17, 64, 64, 3), np.uint8)
    strips = [Strip([("truth", frames), ("generated", frames)])] * 3
    path = tmp_path / "new" / "rollout.webp"
    write_moving(path, strips, fps=16)
    assert path.stat().st_size <= MOVING_BYTES
    total = 0
    with Image.open(path) as picture:
        assert picture.n_frames == 17
        for index in range(17):
            picture.seek(index)
            picture.load()
            total += picture.info["duration"]
    assert total == round(17 * 1000 / 16)


def test_training_curve(tmp_path, capsys):
    (tmp_path / "loss.csv").write_text("step,cpu_hours,loss\n25,0.01,0.9\n50,0.02,0.5\n")
    held_out = "step,cpu_hours,own_1,own_2,repeat_1,repeat_2\n50,0.02,20,19,15,12\n"
    out = tmp_path / "new" / "curve.png"
    assert draw_curve([str(tmp_path), "--out", str(out)]) == 2
    assert "validation.csv" in capsys.readouterr().err
    (tmp_path / "validation.csv").write_text(held_out)
    assert draw_curve([str(tmp_path), "--out", str(out)]) == 0
    assert [path.name for path in out.parent.iterdir()] == ["curve.png"]
    assert np.asarray(Image.open(out)).std() > 0


QUICK = ["--clips", "2", "--chunks", "2", "--long-clips", "2", "--long-chunks", "3"]
QUICK += ["--skip", "1", "--starts", "32", "--pairs", "1", "--check"]


STORED = Path(__file__).parents[2] / "docs" / "data" / "embedded_world.json"


def keys(document):
    """Names at every level of a result but those that depend on the world or on single clips."""
    if isinstance(document, list):
        return keys(document[0]) if document else None
    if not isinstance(document, dict):
        return None
    free = ("surfaces", "camera_clips", "failures", "modes", "rot_err", "trans_err", "variants")
    return {name: None if name in free else keys(part) for name, part in document.items()}


def test_command(courtyard_world_file, tmp_path, capsys, monkeypatch):
    """An untrained world: numbers are reported, and --check turns a miss into a failure."""
    monkeypatch.setattr(embedded_world, "_TRAINING_WALKS", 1)
    # Four foreign renders of three scenes.
    monkeypatch.setattr(foreign_pictures, "FOREIGN_SCENES", range(3))
    monkeypatch.setitem(foreign_pictures.COUNTS, "other scenes", 4)
    arguments = [*QUICK, "--weights", str(courtyard_world_file), "--out", str(tmp_path)]
    assert embedded_world.main(arguments) == 1
    names = {path.name for path in tmp_path.iterdir()}
    pictures = {"strip.png", "minute.png", "rollout.webp"}
    tables = [
        "rollouts",
        "conditions",
        "minute",
        "camera",
        "speed",
        "checks",
        "surfaces",
        "localiser",
        "agreement",
        "foreign",
    ]
    assert names == {"embedded_world.json", *pictures, *(f"{name}.csv" for name in tables)}
    result = json.loads((tmp_path / "embedded_world.json").read_text())
    for key in ("command", "commit", "device", "date", "weights", "seed"):
        assert result[key] not in (None, "")
    assert result["anchor"] == "estimated"
    rollouts = result["rollouts"]
    assert len(rollouts["psnr_own"]) == 2 and len(result["minute"]["psnr_own"]) == 3
    margin = np.subtract(rollouts["psnr_own"], rollouts["psnr_repeat"])
    np.testing.assert_allclose(rollouts["own_over_repeat_db"]["mean"], margin)
    conditions = {condition["name"]: condition for condition in result["conditions"]}
    assert list(conditions) == [
        "own prompt",
        "repeat first frame",
        "true anchor",
        "empty prompt",
        "every word wrong",
        "empty prompt, first clips",
        "the same, steps at 1000, 500",
    ]
    own = conditions["own prompt"]
    np.testing.assert_allclose(own["psnr_own"], rollouts["psnr_own"])
    assert conditions["true anchor"]["psnr_own"] != own["psnr_own"]
    assert own["variants"]["pairs"] > 0
    assert result["localiser"]["overall"]["count"] == 32
    assert result["speed"]["ratio"] > 0
    assert result["minute"]["broken_chunks"] == 0
    assert len(result["camera_clips"]) == 2
    assert all(check["value"] is not None for check in result["checks"])
    assert any(check["passed"] is not True for check in result["checks"])
    shown = capsys.readouterr().out
    assert "own over shuffled" in shown and "Bounds" in shown
    stored = json.loads(STORED.read_text())
    assert keys(result) == keys(stored)


def test_a_world_without_localiser_and_prompts(small_world_file, tmp_path, monkeypatch):
    """Its missing numbers are missed bounds; --anchor true gives it true poses."""
    monkeypatch.setattr(embedded_world, "_TRAINING_WALKS", 1)
    still = Knows(np.tile(np.eye(4), (49, 1, 1)))
    monkeypatch.setattr(embedded_world, "LKBundleAdjustment", lambda: still)
    arguments = [*QUICK, "--weights", str(small_world_file), "--out", str(tmp_path)]
    assert embedded_world.main([*arguments, "--anchor", "true"]) == 1
    result = json.loads((tmp_path / "embedded_world.json").read_text())
    assert result["anchor"] == "true" and result["localiser"] is None
    names = [condition["name"] for condition in result["conditions"]]
    assert "true anchor" not in names and "every word wrong" not in names
    missing = [check["name"] for check in result["checks"] if check["value"] is None]
    assert "named variant is the nearest one" in missing and len(missing) == 6


@pytest.mark.parametrize(
    "arguments", [["--clips", "1"], ["--chunks", "0"], ["--starts", "4"], ["--skip", "-1"]]
)
def test_bad_arguments_end_before_any_work(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        embedded_world.main(arguments)
    assert end.value.code == 2
    assert "at least" in capsys.readouterr().err


def test_damaged_weights_are_one_line(tmp_path, capsys):
    path = tmp_path / "bad.safetensors"
    path.write_bytes(b"not weights")
    assert embedded_world.main(["--weights", str(path), "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} is truncated")
