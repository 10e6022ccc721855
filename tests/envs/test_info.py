"""`info` is regular: the same keys, shapes and types from reset to the end, numbers alone."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv

from sana_wm_gym.envs.tasks import TASKS


def make(task: str, **settings: Any) -> Any:
    return gym.make("SanaWM/World-v0", world="procedural", task=task, **settings)


def kinds(info: dict[str, Any]) -> dict[str, Any]:
    return {name: (type(value), np.shape(value)) for name, value in info.items()}


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_key_has_one_shape_and_type(task: str) -> None:
    env = make(task, horizon=3)
    _, info = env.reset(seed=0)
    found = kinds(info)
    assert all(np.asarray(value).dtype.kind in "biuf" for value in info.values())
    assert found["c2w"] == (np.ndarray, (24, 4, 4))
    ended = cut = False
    while not (ended or cut):
        *_, ended, cut, info = env.step(env.action_space.sample())
        assert kinds(info) == found
    env.reset(seed=1)
    here = env.unwrapped.snapshot()
    assert kinds(env.unwrapped.restore(here)[1]) == found


@pytest.mark.parametrize("task", sorted(TASKS))
@pytest.mark.parametrize("mode", list(AutoresetMode), ids=lambda mode: mode.name)
def test_gymnasiums_loop_runs_where_rows_end_at_different_steps(
    task: str, mode: AutoresetMode
) -> None:
    envs = SyncVectorEnv([lambda n=n: make(task, horizon=n) for n in (2, 3)], autoreset_mode=mode)
    envs.reset(seed=0)
    envs.action_space.seed(0)
    for _ in range(6):
        *_, ended, cut, infos = envs.step(envs.action_space.sample())
        if mode is AutoresetMode.DISABLED and (ended | cut).any():
            _, infos = envs.reset(options={"reset_mask": ended | cut})
        assert infos["c2w"].shape == (2, 24, 4, 4)
    envs.close()


def test_gymnasiums_processes_run_and_close() -> None:
    envs = AsyncVectorEnv([lambda n=n: make("follow", horizon=n) for n in (2, 3)], context="spawn")
    envs.reset(seed=0)
    for _ in range(4):
        envs.step(envs.action_space.sample())
    envs.close()
