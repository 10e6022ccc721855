"""The two commands: existing videos, and the settings of the benchmark."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from control_runs import VIDEO, Drifting, config, results, run, silent

from sana_wm_gym import cli
from sana_wm_gym.evaluation.bench.reader import read_bench
from sana_wm_gym.evaluation.bench.results import MethodFolder
from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.evaluation.control.score_video import VideoClip, read_clip, true_video
from sana_wm_gym.evaluation.control.tables import published
from sana_wm_gym.evaluation.tools import bench_run, score
from sana_wm_gym.video import write_video


def foreign(bench, folder, split, fps, name, poses=VIDEO):
    """True videos of so many poses at another rate and size, as another tool would leave them."""
    folder.mkdir(parents=True)
    for one in read_bench(bench, split):
        frames = round((poses - 1) * fps / 16) + 1
        blank = VideoClip(np.zeros((frames, 48, 64, 3), np.uint8), fps, Path("v.mp4"))
        write_video(folder / name.format(one.id), true_video(one, blank), fps, near_lossless=True)


@pytest.fixture
def scorer(monkeypatch):
    monkeypatch.setattr(score, "LKBundleAdjustment", Drifting)
    monkeypatch.setattr(score, "Console", silent)
    return lambda *arguments: cli.main(["score", *map(str, arguments), "--workers", "1"])


def test_flat_videos_at_another_rate_and_size_are_matched_by_time(bench, tmp_path, scorer):
    foreign(bench, tmp_path / "theirs", "hard", 24.0, "{}.mp4")
    out = tmp_path / "out"
    given_options = ("--videos", tmp_path / "theirs", "--bench", bench, "--out", out)
    assert scorer(*given_options) == 2  # one split's videos, but of which?
    assert scorer(*given_options, "--split", "hard") == 0
    for result in results(out, "hard").values():
        assert result["video"] == {"frames": 71, "fps": 24.0, "height": 48, "width": 64}
        assert result["cost"] is None and result["pose"]["frames_scored"] == 12
        (window,) = result["twin"]["windows"]
        assert window["psnr_db"] > 35 > window["repeat_db"]
    report = (out / "report.md").read_text()
    assert "# Camera control: theirs" in report and "Speed" not in report
    before = {p: p.stat().st_mtime_ns for p in (out / "scenes").rglob("*.json")}
    assert scorer(*given_options, "--split", "hard") == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_published_layout_with_its_failures(bench, tmp_path, scorer):
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    foreign(bench, theirs / "simple_60s", "simple", 16.0, "{}_generated.mp4")
    one, other = sorted((theirs / "simple_60s").iterdir())
    one.unlink()
    command = ("--videos", theirs, "--bench", bench, "--out", out)
    assert scorer(*command) == 1
    codes = sorted(result.get("code", "") for result in results(out).values())
    assert codes == ["", "missing_video"]
    assert scorer(*command, "--split", "hard") == 2

    info = {"model": "theirs", "variant": "x", "fps": 24, "resolution": "64x48"}
    (theirs / "method_info.json").write_text(json.dumps(info))
    elsewhere = ("--videos", theirs, "--bench", bench, "--out", tmp_path / "second")
    assert scorer(*elsewhere) == 1
    codes = sorted(result["code"] for result in results(tmp_path / "second").values())
    assert codes == ["missing_video", "wrong_fps"]

    other.write_bytes(other.read_bytes()[:-100])
    assert scorer(*command) == 2  # another video than the one that was scored


def test_videos_of_any_suffix_are_found_and_the_unused_are_named(tmp_path):
    for name in ("a.MP4", "b_generated.mov", "b.mp4", "my_walk.mp4", "notes.txt"):
        (tmp_path / name).touch()
    videos, unused = score.match_videos(tmp_path, "abc")
    names = [path.name for path in videos.values()]
    assert names == ["a.MP4", "b_generated.mov", "c_generated.mp4"]
    assert unused == ["b.mp4", "my_walk.mp4"]


def test_short_videos_fail_or_are_scored_in_part(bench, tmp_path, scorer):
    folder = tmp_path / "theirs"
    foreign(bench, folder, "simple", 16.0, "{}.mp4", poses=32)
    command = ("--videos", folder, "--bench", bench, "--split", "simple", "--out")
    assert scorer(*command, tmp_path / "a") == 1
    assert {result["code"] for result in results(tmp_path / "a").values()} == {"too_short"}
    assert scorer(*command, tmp_path / "b", "--truncate") == 0
    text = (tmp_path / "b" / "report.md").read_text()
    assert "2/2 clips, 16/24 frames" in text


@pytest.mark.parametrize(
    "arguments",
    [("--videos", "nowhere", "--bench", "nowhere"), ("--videos", ".", "--bench", "nowhere"),
     ("--videos", ".", "--bench", "nowhere", "--split", "easy")],
)  # fmt: skip
def test_scorer_names_what_is_missing(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["score", *arguments]) == 2
    assert capsys.readouterr().err.startswith("error: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": ("easy",)}, "unknown split"),
        ({"split": ()}, "no split"),
        ({"seed": -1}, "seed is -1"),
        ({"interval": 0}, "interval is 0"),
        ({"workers": 1.5}, "workers is 1.5"),
        ({"scenes": 0}, "scenes is 0"),
        ({"chunks": 0}, "chunks is 0"),
        ({"bench": "x", "chunks": 2}, "chunks with a bench"),
        ({"shard": 2, "shards": 2}, "shard is 2"),
        ({"min_coverage": 1.5}, "min_coverage is 1.5"),
        ({"estimator": 3}, "estimator int"),
        ({"launcher": "slurm"}, "'slurm', expected one of processes, ray"),
        ({"ray_address": "auto"}, "launcher=processes, expected ray"),
    ],
)
def test_settings_are_checked_at_the_start(changes, message):
    with pytest.raises(ValueError, match=message):
        ControlConfig(**changes)


def test_splits_have_two_names():
    assert ControlConfig(split=("simple_60s", "hard", "simple")).splits == ("simple", "hard")
    assert ControlConfig(split="hard,simple").splits == ("hard", "simple")


def command_line(*arguments):
    return cli.main(["bench", "run", *map(str, arguments)])


def test_command_line_lists_splits_with_a_comma(bench, monkeypatch):
    given = []

    def benchmark(settings, console):
        given.append((settings, sys.argv[1]))
        return 1

    monkeypatch.setattr(bench_run, "benchmark", benchmark)
    assert command_line("split=simple,hard", f"bench={bench}", "seed=3") == 1
    ((settings, first),) = given
    assert settings.splits == ("simple", "hard") and settings.seed == 3
    assert first == "split=simple,hard"  # as it was typed, for the report


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("world=nowhere", "unknown world"),
        ("world=sana-wm-streaming", "weights fetch sana-wm-streaming"),
        ("seed=-1", "seed is -1"),
        ("chunks=41", "up to 961"),
        ("bench=/no/such/folder", "no folder"),
    ],
)
def test_what_cannot_run_is_one_line_and_status_2(argument, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command_line("world=procedural", argument) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_help_explains_every_setting(capsys):
    with pytest.raises(SystemExit) as ended:
        command_line("--help")
    assert ended.value.code == 0
    text = capsys.readouterr().out
    explained = text.partition("The defaults:")[0]
    assert not [name for name in vars(ControlConfig()) if not re.search(rf"\b{name}\b", explained)]
    assert "sana-wm bench run" in text and "world: tiny" in text


def test_a_bench_is_built_where_none_is_given(tmp_path):
    settings = config(None, tmp_path, scenes=1, chunks=1)
    assert run(settings) == 0 and run(settings) == 0
    (result,) = results(tmp_path).values()
    assert result["video"]["frames"] == 24 and result["video"]["width"] == 64
    with pytest.raises(ValueError, match="chunks was 1, now 2"):
        run(replace(settings, chunks=2))


def test_a_world_may_be_named_by_its_code(tmp_path):
    assert run(config(None, tmp_path, world="control_runs:SHORT", scenes=1, chunks=4)) == 0
    (video,) = MethodFolder(tmp_path / "SHORT").split_folder("simple").glob("*_generated.mp4")
    assert len(read_clip(video).frames) == 40


def test_published_rows():
    for split in ("simple", "hard"):
        assert len(published("main", split)) == len(published("revisit", split)) == 6
    assert published("main", "hard")["SANA-WM+refiner (2.6B+17B, 720p)"]["RotErr"] == 8.34
