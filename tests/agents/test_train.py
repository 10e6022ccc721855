"""Training runs: what they write, how they are extended, and what they refuse."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("stable_baselines3")
pytest.importorskip("hydra")

from safetensors import SafetensorError
from small_runs import EVALUATION, NETWORK, QUIET, SMALL, TASK, config, run
from stable_baselines3 import PPO, SAC, HerReplayBuffer
from stable_baselines3.common.utils import LinearSchedule

from sana_wm_gym.agents.training.learner import RandomPolicy
from sana_wm_gym.agents.training.learning import learn
from sana_wm_gym.agents.training.loggers import read_rows
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.envs.tasks import ThumbnailGoal
from sana_wm_gym.video import probe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("whole")
    run(folder, evaluation=replace(EVALUATION, videos=1))
    return folder


def test_a_run_writes_its_files(whole: Path) -> None:
    with (whole / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["timesteps"]) for row in rows] == [0, 8, 16, 24, 32]
    assert [row["eval/return"] != "" for row in rows] == [True, False, True, False, True]
    assert all(row["train/loss"] for row in rows[1:])
    # Two rows of two chunks each: four episodes in every rollout of 2 x 4 steps, fewer if a goal
    # is reached early, never less than two.
    episodes = [int(row["episodes"]) for row in rows]
    assert all(after - before >= 2 for before, after in zip(episodes, episodes[1:], strict=False))
    document = json.loads((whole / "metrics.json").read_text())
    assert document["rows"] == read_rows(whole / "metrics.csv")
    assert {"command", "commit", "device", "date", "run"} <= document.keys()
    assert not any(name.endswith("_s") for name in rows[0])  # wall-clock time is elsewhere
    last = json.loads((whole / "evaluation.json").read_text())
    assert [one["seed"] for one in last["episodes"]] == [10000, 10001]
    [video] = (whole / "videos" / "last").iterdir()
    assert probe(video).frames == 1 + 24 * last["episodes"][0]["length"]
    assert len(list((whole / "checkpoints").iterdir())) == 1
    # The export is stable-baselines3's own and acts like the run's policy.
    assert PPO.load(whole / "policy.zip", device="cpu").num_timesteps == 32


def test_a_finished_run_is_not_run_again(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    run(whole, evaluation=replace(EVALUATION, videos=1))
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_full_disk_is_one_error_that_names_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, "save", full)
        with pytest.raises(OSError, match=r"step-0000000000 was not written: .*No space"):
            run(tmp_path, steps=8)
    assert not list((tmp_path / "checkpoints").iterdir())
    run(tmp_path, steps=8)


def test_hindsight_needs_goals_that_can_be_swapped(tmp_path: Path) -> None:
    agent = partial(
        SAC,
        learning_starts=8,
        batch_size=4,
        buffer_size=100,
        replay_buffer_class=HerReplayBuffer,
        policy_kwargs=NETWORK,
    )
    env = {"action_mode": "continuous"}
    with pytest.raises(ValueError, match="image_goal_her"):
        run(tmp_path / "refused", agent=agent, env=env)
    task = ThumbnailGoal(walk=TASK)
    hindsight = config(tmp_path, agent=agent, steps=12, env=env, task=task)
    evaluation = learn(hindsight, {}, "", QUIET)
    assert evaluation.task == "image_goal_her"


def test_a_random_policy_is_a_run_too(tmp_path: Path) -> None:
    run(tmp_path, agent=partial(RandomPolicy))
    [row] = read_rows(tmp_path / "metrics.csv")
    assert row["timesteps"] == 0 and row["eval/return"] is not None
    assert (tmp_path / "evaluation.json").is_file()


def test_folders_do_not_mix_runs(whole: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    with pytest.raises(ValueError, match='run was "small", now "other"'):
        learn(config(whole), {"run": "other", "steps": 32}, "", QUIET)
    with pytest.raises(ValueError, match="steps was 32, now 16"):
        run(whole, steps=16)
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_a_finished_run_can_be_extended(tmp_path: Path) -> None:
    agent = partial(SMALL, learning_rate=LinearSchedule(0.01, 0.0, 1.0))
    short = run(tmp_path, agent=agent, steps=16)
    learn(
        config(tmp_path, agent=agent, evaluation=replace(EVALUATION, episodes=3)),
        {"run": "small", "steps": 32, "evaluation": {"episodes": 3}},
        "logger: other",
        QUIET,
    )
    assert (tmp_path / "metrics.csv").read_bytes().startswith(short)
    rates = {r["timesteps"]: r["train/learning_rate"] for r in read_rows(tmp_path / "metrics.csv")}
    # Linear over 16 steps, then over 32.
    assert rates == {0: None, 8: 0.005, 16: 0, 24: 0.0025, 32: 0}
    document = json.loads((tmp_path / "run.json").read_text())
    assert document["extensions"] == [
        {
            "at_step": 16,
            "changed": {
                "steps": {"from": 16, "to": 32},
                "evaluation": {"from": None, "to": {"episodes": 3}},
            },
        }
    ]
    assert len(json.loads((tmp_path / "evaluation.json").read_text())["episodes"]) == 3
    assert (tmp_path / "config.yaml").read_text() == "logger: other"
    with pytest.raises(ValueError, match="steps was 32, now 16"):
        run(tmp_path, agent=agent, steps=16)
