"""Dream to real: what is run, what is not run twice, and the tables."""

from __future__ import annotations

import json
import sys

import pytest

from sana_wm_gym import cli
from sana_wm_gym.agents import dream_to_real
from sana_wm_gym.agents.dream_to_real import (
    DREAM,
    REAL,
    DreamRun,
    carry_out,
    main,
    runs_of,
    summarise,
    tables,
)

SUCCESS = {("ppo", DREAM): (0.8, 0.6), ("ppo", REAL): (0.3, 0.9), ("random", DREAM): (0.1, 0.2)}
"""(agent, trained in) -> success in the dream and in the twin."""


def write_evaluation(path, share, episodes=10):
    path.parent.mkdir(parents=True, exist_ok=True)
    won = round(share * episodes)
    results = [
        {"is_success": i < won, "spl": 0.5 * (i < won), "return": float(i < won)}
        for i in range(episodes)
    ]
    path.write_text(json.dumps({"episodes": results}))


def write_metrics(folder):
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["timesteps,is_success,eval/is_success", "0,,0.0", "256,0.25,", "512,0.5,0.75"]
    (folder / "metrics.csv").write_text("\n".join(rows) + "\n")


class Commands:
    """Stands for the two commands: writes what they would."""

    def __init__(self):
        self.seen = []

    def __call__(self, run, module, arguments):
        self.seen.append((run.folder.name, module, list(arguments)))
        shares = dict(zip((DREAM, REAL), SUCCESS[run.agent, run.world], strict=True))
        if module == "train":
            write_metrics(run.folder)
            write_evaluation(run.evaluation(run.world), shares[run.world])
        else:
            other = REAL if run.world == DREAM else DREAM
            write_evaluation(run.evaluation(other), shares[other])


@pytest.fixture
def commands(monkeypatch):
    found = Commands()
    monkeypatch.setattr(dream_to_real, "_command", found)
    return found


def test_every_policy_is_evaluated_in_both_worlds_and_nothing_twice(tmp_path, commands):
    run = DreamRun("ppo", DREAM, 3, tmp_path / "one")
    carry_out(run, ["steps=8"], 20)
    modules = [module for _, module, _ in commands.seen]
    assert modules == ["train", "evaluate"]
    train, evaluate = (arguments for *_, arguments in commands.seen)
    assert {f"world={DREAM}", "seed=3", "steps=8", "evaluation.episodes=20"} <= set(train)
    assert {f"world={REAL}", "episodes=20", f"checkpoint={run.folder}"} <= set(evaluate)
    carry_out(run, ["steps=8"], 20)
    assert len(commands.seen) == 2
    run.evaluation(REAL).unlink()
    carry_out(run, ["steps=8"], 20)
    assert [module for _, module, _ in commands.seen[2:]] == ["evaluate"]


def test_means_are_over_seeds_and_gaps_are_paired(tmp_path):
    runs = runs_of(tmp_path, 2)[:2]
    for run, (dream, real) in zip(runs, ((0.4, 0.2), (0.8, 0.6)), strict=True):
        write_evaluation(run.evaluation(DREAM), dream)
        write_evaluation(run.evaluation(REAL), real)
    found = summarise(runs)["trained in the dream"]
    dream, gap = found["worlds"][DREAM], found["gap"]["is_success"]
    assert dream["by_seed"]["is_success"] == [0.4, 0.8]
    pooled = dream["pooled_success"]
    assert pooled["mean"] == pytest.approx(0.6) and pooled["count"] == 20
    # Both seeds lose the same, so nothing is uncertain about the loss.
    assert (gap["mean"], gap["low"], gap["high"]) == pytest.approx((-0.2, -0.2, -0.2))


def test_command_writes_table_curves_and_json(tmp_path, commands, monkeypatch, capsys):
    arguments = ["--seeds", "2", "--jobs", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["dream_to_real", *arguments])
    assert main(arguments) == 0
    document = json.loads((tmp_path / "dream_to_real.json").read_text())
    dreamt = document["summary"]["trained in the dream"]
    assert dreamt["worlds"][DREAM]["is_success"]["mean"] == pytest.approx(0.8)
    assert dreamt["worlds"][REAL]["is_success"]["mean"] == pytest.approx(0.6)
    assert dreamt["gap"]["is_success"]["mean"] == pytest.approx(-0.2)
    text = (tmp_path / "table.md").read_text()
    assert "| trained in the dream | 80 [80, 80] | 60 [60, 60] | -20 [-20, -20] |" in text
    assert "8.0 | 3.0 |" in text  # times random: 0.8 / 0.1 and 0.6 / 0.2
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "trained in the twin" in capsys.readouterr().out
    # A random policy has no training settings.
    random = [a for name, module, a in commands.seen if "random" in name and "train" in module]
    assert random and not any(s.startswith("steps=") for arguments in random for s in arguments)


def test_a_random_policy_that_never_succeeds_divides_nothing(tmp_path):
    runs = runs_of(tmp_path, 2)
    for run in runs:
        share = 0.0 if run.agent == "random" else 0.5
        for world in (DREAM, REAL):
            write_evaluation(run.evaluation(world), share)
    _, pooled = tables(summarise(runs))
    assert all(row[-2:] == ("-", "-") for row in pooled.rows)


def test_a_failed_run_fails_the_command_and_leaves_the_others(tmp_path, commands, monkeypatch):
    def sometimes(run, module, arguments):
        if run.world == REAL:
            raise RuntimeError("no memory")
        commands(run, module, arguments)

    monkeypatch.setattr(dream_to_real, "_command", sometimes)
    assert main(["--seeds", "1", "--out", str(tmp_path)]) == 1
    assert not (tmp_path / "table.md").exists()
    assert DreamRun("ppo", DREAM, 0, tmp_path / f"ppo_{DREAM}_seed0").evaluation(REAL).is_file()


@pytest.mark.parametrize("bad", [["--seeds", "0"], ["--episodes", "0"], ["--jobs", "0"]])
def test_bad_arguments_end_before_any_work(bad, commands, capsys):
    assert cli.main(["dream-to-real", *bad]) == 2 and not commands.seen
    assert "expected an integer >= 1" in capsys.readouterr().err
