"""Runs that are stopped or killed at any moment end up the same bytes."""

from __future__ import annotations

import inspect
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("sb3_contrib")

from functools import partial

from sb3_contrib import RecurrentPPO
from small_runs import NETWORK, QUIET, WORLD
from stable_baselines3 import DQN, PPO, SAC, HerReplayBuffer

from sana_wm_gym.agents.extractors import CoarseViews
from sana_wm_gym.agents.policy import trained_policy
from sana_wm_gym.agents.training.checkpoint import latest_checkpoint, read_checkpoint, replay_of
from sana_wm_gym.agents.training.config import EvaluationConfig, TrainAgentConfig
from sana_wm_gym.agents.training.learning import learn
from sana_wm_gym.agents.training.run_folder import SavedRun
from sana_wm_gym.envs.tasks import ImageGoal, ThumbnailGoal

WALK = ImageGoal(max_episode_steps=3, chunks=(1,))

# Buffers that are full, and written over, long before the end; copies to the target network that
# fall between checkpoints; random actions from first to last.
SHARED: dict[str, Any] = {
    "buffer_size": 24,
    "batch_size": 4,
    "train_freq": 1,
    "policy_kwargs": NETWORK,
}
ON_POLICY: dict[str, Any] = {"n_steps": 8, "batch_size": 8, "n_epochs": 1}
Q = partial(
    DQN,
    learning_starts=8,
    target_update_interval=6,
    exploration_fraction=1.0,
    exploration_final_eps=0.3,
    **SHARED,
)
HINDSIGHT = partial(SAC, learning_starts=36, replay_buffer_class=HerReplayBuffer, **SHARED)
AGENTS: dict[str, tuple[Any, Any, str]] = {
    "ppo": (partial(PPO, policy_kwargs=NETWORK, **ON_POLICY), WALK, "planar"),
    "recurrent_ppo": (
        partial(RecurrentPPO, policy_kwargs={**NETWORK, "lstm_hidden_size": 4}, **ON_POLICY),
        WALK,
        "planar",
    ),
    "dqn": (Q, WALK, "discrete"),
    "sac_her": (HINDSIGHT, ThumbnailGoal(walk=WALK), "continuous"),
}


class StoppedError(Exception):
    """Stands in for a signal that ends the process."""


def config(folder: Path, name: str, steps: int = 80) -> TrainAgentConfig:
    """With a checkpoint every eight steps of two environments."""
    agent, task, action_mode = AGENTS[name]
    return TrainAgentConfig(
        WORLD,
        str(folder),
        agent,
        task,
        evaluation=EvaluationConfig(episodes=2, batch_size=2, videos=0),
        eval_episodes=1,
        eval_every=1000,
        env={"action_mode": action_mode},
        num_envs=2,
        steps=steps,
        log_every=16,
    )


def run(folder: Path, name: str, **changes: Any) -> None:
    settings = replace(config(folder, name), **changes)
    learn(settings, {"run": name, "steps": settings.steps}, "", QUIET)


def left(folder: Path) -> tuple[bytes, Any, Any]:
    """What a finished run leaves: its rows, its networks and its last evaluation."""
    last = latest_checkpoint(folder / "checkpoints")
    assert last is not None
    values = read_checkpoint(last)
    episodes = json.loads((folder / "evaluation.json").read_text())["episodes"]
    return (folder / "metrics.csv").read_bytes(), values, episodes


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if isinstance(one, torch.Tensor) else bool(one == other)


@pytest.fixture(scope="module", params=list(AGENTS))
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An agent's name, and a run of it that nobody stopped."""
    folder = tmp_path_factory.mktemp(request.param)
    run(folder, request.param)
    return request.param, folder


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """End runs when the checkpoint of this step is written but not yet renamed."""
    rename = os.replace

    def stop(source: Any, target: Any) -> None:
        if Path(source).is_dir() and f"{step:010d}" in str(target):
            raise StoppedError
        rename(source, target)

    monkeypatch.setattr(os, "replace", stop)


