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

MODES = ("continuous", "planar", "discrete", "keys")
ACTIONS = [(mode, parts) for mode in MODES for parts in (1, 3)]
OBSERVATIONS = [("frame",), ("pose",), ("frame", "pose"), ("frame", "frames", "pose")]
LATENT = [("latent",), ("latent", "pose")]

# What stable-baselines3 does not take: 4-D observations and two-dimensional key vectors.
NOT_SB3 = {("frame", "frames", "pose"), ("keys", 3)}


def refused(name: str, observation: tuple[str, ...]) -> str:
    """What is said of parts that do not go with the task; nothing where they do."""
    if name == "SanaWM/ImageGoalHER-v0" and len(observation) > 1:
        return "expected one part, named 'observation'"
    # A goal image is of no use to an agent that sees nothing.
    return "expected 'frame'" if (name, observation) == ("SanaWM/ImageGoal-v0", ("pose",)) else ""


def check(name: str, world: Any, action: tuple[str, int], observation: Any, *, sb3: bool) -> None:
    options = {
        "world": world,
        "action_mode": action[0],
        "actions_per_chunk": action[1],
        "observation": list(observation),
    }
    if said := refused(name, observation):
        with pytest.raises(ValueError, match=said):
            gym.make(name, **options)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(name, **options).unwrapped)
        if sb3 and not NOT_SB3 & {action, observation}:
            # It calls `compute_reward` of what it is given; no wrapper of Gymnasium passes that on.
            made = gym.make(name, **options)
            sb3_check_env(made.unwrapped if hasattr(made.unwrapped, "compute_reward") else made)


@pytest.mark.parametrize("observation", OBSERVATIONS + LATENT, ids="+".join)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", sana_wm_gym.ENV_IDS)
def test_every_combination(world: Any, name: str, mode: str, observation: tuple[str, ...]) -> None:
    # One or three actions per chunk take turns; of the world without a task both are checked.
    parts = (1, 3) if name == sana_wm_gym.ENV_ID else (1 + 2 * (len(observation) % 2),)
    for actions_per_chunk in parts:
        check(name, world, (mode, actions_per_chunk), observation, sb3=True)


# Real worlds cost more per step: every id once in each, with the other choices taking turns.
REAL = [
    (name, world, ACTIONS[(i + 3 * k) % len(ACTIONS)], choices[(i + k) % len(choices)])
    for k, (world, choices) in enumerate(
        {
            "procedural": OBSERVATIONS,
            "twin": OBSERVATIONS,
            "tiny": [("frame",), ("latent", "pose"), ("latent",), ("frame", "latent", "pose")],
        }.items()
    )
    for i, name in enumerate(sana_wm_gym.ENV_IDS)
]


@pytest.mark.parametrize(("name", "world", "action", "observation"), REAL, ids=str)
def test_every_world(
    name: str, world: str, action: tuple[str, int], observation: tuple[str, ...]
) -> None:
    check(name, world, action, observation, sb3=world == "procedural")


def test_every_world_is_checked() -> None:
    # The bfloat16 twin differs from "tiny" in its arithmetic alone.
    assert {world for _, world, *_ in REAL} == set(WORLDS) - {"tiny-bf16"}


def test_worlds_are_loaded_once_per_process() -> None:
    worlds = {gym.make(sana_wm_gym.ENV_ID, world="procedural").unwrapped.world for _ in range(2)}
    assert worlds == {load_world("procedural")}


def test_one_line_make() -> None:
    env = gym.make("sana_wm_gym:SanaWM/World-v0", world="procedural")
    observation, _ = env.reset(seed=0)
    assert observation.shape == (64, 64, 3)
