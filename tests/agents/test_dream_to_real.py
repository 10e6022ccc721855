"""Dream to real: what is run, what is not run twice, and the report."""

from __future__ import annotations

import json
import sys

import pytest

from sana_wm_gym import cli
from sana_wm_gym.agents import dream_to_real
from sana_wm_gym.agents.dream_to_real import DREAM, REAL, DreamRun, carry_out, main

SUCCESS = {("ppo", DREAM): (0.8, 0.6), ("ppo", REAL): (0.3, 0.9), ("random", DREAM): (0.1, 0.2)}
"""(agent, trained in) -> success in the dream and in the twin."""


def write_evaluation(run, world, success):
    path = run.evaluation(world)
    path.parent.mkdir(parents=True, exist_ok=True)
    reached = [i < round(10 * success) for i in range(10)]
    results = [
        {"seed": i, "length": 3, "is_success": won, "spl": 0.5 * won, "return": float(won)}
        for i, won in enumerate(reached)
    ]
    document = {"world": world, "task": "image_goal", "episodes": results}
    path.write_text(json.dumps(document))


def write_training(run):
    run.folder.mkdir(parents=True, exist_ok=True)
    settings = {"agent": run.agent, "world": run.world, "seed": run.seed}
    (run.folder / "run.json").write_text(json.dumps({"settings": settings, "extensions": []}))
    rows = ["timesteps,is_success,eval/is_success", "0,,0.0", "256,0.25,", "512,0.5,0.75"]
    (run.folder / "metrics.csv").write_text("\n".join(rows) + "\n")


class Commands:
    """Stands for the two commands: writes what they would."""

    def __init__(self):
        self.seen = []

    def __call__(self, run, module, arguments):
        self.seen.append((run.folder.name, module, list(arguments)))
        success = dict(zip((DREAM, REAL), SUCCESS[run.agent, run.world], strict=True))
        if module == "train":
            write_training(run)
            write_evaluation(run, run.world, success[run.world])
        else:
            other = REAL if run.world == DREAM else DREAM
            write_evaluation(run, other, success[other])


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


def test_the_command_reports_both_worlds_over_seeds(tmp_path, commands, monkeypatch, capsys):
    arguments = ["--seeds", "2", "--jobs", "2", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["dream_to_real", *arguments])
    assert main(arguments) == 0
    records = json.loads((tmp_path / "report.json").read_text())["records"]
    means = {
        (one["group"], one["world"]): one["mean"] for one in records if one["measure"] == "spl"
    }
    assert means == pytest.approx({
        ("ppo_tiny-bf16", DREAM): 0.4, ("ppo_tiny-bf16", REAL): 0.3,
        ("ppo_tiny-bf16", f"{REAL} less {DREAM}"): -0.1,
        ("ppo_twin", REAL): 0.45, ("ppo_twin", DREAM): 0.15,
        ("ppo_twin", f"{DREAM} less {REAL}"): -0.3,
        ("random_tiny-bf16", DREAM): 0.05, ("random_tiny-bf16", REAL): 0.1,
        ("random_tiny-bf16", f"{REAL} less {DREAM}"): 0.05,
    })  # fmt: skip
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert "ppo_twin" in capsys.readouterr().out
    # A random policy has no training settings.
    random = [a for name, module, a in commands.seen if "random" in name and module == "train"]
    assert random and not any(s.startswith("steps=") for arguments in random for s in arguments)


def test_a_failed_run_fails_the_command_and_leaves_the_others(tmp_path, commands, monkeypatch):
    def sometimes(run, module, arguments):
        if run.world == REAL:
            raise RuntimeError("no memory")
        commands(run, module, arguments)

    monkeypatch.setattr(dream_to_real, "_command", sometimes)
    assert main(["--seeds", "1", "--out", str(tmp_path)]) == 1
    assert not (tmp_path / "report.json").exists()
    assert DreamRun("ppo", DREAM, 0, tmp_path / f"ppo_{DREAM}_seed0").evaluation(REAL).is_file()


@pytest.mark.parametrize("bad", [["--seeds", "0"], ["--episodes", "0"], ["--jobs", "0"]])
def test_bad_arguments_end_before_any_work(bad, commands, capsys):
    assert cli.main(["dream-to-real", *bad]) == 2 and not commands.seen
    assert "expected an integer >= 1" in capsys.readouterr().err
