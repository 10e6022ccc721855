"""The goal-conditioned form: pixels decide, arrays of goals at once, hindsight replay runs."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3 import SAC, HerReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

import sana_wm_gym  # noqa: F401 (registers the id)
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.tasks import ImageGoal, ThumbnailGoal
from sana_wm_gym.envs.tasks.thumbnail_goal import thumbnail
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

SMALL = ProceduralWorld(size=(36, 36))
STRAIGHT = ImageGoal(chunks=(1,), forward=(0.7, 0.7), right=0.0, yaw=0.0)
THUMBNAILS = arrays(np.float32, (5, 192), elements=st.floats(0, 1, width=32))


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
    env = SanaWMEnv(SMALL, task=ThumbnailGoal(walk=STRAIGHT), max_episode_steps=3)
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


def test_goals_of_other_tasks_cannot_be_relabelled() -> None:
    env = SanaWMEnv(SMALL, task="image_goal")
    assert not hasattr(env, "compute_reward")
    with pytest.raises(AttributeError, match="compute_reward"):
        env.compute_reward([0.0], [0.0], {})


def test_rewards_of_a_batch_of_tensors_are_computed_again() -> None:
    batch = SanaWMVectorEnv(2, SMALL, task="image_goal_her", as_torch=True)
    batch.reset(seed=1)
    batch.branch(0, [1])
    seen, rewards, *_ = batch.step(np.zeros((2, 5), np.float32))
    for name in ("observation", "achieved_goal", "desired_goal"):
        assert (seen[name][0] == seen[name][1]).all()
    achieved, desired = (seen[name].numpy() for name in ("achieved_goal", "desired_goal"))
    task: Any = batch.task
    assert np.array_equal(task.compute_reward(achieved, desired, [{}] * 2), rewards)


def vectors() -> list[Any]:
    """Environments in turn, and rows of one batch."""
    task = ThumbnailGoal(walk=STRAIGHT)
    single = [lambda: SanaWMEnv(SMALL, task=task, observation=("pose",), max_episode_steps=2)] * 2
    batch = SanaWMVectorEnv(2, SMALL, task=task, observation=("pose",), max_episode_steps=2)
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
