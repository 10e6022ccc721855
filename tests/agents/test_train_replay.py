"""Runs with a replay memory: what is kept of it, and that stopped ones end up the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("stable_baselines3")

from functools import partial

from gymnasium import spaces
from rich.console import Console
from stable_baselines3 import DQN, SAC, HerReplayBuffer
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from agents.extractors import CoarseViews
from agents.training import sb3_state
from agents.training.checkpoint import latest_checkpoint, read_checkpoint, replay_of
from agents.training.config import EvaluationConfig, TrainAgentConfig
from agents.training.learning import learn, trained_policy
from agents.training.run_folder import SavedRun
from agents.training.sb3_state import load_replay, save_replay
from sana_wm_gym.envs.tasks import ImageGoal, ThumbnailGoal
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(16, 16), scenes=(8,), start_radius=0.7)
WALK = ImageGoal(horizon=3, chunks=(1,))

# Buffers that are full, and written over, long before the end; copies to the target network that
# fall between checkpoints; random actions from first to last.
SHARED: dict[str, Any] = {
    "buffer_size": 24,
    "batch_size": 4,
    "train_freq": 1,
    "policy_kwargs": {
        "net_arch": [8],
        "features_extractor_class": CoarseViews,
        "features_extractor_kwargs": {"features_dim": 8},
    },
}
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
    learn(replace(config(folder, name), **changes), {"run": name}, "", Console(quiet=True))


def left(folder: Path) -> tuple[bytes, Any, Any]:
    """What a finished run leaves: its rows, its networks and its last evaluation."""
    last = latest_checkpoint(folder / "checkpoints")
    assert last is not None and not replay_of(last).exists()
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


def test_a_run_stopped_in_warm_up_and_when_memory_is_full_goes_on_to_the_same_bytes(
    whole: Any, tmp_path: Path
) -> None:
    name, never = whole
    # It goes on at steps 16, where actions are still drawn, and 48, where memory is written over.
    for step in (32, 64):
        with pytest.MonkeyPatch.context() as patch:
            stop_at(step, patch)
            with pytest.raises(StoppedError):
                run(tmp_path, name)
    run(tmp_path, name)
    assert left(tmp_path)[0].count(b"\n") == 7
    assert same(left(tmp_path), left(never))


def test_a_killed_process_goes_on_to_the_same_bytes(whole: Any, tmp_path: Path) -> None:
    name, never = whole
    moment = random.randrange(48)  # the memory is full from step 24

    def reached() -> bool:
        found = (tmp_path / "checkpoints").glob("step-*")
        return any(int(path.name.partition("-")[2].partition(".")[0]) >= moment for path in found)

    # Forked from a process that has everything imported and never computed anything.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch._dynamo", "agents.training.learning"])
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


@pytest.mark.parametrize("name", AGENTS)
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


def test_checkpoints_from_before_memories_were_kept_act_but_do_not_go_on(
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


ENVIRONMENTS = 2
_PART = spaces.Box(-1, 1, (2,), np.float32)
_PARTS = spaces.Dict(dict.fromkeys(("observation", "achieved_goal", "desired_goal"), _PART))


def memory(kind: type[ReplayBuffer], slots: int) -> ReplayBuffer:
    space = spaces.Box(0, 255, (2, 2, 1), np.uint8) if kind is ReplayBuffer else _PARTS
    more: dict[str, Any] = {"env": None} if kind is HerReplayBuffer else {}
    return kind(
        slots * ENVIRONMENTS, space, spaces.Discrete(3), device="cpu", n_envs=ENVIRONMENTS, **more
    )


def fill(buffer: ReplayBuffer, rng: np.random.Generator) -> None:
    """One more slot."""

    def view() -> Any:
        if isinstance(buffer, DictReplayBuffer):
            return {name: rng.uniform(-1, 1, (ENVIRONMENTS, 2)) for name in _PARTS}
        return rng.integers(0, 256, (ENVIRONMENTS, 2, 2, 1), dtype=np.uint8)

    buffer.add(
        view(),
        view(),
        rng.integers(0, 3, ENVIRONMENTS),
        rng.normal(size=ENVIRONMENTS),
        rng.random(ENVIRONMENTS) < 0.4,
        [{"TimeLimit.truncated": bool(late)} for late in rng.random(ENVIRONMENTS) < 0.3],
    )


def contents(buffer: Any) -> dict[str, Any]:
    """All its arrays and counters, whatever their names."""
    found = {}
    for name, value in vars(buffer).items():
        if isinstance(value, dict):
            found |= {f"{name}.{part}": one for part, one in value.items()}
        else:
            found[name] = value
    return {
        name: (value.dtype, value.shape, value.tobytes())
        if isinstance(value, np.ndarray)
        else value
        for name, value in found.items()
        if isinstance(value, np.ndarray | int) and name != "infos"
    }


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from([ReplayBuffer, DictReplayBuffer, HerReplayBuffer]),
    slots=st.integers(1, 9),
    between=st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=7),
    links=st.booleans(),
)
def test_any_checkpoint_restores_the_memory_and_writes_each_slot_once(
    tmp_path_factory: pytest.TempPathFactory,
    kind: type[ReplayBuffer],
    slots: int,
    between: list[tuple[int, bool]],
    links: bool,
) -> None:
    folder = tmp_path_factory.mktemp("replay")
    rng = np.random.default_rng(0)
    buffer, added = memory(kind, slots), 0
    earlier: Path | None = None
    files: dict[str, int] = {}
    with pytest.MonkeyPatch.context() as patch:
        if not links:
            patch.setattr(sb3_state.os, "link", _no_links)
        for number, (count, resumed) in enumerate(between):
            for _ in range(count):
                fill(buffer, rng)
            added += count
            here = folder / str(number)
            save_replay(buffer, added, here, earlier)
            if earlier is not None:
                shutil.rmtree(earlier)
            segments = sorted(path.name for path in here.glob("*-*.safetensors"))
            spans = [tuple(map(int, name.partition(".")[0].split("-"))) for name in segments]
            live = max(0, added - slots)
            # One after another up to now, none of which is forgotten, one of which is new at most.
            assert all(a[1] == b[0] for a, b in zip(spans, spans[1:], strict=False))
            assert all(end > live for _, end in spans) and (not spans or spans[-1][1] == added)
            assert bool(spans) == (added > 0)
            assert len(set(segments) - set(files)) <= 1
            if links:
                now = {name: (here / name).stat().st_ino for name in segments}
                assert all(files[name] == now[name] for name in now if name in files)
                files = now
            else:
                files = dict.fromkeys(segments, 0)
            loaded = memory(kind, slots)
            load_replay(loaded, added, here)
            assert contents(loaded) == contents(buffer)
            if resumed:
                buffer = loaded
            earlier = here


def _no_links(source: Any, target: Any) -> None:
    raise PermissionError("this disk knows no links")
