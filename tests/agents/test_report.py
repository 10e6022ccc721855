"""Reports over seeds: the statistics, the groups, and the three files."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sana_wm_gym import cli
from sana_wm_gym.agents.report import bootstrap, interquartile_mean, main, read_groups, summarise
from sana_wm_gym.evaluation.intervals import Estimate


def write_evaluation(folder: Path, success: float, world: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    reached = [i < round(10 * success) for i in range(10)]
    episodes = [
        {"seed": i, "return": 2.0 * won, "length": 3, "is_success": won}
        for i, won in enumerate(reached)
    ]
    result = {"world": world, "task": "image_goal", "episodes": episodes}
    (folder / "evaluation.json").write_text(json.dumps(result))


def write_run(folder: Path, success: float, seed: int, **settings: Any) -> Path:
    """What a finished run leaves, as far as reports read it."""
    folder.mkdir(parents=True)
    document = {"settings": {"seed": seed, "steps": 32, **settings}, "extensions": []}
    (folder / "run.json").write_text(json.dumps(document))
    write_evaluation(folder, success, "tiny")
    rows = ["timesteps,return,eval/is_success", "0,,0.0", "16,0.5,", f"32,0.5,{success}"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    return folder


@settings(max_examples=20)
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=9))
def test_intervals_hold_their_statistic_and_lie_within_the_values(values: list[float]) -> None:
    for statistic in (np.mean, interquartile_mean):
        found = bootstrap(values, statistic, 500)
        assert found == bootstrap(values, statistic, 500)
        assert found.low is not None and found.high is not None
        assert min(values) - 1e-9 <= found.low <= found.mean + 1e-9
        assert found.mean - 1e-9 <= found.high <= max(values) + 1e-9
    same = pytest.approx(values[0])
    assert bootstrap([values[0]] * 4) == Estimate(same, same, same, 4)


def test_the_interquartile_mean_ignores_the_best_and_the_worst_quarter() -> None:
    values = [-100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 900.0]
    assert bootstrap(values, interquartile_mean).mean == pytest.approx(np.mean(values[2:6]))
    assert bootstrap([0.25]) == Estimate(0.25, None, None, 1)


def test_a_bootstrap_interval_of_many_normal_draws_is_the_textbooks() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = bootstrap(values.tolist())
    assert found.low is not None and found.high is not None
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.05)


def test_runs_that_differ_in_their_seed_alone_are_one_row(tmp_path: Path, capsys: Any) -> None:
    runs = [write_run(tmp_path / f"ppo_seed{i}", 0.4 + 0.2 * i, i) for i in range(3)]
    runs += [write_run(tmp_path / "wide_seed0", 0.9, 0, num_envs=64)]
    out = tmp_path / "report"
    assert main([*map(str, runs), "--out", str(out)]) == 0
    records = json.loads((out / "report.json").read_text())["records"]
    found = {(one["group"], one["measure"]): one for one in records if one["world"] == "tiny"}
    assert len(records) == len(found) == 6
    ppo, wide = found["ppo", "is_success"], found["wide", "is_success"]
    assert list(ppo["runs"].values()) == pytest.approx([0.4, 0.6, 0.8])
    assert (ppo["mean"], ppo["mean_low"], ppo["mean_high"]) == pytest.approx((0.6, 0.4, 0.8))
    assert found["ppo", "return"]["iqm"] == pytest.approx(1.2)
    assert (wide["seeds"], wide["mean"], wide["mean_low"], wide["iqm_high"]) == (1, 0.9, None, None)
    with (out / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["mean"] for row in rows[:2]] == ["0.600000", "1.200000"] and len(rows) == 6
    assert Image.open(out / "curves.png").size[0] > 300
    assert "0.6 [0.4, 0.8]" in capsys.readouterr().out
    [group, _] = read_groups(runs)
    steps, means = group.curve("is_success")
    assert steps == [0, 32] and [one.mean for one in means] == pytest.approx([0, 0.6])


def test_other_worlds_are_compared_seed_by_seed(tmp_path: Path) -> None:
    runs = []
    for seed, (own, twin) in enumerate(((0.4, 0.2), (0.8, 0.6))):
        runs.append(write_run(tmp_path / f"ppo_seed{seed}", own, seed))
        write_evaluation(runs[-1] / "evaluations" / "twin", twin, "twin")
    write_evaluation(runs[0] / "evaluations" / "procedural", 0.1, "procedural")  # one seed alone
    records = [one for one in summarise(read_groups(runs)) if one["measure"] == "is_success"]
    assert [one["world"] for one in records] == ["tiny", "twin", "twin less tiny"]
    # Both seeds lose the same, so nothing is uncertain about the loss.
    for name in ("mean", "mean_low", "mean_high", "iqm"):
        assert records[2][name] == pytest.approx(-0.2)
    assert records[1]["mean_low"] == pytest.approx(0.2)


def test_what_cannot_be_reported_is_one_line(tmp_path: Path, capsys: Any) -> None:
    run = write_run(tmp_path / "a", 0.5, 0)
    same, unfinished, damaged = (write_run(tmp_path / n, 0.5, 0) for n in ("b", "c", "d"))
    (unfinished / "evaluation.json").unlink()
    (damaged / "evaluation.json").write_text("[]")
    for arguments, message in (
        ([tmp_path / "nowhere"], "nowhere"),
        ([run, same], "settings and seed of another run"),
        ([unfinished], "is not finished"),
        ([damaged], "is a list, expected a JSON object"),
        ([run, "--measure", "glory"], "expected one of the runs': is_success"),
    ):
        assert cli.main(["report", *map(str, arguments), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
