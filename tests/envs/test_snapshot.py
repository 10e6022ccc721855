"""Snapshots: restore then replay is bit for bit the same, in memory and through a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from env_values import same, started
from gymnasium.error import ResetNeeded
from safetensors.numpy import save_file

from sana_wm_gym.envs import SanaWMEnv, Snapshot
from sana_wm_gym.envs.snapshot import FORMAT
from sana_wm_gym.envs.tasks import TASKS
from sana_wm_gym.tensor_files import read_tensors, write_tensors
from sana_wm_gym.world.catalogue import WORLDS


def replay(env: SanaWMEnv, actions: list[Any]) -> bytes:
    """Every byte the environment returns, then those of a start drawn after it."""
    seen = []
    for action in actions:
        observation, *result, info = env.step(action)
        seen += [*observation.values(), *result, *info.values()]
    observation, _ = env.reset()
    return b"".join(np.asarray(value).tobytes() for value in [*seen, *observation.values()])


def walk(env: SanaWMEnv, steps: int) -> list[Any]:
    env.action_space.seed(4)
    actions = [env.action_space.sample() for _ in range(steps + 2)]
    env.reset(seed=11)
    for action in actions[:steps]:
        env.step(action)
    return actions[steps:]


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("mode", ["continuous", "keys"])
def test_restore_then_replay(world: Any, tmp_path: Path, mode: str, steps: int) -> None:
    env = SanaWMEnv(world, action_mode=mode, observation=("frame", "pose"))
    future = walk(env, steps)
    here = env.snapshot()
    expected = replay(env, future)
    env.restore(here)
    assert replay(env, future) == expected
    here.save(tmp_path / "here.safetensors", world)
    other = SanaWMEnv(world, action_mode=mode, observation=("frame", "pose"))
    other.restore(Snapshot.load(tmp_path / "here.safetensors", world))
    assert replay(other, future) == expected
    assert [path.name for path in tmp_path.iterdir()] == ["here.safetensors"]


@pytest.mark.parametrize("name", ["procedural", "tiny"])
def test_equal_contents_are_equal_and_hash_alike(tmp_path: Path, name: str) -> None:
    env = started(SanaWMEnv(name))
    first = env.snapshot()
    env.step(np.zeros(5, np.float32))
    second = env.snapshot()
    env.restore(first)
    env.step(np.zeros(5, np.float32))
    replayed = env.snapshot()
    second.save(tmp_path / "second.safetensors", env.world)
    loaded = Snapshot.load(tmp_path / "second.safetensors", env.world)
    assert first != second
    assert second == replayed == loaded
    assert len({first, second, replayed, loaded}) == 2
    assert second != replace(second, rng=first.rng | {"state": {"state": 1, "inc": 1}})
    assert second != "second"


@pytest.mark.parametrize(
    ("world_name", "task"),
    [(name, "free_roam") for name in sorted(WORLDS)] + [("fake", name) for name in sorted(TASKS)],
)
def test_every_world_and_task_survives_a_file(
    world: Any, tmp_path: Path, world_name: str, task: str
) -> None:
    # Hindsight replay takes one part of the world.
    seen = ("frame",) if task == "image_goal_her" else ("frame", "pose")
    given = world if world_name == "fake" else world_name
    env, other = (SanaWMEnv(given, task=task, observation=seen) for _ in range(2))
    future = walk(env, steps=2)[:1]
    here = tmp_path / "here.safetensors"
    env.snapshot().save(here, env.world, env.task)
    expected = replay(env, future)
    other.restore(Snapshot.load(here, env.world, TASKS[task]()))
    assert replay(other, future) == expected


def test_another_task(world: Any, tmp_path: Path) -> None:
    env = started(SanaWMEnv(world, task="image_goal"))
    here = env.snapshot()
    with pytest.raises(ValueError, match="'image_goal'.*, expected .*'free_roam'"):
        SanaWMEnv(world).restore(here)
    with pytest.raises(ValueError, match="'image_goal'.*, expected .*'free_roam'"):
        here.save(tmp_path / "here.safetensors", world)
    here.save(tmp_path / "here.safetensors", world, env.task)
    with pytest.raises(ValueError, match="'image_goal'.*, expected .*'explore'"):
        Snapshot.load(tmp_path / "here.safetensors", world, TASKS["explore"]())


def test_an_ended_episode_stays_ended(world: Any, tmp_path: Path) -> None:
    env = started(SanaWMEnv(world))
    over = replace(env.snapshot(), episode=replace(env.snapshot().episode, over=True))
    over.save(tmp_path / "over.safetensors", world)
    env.restore(Snapshot.load(tmp_path / "over.safetensors", world))
    with pytest.raises(ResetNeeded, match="ended by its task at chunk 0"):
        env.step(np.zeros(5))


def test_restore_returns_what_was_seen(world: Any) -> None:
    env = started(SanaWMEnv(world, render_mode="rgb_array"))
    observation, *_, info = env.step(np.ones(5))
    here, shown = env.snapshot(), env.render()
    env.step(np.ones(5))
    calls = world.calls["decode"]
    assert same(env.restore(here), (observation, info))
    assert np.array_equal(env.render(), shown) and world.calls["decode"] == calls
    later = replace(here.episode, world=replace(here.episode.world, chunk=2))
    assert not np.array_equal(env.simulation.frames([later], last=True)[0], shown)


def test_branches_differ_only_by_their_actions(world: Any) -> None:
    env = started(SanaWMEnv(world))
    env.step(np.ones(5))
    a, b, c = env.branch(3)
    same_a, same_b = a.step(np.ones(5)), b.step(np.ones(5))
    assert np.array_equal(same_a[0], same_b[0])
    assert not np.array_equal(c.step(-np.ones(5))[0], same_a[0])
    # The trunk has not moved, and the branches' resets do not draw from its generator.
    assert env.snapshot().episode.chunk == 1
    state = env.np_random.bit_generator.state
    a.reset()
    assert env.np_random.bit_generator.state == state
    assert a.world is env.world
    a.close()
    b.step(np.zeros(5))
    env.step(np.zeros(5))
    assert env.branch(0) == []
    with pytest.raises(ValueError, match="n = -1, expected >= 0"):
        env.branch(-1)


@pytest.fixture
def saved(world: Any, tmp_path: Path) -> Path:
    env = started(SanaWMEnv(world))
    env.step(np.ones(5))
    path = tmp_path / "here.safetensors"
    env.snapshot().save(path, world)
    return path


def test_a_damaged_file_is_noticed(world: Any, saved: Path) -> None:
    whole = saved.read_bytes()
    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"here\.safetensors is truncated, damaged"):
            Snapshot.load(saved, world)
    rng = np.random.default_rng(0)
    for at in [0, 9, *rng.integers(0, len(whole), 40).tolist(), len(whole) - 1]:
        saved.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(ValueError, match=r"damaged|format"):
            Snapshot.load(saved, world)


def test_other_files(world: Any, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file, expected .*snapshot"):
        Snapshot.load(tmp_path / "nothing.safetensors", world)
    save_file({"a": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="has format None, expected"):
        Snapshot.load(tmp_path / "weights.safetensors", world)


def test_another_world(world: Any, saved: Path, tmp_path: Path) -> None:
    procedural = started(SanaWMEnv("procedural"))
    with pytest.raises(ValueError, match="was made in .*'fake'.*, expected .*'procedural'"):
        Snapshot.load(saved, procedural.world)
    with pytest.raises(ValueError, match="was made in .*'procedural'.*, expected .*'fake'"):
        SanaWMEnv(world).restore(procedural.snapshot())
    with pytest.raises(ValueError, match="was made in"):
        procedural.snapshot().save(tmp_path / "new.safetensors", world)
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda h, a: h.pop("rng"),
        lambda h, a: h.update(rng={}),
        lambda h, a: h.update(rng=[]),
        lambda h, a: h["rng"]["state"].update(state=2**200),
        lambda h, a: h["rng"]["state"].update(state="x"),
        lambda h, a: h["rng"].update(bit_generator="MT19937"),
        lambda h, a: h.pop("texts"),
        lambda h, a: h["texts"].update(evil=1),
        lambda h, a: h["texts"].update({name: [3] for name in h["texts"]}),
        lambda h, a: h.pop("made_in"),
        lambda h, a: a.pop("episode.camera.c2w"),
        lambda h, a: a.pop("episode.chunk"),
        lambda h, a: a.update({"episode.chunk": np.zeros(3, np.int64)}),
        lambda h, a: a.update({"episode.chunk": np.array(1.5)}),
        lambda h, a: a.update({"episode.camera.c2w": np.full((4, 4), np.nan)}),
        lambda h, a: a.update(stray=np.zeros(3)),
    ],
)
def test_other_contents_with_the_right_digest(tmp_path: Path, change: Any) -> None:
    env = started(SanaWMEnv("procedural", task="image_goal"))
    env.step(np.ones(5))
    path = tmp_path / "here.safetensors"
    env.snapshot().save(path, env.world, env.task)
    header, arrays = read_tensors(path, FORMAT, "numpy")
    change(header, arrays)
    del header["format"]
    write_tensors(path, FORMAT, arrays, header, "numpy")
    with pytest.raises(ValueError, match=r"here\.safetensors"):
        env.restore(Snapshot.load(path, env.world, env.task))
