"""The bridge gives stable-baselines3 what its own `DummyVecEnv` of single environments gives."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import gymnasium as gym
import numpy as np
import pytest
from env_values import same
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecMonitor,
    VecTransposeImage,
)

from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.sb3 import SanaWMVecEnv, row_info
from sana_wm_gym.envs.tasks import FreeRoam, ImageGoal, StepResult, ThumbnailGoal
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

ROWS = 3


@dataclass(frozen=True)
class EndsSomewhere(FreeRoam):
    """Ends where the camera has gone far enough forward, so that rows end at different times."""

    max_episode_steps: int = 4
    metres: float = 1.0

    def evaluate(self, simulation, before, after):
        gone = float(after.c2w[-1, 2, 3])
        return None, StepResult(gone, gone > self.metres)

    def info(self, simulation, episode):
        return {"is_success": bool(episode.c2w[-1, 2, 3] > self.metres)}


def bridge(world, *, task=None, **settings):
    return SanaWMVecEnv(SanaWMVectorEnv(ROWS, world, task=task or EndsSomewhere(), **settings))


def singles(world, *, task=None, **settings):
    return DummyVecEnv([lambda: SanaWMEnv(world, task=task or EndsSomewhere(), **settings)] * ROWS)


def walk(env, steps, seed=5):
    """Everything a vector environment returns along seeded forward walks."""
    rng = np.random.default_rng(seed)
    env.seed(seed)
    found = [env.reset(), copy.deepcopy(env.reset_infos)]
    for _ in range(steps):
        if isinstance(env.action_space, gym.spaces.Box):
            actions = rng.uniform(-0.2, 1, (ROWS, *env.action_space.shape)).astype(np.float32)
        else:
            actions = rng.integers(env.action_space.n, size=ROWS)
        found += [*env.step(actions), copy.deepcopy(env.reset_infos)]
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"observation": ("frame", "pose"), "observation_size": (36, 40)},
        {"observation": ("latent",), "action_mode": "discrete"},
        {"autoreset_mode": AutoresetMode.SAME_STEP, "actions_per_chunk": 3},
        {"autoreset_mode": "Disabled", "as_torch": True, "observation": ("frame", "latent")},
    ],
    ids=["frame", "dict", "latent discrete", "same step", "torch"],
)
def test_same_as_dummy_vec_env(world, settings):
    ours = bridge(world, **settings)
    theirs = singles(
        world, **{k: v for k, v in settings.items() if k not in ("autoreset_mode", "as_torch")}
    )
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert same(walk(ours, 9), walk(theirs, 9))


def test_the_walk_meets_both_kinds_of_ends_apart(world):
    """What the comparison above is worth: rows end at different times and for both reasons."""
    infos = walk(bridge(world), 9)[5::5]  # after the two answers to reset, the last of each four
    ends = [
        [info["TimeLimit.truncated"] for info in row if "terminal_observation" in info]
        for row in infos
    ]
    assert any(any(row) for row in ends) and any(not all(row) for row in ends)
    assert any(0 < len(row) < ROWS for row in ends)


def test_image_goal_in_the_procedural_world_is_the_same_too():
    world = ProceduralWorld(size=(36, 36), scenes=(5,))
    task = ImageGoal(max_episode_steps=2, chunks=(1,))
    assert same(walk(bridge(world, task=task), 3), walk(singles(world, task=task), 3))


def test_seeds_and_options_are_used_once_and_per_row(world):
    ours, theirs = bridge(world), singles(world)
    answers = []
    options = [{"scene": 3}, {}, {"scene": 4, "prompt": "another"}]
    for env in (ours, theirs):
        env.seed(3)
        env.set_options({"scene": 4})
        found = [env.reset(), env.reset()]  # the second with neither the seed nor the scene
        env.seed(8)
        env.set_options(options)
        answers.append([*found, env.reset()])
    assert same(*answers)
    assert not np.array_equal(answers[0][0], answers[0][1])
    # Different options at the very first reset.
    fresh = bridge(world)
    fresh.seed(8)
    fresh.set_options(options)
    assert same(fresh.reset(), answers[0][2])


def test_bad_options_and_actions_are_refused_and_nothing_changes(world):
    env = bridge(world)
    env.seed(0)
    env.reset()
    before = env.vector_env.snapshot(1)
    env.set_options({"scenery": 3})
    with pytest.raises(ValueError, match="scenery"):
        env.reset()
    actions = np.zeros((ROWS, 5), np.float32)
    actions[1, 0] = np.nan
    with pytest.raises(ValueError, match="sub-environment 1"):
        env.step(actions)
    assert env.vector_env.snapshot(1).episode is before.episode


def test_attributes_and_methods_by_name(world):
    task = ThumbnailGoal(walk=ImageGoal(success_distance_m=0.01, success_angle_deg=0.6))
    env = bridge(world, task=EndsSomewhere())
    assert env.get_attr("render_mode") == [None] * ROWS
    assert env.get_attr("metres", [0, 2]) == [1.0, 1.0]  # the task's
    assert env.has_attr("world") and not env.has_attr("weather")
    assert env.env_is_wrapped(Monitor) == [False] * ROWS
    assert env.env_is_wrapped(Monitor, indices=1) == [False]
    env.reset()
    assert len(env.env_method("snapshot", 2, indices=[0])) == 1
    env.set_attr("note", "kept")
    assert env.get_attr("note", 1) == ["kept"] and env.vector_env.note == "kept"
    with pytest.raises(ValueError, match=r"given rows \[1\]"):
        env.set_attr("note", "lost", indices=1)
    with pytest.raises(AttributeError):
        env.env_method("fly")
    goal = bridge(world, task=task)
    want = goal.reset()
    args = want["achieved_goal"], want["desired_goal"]
    [rewards] = goal.env_method("compute_reward", *args, indices=[0])
    np.testing.assert_array_equal(
        rewards, SanaWMEnv(world, task=task).compute_reward(*args, [{}] * ROWS)
    )


def test_images_until_it_is_closed(world):
    env = bridge(world, render_mode="rgb_array")
    env.reset()
    images = env.get_images()
    assert [image.shape for image in images] == [(40, 48, 3)] * ROWS
    tiled = env.render()
    assert tiled.shape == (80, 96, 3)
    np.testing.assert_array_equal(tiled[:40, 48:], images[1])
    env.close()
    with pytest.raises(gym.error.ClosedEnvironmentError):
        env.reset()
    every = bridge(world, render_mode="rgb_array_list")
    with pytest.warns(UserWarning, match="rgb_array"):
        assert every.get_images() == [None] * ROWS


def test_wrappers_of_stable_baselines3_fit(world):
    env = VecMonitor(VecTransposeImage(bridge(world)))
    assert env.observation_space.shape == (3, 40, 48)
    env.seed(1)
    first = env.reset()
    assert first.shape == (ROWS, 3, 40, 48)

    class Forward:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            return np.tile(np.float32([0, 0, 0, 0, 1]), (len(observation), 1)), state

    returns, lengths = evaluate_policy(Forward(), env, 4, return_episode_rewards=True, warn=False)
    # 24 frames of 0.04 m: over a metre after the second chunk.
    forward = world.spec.limits.forward * 24
    assert lengths == [2] * 4
    assert returns == pytest.approx([3 * forward] * 4, rel=1e-5)


def test_row_info_is_the_info_of_a_single_environment(world):
    vector = SanaWMVectorEnv(ROWS, world, task=EndsSomewhere())
    single = SanaWMEnv(world, task=EndsSomewhere())
    _, infos = vector.reset(seed=4)
    assert same(row_info(infos, 1), single.reset(seed=5)[1])
    forward = np.float32([0, 0, 0, 0, 1])
    assert same(row_info(vector.step([forward] * ROWS)[-1], 1), single.step(forward)[-1])
    assert row_info({"a": np.ones(2), "_a": np.array([True, False])}, 1) == {}
