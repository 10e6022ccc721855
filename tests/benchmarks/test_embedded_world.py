"""The scores of a world: laws on the perfect world, and the command on a small one."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from benchmarks import embedded_world
from benchmarks.pictures import ENLARGED, Strip, enlarge, write_strips
from benchmarks.world_scores import (
    Margin,
    Range,
    frame_statistics,
    obedience,
    psnr,
    repeat_first,
    score_clips,
    squared_errors,
    through_codec,
)
from sana_wm_gym.metrics import SCALE_ONLY
from sana_wm_gym.metrics.estimators.protocol import EstimatorInfo, OracleEstimator, PoseEstimate
from sana_wm_gym.provenance import write_json
from sana_wm_gym.training.validation import chunk_psnr, held_out_clips, roll
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.procedural import ProceduralWorld
from sana_wm_gym.world.renderer import default_intrinsics

INTRINSICS = default_intrinsics(64, 64)


@pytest.fixture(scope="module")
def clips():
    return held_out_clips((5,), 3, 2, INTRINSICS, (64, 64))


@pytest.fixture(scope="module")
def truth(clips):
    return np.stack([clip.truth for clip in clips])


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


def test_perfect_world_has_no_error(clips, truth):
    """The renderer behind the world contract shows the truth, and the shuffled truth is wrong."""
    starts, commands = [c.start for c in clips], [c.c2w for c in clips]
    own = roll(ProceduralWorld(), starts, commands, seed=0)
    shuffled = roll(ProceduralWorld(), starts, commands[1:] + commands[:1], seed=0)
    assert squared_errors(own, truth).max() == 0
    assert Margin.of(squared_errors(own, truth), squared_errors(shuffled, truth)).low.min() > 0


def test_error_is_averaged_over_clips_before_the_logarithm(truth):
    errors = squared_errors(repeat_first(truth), truth)
    assert errors.shape == (3, 2)
    np.testing.assert_allclose(psnr(errors), chunk_psnr(repeat_first(truth), truth), rtol=1e-5)


def test_margin_of_one_clip_has_no_width():
    margin = Margin.of(np.array([[1.0, 4.0]]), np.array([[10.0, 4.0]]))
    np.testing.assert_allclose(margin.mean, [10, 0])
    np.testing.assert_allclose(margin.low, margin.mean)
    np.testing.assert_allclose(margin.high, margin.mean)


def test_margin_interval_holds_the_margin():
    rng = np.random.default_rng(3)
    margin = Margin.of(rng.uniform(1, 2, (16, 4)), rng.uniform(4, 9, (16, 4)))
    assert (margin.low < margin.mean).all() and (margin.mean < margin.high).all()


def test_obedience_of_known_and_failed_clips(clips, truth):
    """Known poses give ratio 0; a failure leaves the mean and returns as a motionless camera."""
    first = [clips[0]] * 2
    seen = np.stack([truth[0], np.zeros_like(truth[0])])
    scores = score_clips(seen, first, 16.0, Knows(clips[0].c2w), lambda made: None)
    summary = obedience(scores, SCALE_ONLY)
    assert (summary.clips_scored, summary.clips_asked, summary.floor_clips) == (1, 2, 2)
    assert (summary.frames_scored, summary.frames_asked) == (49, 98)
    assert summary.failures == {"too_few_valid": 1}
    assert summary.rot_err is not None and summary.trans_err is not None
    for means in (summary.rot_err, summary.trans_err):
        assert means.generated == pytest.approx(0, abs=1e-6) == means.floor == means.ratio
        assert means.motionless > 0
        assert means.ratio_with_failures == pytest.approx(0.5)


def test_obedience_without_any_score(clips, truth):
    black = np.zeros_like(truth[:1])
    summary = obedience(
        score_clips(black, clips[:1], 16.0, Knows(clips[0].c2w), lambda made: None), SCALE_ONLY
    )
    assert summary.rot_err is None and summary.trans_err is None
    assert summary.clips_scored == 0


def test_codec_keeps_the_first_frame_and_comes_closer_than_repeating_it(small_world_file, truth):
    made = through_codec(read_world_file(small_world_file).codec, truth)
    assert made.shape == truth.shape and made.dtype == np.uint8
    np.testing.assert_array_equal(made[:, 0], truth[:, 0])
    assert squared_errors(made, truth).mean() < squared_errors(repeat_first(truth), truth).mean()


def test_statistics_of_a_flat_and_a_striped_frame():
    flat = np.full((1, 4, 4, 3), 10, np.uint8)
    striped = flat.copy()
    striped[:, ::2, :, 1] = 30
    rows = frame_statistics(np.concatenate([flat, striped]))
    np.testing.assert_allclose(rows, [[10, 10, 10, 0, 0, 0], [10, 20, 10, 0, 10, 0]])
    assert Range.of(rows, rows).inside == 1
    assert Range.of(rows, rows[:1]).inside == 0.5


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


def test_json_refuses_nan_and_keeps_the_old_file(tmp_path):
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1.0})
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1.0}


def test_command(small_world_file, tmp_path, capsys, monkeypatch):
    """An untrained world: numbers are reported, and --check turns a miss into a failure."""
    monkeypatch.setattr(embedded_world, "_WATCHED_CLIPS", 1)
    monkeypatch.setattr(embedded_world, "_TRAINING_WALKS", 1)
    arguments = ["--clips", "2", "--chunks", "2", "--long-clips", "2", "--long-chunks", "3"]
    arguments += ["--check", "--weights", str(small_world_file), "--out", str(tmp_path)]
    assert embedded_world.main(arguments) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "embedded_world.json",
        "strip.png",
        "minute.png",
    }
    result = json.loads((tmp_path / "embedded_world.json").read_text())
    for key in ("command", "commit", "device", "date", "weights", "seed"):
        assert result[key] not in (None, "")
    maps = result["shipped_maps"]
    assert len(maps["psnr_own"]) == 2 and len(result["minute"]["psnr_own"]) == 3
    margin = np.subtract(maps["psnr_own"], maps["psnr_repeat"])
    np.testing.assert_allclose(maps["own_over_repeat_db"]["mean"], margin)
    assert result["minute"]["broken_chunks"] == 0
    assert len(result["camera_clips"]) == 2
    assert any(bound["passed"] is not True for bound in result["bounds"])
    assert "own over shuffled" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--clips", "1"], ["--chunks", "0"]])
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