def test_a_run_stopped_while_it_writes_resumes_to_the_same_bytes(
    whole: Any, tmp_path: Path
) -> None:
    name, never = whole
    # Before any checkpoint; then it resumes at steps 16, where off-policy actions are still random,
    # and 48, where the replay buffer is written over.
    for step in (0, 32, 64):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(step, patch)
            with pytest.raises(StoppedError):
                run(tmp_path, name)
        if step:
            with (tmp_path / "metrics.csv").open("a") as file:
                file.write("40,1,0.3")  # half a row, as if the disk had the last word
    run(tmp_path, name)
    assert left(tmp_path)[0].count(b"\n") == 7
    assert same(left(tmp_path), left(never))


def test_an_extension_is_the_same_stopped_or_not(tmp_path: Path) -> None:
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        run(folder, "dqn", steps=48)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(64, patch)
        with pytest.raises(StoppedError):
            run(tmp_path / "stopped", "dqn")
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        run(folder, "dqn")
    assert same(left(tmp_path / "stopped"), left(tmp_path / "whole"))
    # A replay buffer is part of what a longer run resumes from.
    last = latest_checkpoint(tmp_path / "whole" / "checkpoints")
    assert last is not None
    shutil.rmtree(replay_of(last))
    with pytest.raises(ValueError, match="lacks a file"):
        run(tmp_path / "whole", "dqn", steps=96)


def test_a_killed_process_resumes_to_the_same_bytes(whole: Any, tmp_path: Path) -> None:
    name, never = whole
    moment = random.randrange(48)  # replay buffers are full from step 24

    def reached() -> bool:
        found = (tmp_path / "checkpoints").glob("step-*")
        return any(int(path.name.partition("-")[2].partition(".")[0]) >= moment for path in found)

    # Forked from a process that has everything imported and never computed anything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "sana_wm_gym.agents.training.learning"])
    process = context.Process(target=run, args=(tmp_path, name))
    process.start()
    while process.is_alive() and not reached():
        time.sleep(0.002)
    time.sleep(random.uniform(0.0, 0.05))
    assert process.is_alive(), "the run was over before it could be killed"
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "evaluation.json").exists()
    run(tmp_path, name)
    assert same(left(tmp_path), left(never))


def test_private_attributes_of_libraries_stand_in_one_file() -> None:
    agents = Path(inspect.getfile(CoarseViews)).parent
    private = re.compile(r"(?<!self)(?<!cls)\._[a-z]\w*")
    users = {path.name for path in agents.rglob("*.py") if private.search(path.read_text())}
    assert users == {"sb3_state.py"}


@pytest.mark.parametrize("name", ["dqn", "sac_her"])
def test_what_is_missing_or_damaged_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(48, patch)
        with pytest.raises(StoppedError):
            run(tmp_path, name)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    # Twelve slots of two environments are remembered of the sixteen that there were.
    first, second = sorted(path for path in replay_of(checkpoint).glob("0*"))
    assert [path.stem for path in (first, second)] == [
        "000000000000-000000000008", "000000000008-000000000016"
    ]  # fmt: skip
    content = second.read_bytes()
    second.write_bytes(content[:-1])
    with pytest.raises(ValueError, match=f"{second.name} is missing or damaged"):
        run(tmp_path, name)
    second.unlink()
    with pytest.raises(ValueError, match="found slots 4 to 8, expected 4 to 16"):
        run(tmp_path, name)
    second.write_bytes(first.read_bytes().replace(b'"actions"', b'"axtions"'))
    with pytest.raises(ValueError, match="axtions"):
        run(tmp_path, name)
    if name == "sac_her":
        second.write_bytes(content)
        (replay_of(checkpoint) / "episodes.safetensors").unlink()
        with pytest.raises(ValueError, match=r"episodes\.safetensors is missing"):
            run(tmp_path, name)


def test_checkpoints_without_a_replay_buffer_act_but_do_not_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_at(32, patch)
        with pytest.raises(StoppedError):
            run(tmp_path, "dqn")
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    values = read_checkpoint(checkpoint)
    torch.save(
        {name: values[name] for name in ("parameters", "timesteps")}, checkpoint / "learner.pt"
    )
    shutil.rmtree(replay_of(checkpoint))
    with pytest.raises(ValueError, match="an earlier version"):
        run(tmp_path, "dqn")
    saved = SavedRun(tmp_path, config(tmp_path, "dqn"), {}, checkpoint)
    assert trained_policy(saved)[0] is not None
