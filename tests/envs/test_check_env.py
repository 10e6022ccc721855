"""Gymnasium's and stable-baselines3's own checkers, for every id, world, action and observation."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import sana_wm_gym
from sana_wm_gym.world.catalogue import WORLDS, load_world

ACTIONS = [(mode, parts) for mode in ("continuous", "discrete", "keys") for parts in (1, 3)]
OBSERVATIONS = [("frame",), ("pose",), ("frame", "pose"), ("frame", "frames", "pose")]
LATENT = [("latent",), ("latent", "pose")]

# What stable-baselines3 does not take: 4-D observations and two-dimensional key vectors.
NOT_SB3 = {("frame", "frames", "pose"), ("keys", 3)}


def both_checks(make: Any, action: tuple[str, int], observation: tuple[str, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make()
        check_env(env.unwrapped)
        if not NOT_SB3 & {action, observation}:
            sb3_check_env(make())


def options(action: tuple[str, int], observation: tuple[str, ...]) -> dict[str, Any]:
    return {
        "action_mode": action[0],
        "actions_per_chunk": action[1],
        "observation": list(observation),
    }


@pytest.mark.parametrize("observation", OBSERVATIONS + LATENT, ids="+".join)
@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: f"{action[0]}x{action[1]}")
def test_every_combination(world: Any, action: tuple[str, int], observation: Any) -> None:
    def make() -> gym.Env[Any, Any]:
        return gym.make(sana_wm_gym.ENV_ID, world=world, **options(action, observation))

    both_checks(make, action, observation)


# Real worlds cost more per step: every action mode once, with different observations.
@pytest.mark.parametrize(
    ("name", "action", "observation"),
    [
        ("procedural", ("continuous", 1), ("frame",)),
        ("procedural", ("discrete", 3), ("pose",)),
        ("procedural", ("keys", 1), ("frame", "pose")),
        ("tiny", ("continuous", 1), ("frame",)),
        ("tiny", ("discrete", 1), ("latent", "pose")),
        ("tiny", ("keys", 1), ("frame", "latent", "pose")),
    ],
    ids=str,
)
def test_every_world(name: str, action: tuple[str, int], observation: tuple[str, ...]) -> None:
    def make() -> gym.Env[Any, Any]:
        return gym.make(sana_wm_gym.ENV_ID, world=name, **options(action, observation))

    both_checks(make, action, observation)


def test_every_world_is_checked() -> None:
    [mark] = [m for m in test_every_world.pytestmark if m.name == "parametrize"]
    assert {case[0] for case in mark.args[1]} == set(WORLDS)


def test_worlds_are_loaded_once_per_process() -> None:
    worlds = {gym.make(sana_wm_gym.ENV_ID, world="procedural").unwrapped.world for _ in range(2)}
    assert worlds == {load_world("procedural")}


def test_one_line_make() -> None:
    env = gym.make("sana_wm_gym:SanaWM/World-v0", world="procedural")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (64, 64, 3)
