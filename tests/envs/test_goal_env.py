"""The goal-conditioned form: pixels decide, arrays of goals at once, hindsight replay runs."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv

import sana_wm_gym  # noqa: F401 (registers the id)
from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.envs.goal_env import SanaWMGoalEnv, ThumbnailGoal, thumbnail
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.world.procedural import ProceduralWorld

SMALL = ProceduralWorld(size=(36, 36))
STRAIGHT = ImageGoal(chunks=(1,), forward=(0.7, 0.7), right=0.0, yaw=0.0)
THUMBNAILS = arrays(np.float32, (5, 192), elements=st.floats(0, 1, width=32))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_both_checkers_are_content() -> None:
    env = gym.make("SanaWM/ImageGoalHER-v0", world=SMALL)
    check_env(env.unwrapped)
    sb3_check_env(env.unwrapped)


@settings(max_examples=25, deadline=None)
@given(achieved=THUMBNAILS, desired=THUMBNAILS, threshold=st.floats(0.01, 1.0))
def test_rewards_of_many_are_those_of_each(achieved, desired, threshold) -> None:
    task = ThumbnailGoal(threshold)
    many = task.compute_reward(achieved, desired, [{}] * 5)
    assert many.shape == (5,) and many.dtype == np.float32
    for row in range(5):
        assert task.compute_reward(achieved[row], desired[row], {}) == many[row]
        gap = np.sqrt(np.mean((achieved[row].astype(float) - desired[row]) ** 2))
        assert many[row] == (0.0 if gap <= threshold else -1.0)
    assert not task.compute_reward(desired, desired, {}).any()


def test_steps_reward_what_compute_reward_says_and_arriving_ends_nothing() -> None:
    env = SanaWMGoalEnv(SMALL, task=ThumbnailGoal(walk=STRAIGHT), horizon=3)
    first, _ = env.reset(seed=4)
    assert set(first) == {"achieved_goal", "desired_goal", "observation"}
    np.testing.assert_array_equal(first["achieved_goal"], thumbnail(first["observation"]))
    results = [env.step(np.array([0, 0, 0, 0, f])) for f in (0.7, 0.0, -1.0)]
    for seen, reward, terminated, truncated, info in results:
        np.testing.assert_array_equal(seen["achieved_goal"], thumbnail(seen["observation"]))
        np.testing.assert_array_equal(seen["desired_goal"], first["desired_goal"])
        assert reward == env.compute_reward(seen["achieved_goal"], seen["desired_goal"], info)
        assert info["is_success"] == (reward == 0.0)
        assert not terminated and truncated == (info["chunk_index"] == 3)
    # There, still there, and gone again.
    assert [r[1] for r in results] == [0.0, 0.0, -1.0]
    assert results[0][4]["goal_rms"] == 0.0


def test_branches_and_snapshots_keep_the_form() -> None:
    env = SanaWMGoalEnv(SMALL, observation=("pose",))
    env.reset(seed=1)
    here = env.snapshot()
    [branch] = env.branch(1)
    moved = [e.step(np.full(5, 0.5))[0] for e in (env, branch)]
    for name in ("observation", "achieved_goal", "desired_goal"):
        np.testing.assert_array_equal(moved[0][name], moved[1][name])
    assert env.observation_space.contains(env.restore(here)[0])


def test_several_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="expected one part"):
        SanaWMGoalEnv(SMALL, observation=("frame", "pose"))


def vectors() -> list[Any]:
    """Environments in turn, and rows of one batch."""
    task = ThumbnailGoal(walk=STRAIGHT)
    single = [lambda: SanaWMGoalEnv(SMALL, task=task, observation=("pose",), horizon=2)] * 2
    batch = SanaWMVectorEnv(2, SMALL, task=task, observation=("pose",), horizon=2)
    return [DummyVecEnv(single), SanaWMVecEnv(batch)]  # type: ignore[list-item]


@pytest.mark.parametrize("kind", [0, 1], ids=["in turn", "batched"])
def test_hindsight_replay_learns_from_relabelled_goals(kind: int) -> None:
    env = vectors()[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        learner = SAC(
            "MultiInputPolicy",
            env,
            replay_buffer_class=HerReplayBuffer,
            replay_buffer_kwargs={"n_sampled_goal": 4, "goal_selection_strategy": "final"},
            policy_kwargs={"net_arch": [8]},
            buffer_size=64,
            batch_size=32,
            learning_starts=8,
            train_freq=8,
            seed=0,
            device="cpu",
        )
        learner.learn(12)
    batch = learner.replay_buffer.sample(64)
    # The last view of an episode stands in as its goal, and was reached.
    assert (batch.rewards == 0).any() and (batch.rewards == -1).any()
    assert not batch.dones.any()
