"""`info` is regular, from reset to the end; arguments and actions of other loops are taken."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from env_values import same, started
from gymnasium.vector import AsyncVectorEnv

from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.envs.tasks import TASKS, ImageGoal
from sana_wm_gym.weights.world_file import EMBEDDED


def make(task: str, **settings: Any) -> Any:
    return gym.make("SanaWM/World-v0", world="procedural", task=task, **settings)


def kinds(info: dict[str, Any]) -> dict[str, Any]:
    return {name: (type(value), np.shape(value)) for name, value in info.items()}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_key_has_one_shape_and_type(task: str) -> None:
    env = make(task, max_episode_steps=3)
    _, info = env.reset(seed=0)
    found = kinds(info)
    assert all(np.asarray(value).dtype.kind in "biuf" for value in info.values())
    assert found["c2w"] == (np.ndarray, (24, 4, 4))
    if task == "free_roam":
        assert set(found) == {"c2w", "intrinsics", "chunk_index", "anchor_confidence"}
    ended = cut = False
    while not (ended or cut):
        *_, ended, cut, info = env.step(env.action_space.sample())
        assert kinds(info) == found
    env.reset(seed=1)
    here = env.unwrapped.snapshot()
    assert kinds(env.unwrapped.restore(here)[1]) == found


def test_gymnasiums_processes_run_and_close() -> None:
    envs = AsyncVectorEnv(
        [lambda n=n: make("follow", max_episode_steps=n) for n in (2, 3)], context="spawn"
    )
    envs.reset(seed=0)
    for _ in range(4):
        envs.step(envs.action_space.sample())
    envs.close()


@pytest.mark.parametrize(
    "action",
    [
        torch.zeros(5, dtype=torch.bfloat16),
        torch.zeros(5, requires_grad=True),
        torch.zeros(5, dtype=torch.float64),
        [0, 0, 0, 0, 0],
    ],
)
def test_tensors_of_any_type_are_actions(action: Any) -> None:
    env = make("free_roam")
    env.reset(seed=0)
    batch = started(SanaWMVectorEnv(1, "procedural"))
    row = action[None] if isinstance(action, torch.Tensor) else [action]
    assert np.array_equal(env.step(action)[0], batch.step(row)[0][0])


@pytest.mark.parametrize(
    "action",
    [
        np.zeros(5, complex),
        {"yaw": 1},
        "w-24",
        None,
        torch.zeros(5).to_sparse(),
        torch.zeros(5, device="meta"),
        [[1], [1, 2]],
        np.array([object()] * 5),
    ],
)
def test_what_is_no_action_is_a_value_error(action: Any) -> None:
    env = make("free_roam")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="action"):
        env.step(action)


def test_arguments_that_people_give() -> None:
    env = make("free_roam", observation="frame", observation_size=84)
    assert env.observation_space.shape == (84, 84, 3)
    path = EMBEDDED / "tiny.safetensors"
    assert gym.make("SanaWM/World-v0", world=path).unwrapped.world.spec.name == "tiny"
    for name, value in (("world", None), ("world", 3), ("observation_size", (0, 4))):
        with pytest.raises(ValueError, match=name):
            gym.make("SanaWM/World-v0", **{"world": "procedural", name: value})
    with pytest.raises(ValueError, match="expected a name or an instance"):
        gym.make("SanaWM/World-v0", world="procedural", task=ImageGoal)
    with pytest.raises(ValueError, match=r"seed is 1\.5"):
        SanaWMVectorEnv(2, "procedural").reset(seed=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("way", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@pytest.mark.parametrize("world", ["procedural", "tiny"])
@pytest.mark.parametrize("task", sorted(TASKS))
def test_a_copy_of_an_environment_continues_bit_for_bit(world: str, task: str, way: Any) -> None:
    env = gym.make("SanaWM/World-v0", world=world, task=task, max_episode_steps=3)
    env.reset(seed=0)
    batch = gym.make_vec("SanaWM/World-v0", 2, world=world, task=task, as_torch=True)
    batch.reset(seed=0)
    for one in (env, batch):
        action = one.action_space.sample()
        one.step(action)
        twin: Any = way(one)
        assert twin.unwrapped.world is one.unwrapped.world
        assert np.array_equal(twin.action_space.sample(), one.action_space.sample())
        for mine, theirs in zip(one.step(action)[:4], twin.step(action)[:4], strict=True):
            assert same(mine, theirs)
    env.reset(seed=5)
    assert not same(way(env).reset()[0], env.reset(seed=6)[0])
    assert same(way(env).reset()[0], way(env).reset()[0])
