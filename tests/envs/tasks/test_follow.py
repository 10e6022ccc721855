"""Following exactly is worth 1 a step; errors are the metrics'; noise are part of a seed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from env_values import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.camera import Controls
from sana_wm_gym.envs.tasks import Follow
from sana_wm_gym.metrics import UNALIGNED, score_poses

EXACT = Follow(max_episode_steps=4, wander=0.0, noise=0.0, drift=0.0)


def the_way(episode: Any, task: Follow) -> tuple[float, ...]:
    """The one twist that a path without wander is made of."""
    side = math.copysign(1.0, episode.task.path[1, 0, 2])
    return side * task.yaw, 0.0, 0.0, 0.0, task.forward


def test_following_exactly_is_worth_one_a_step(begin, play):
    simulation, start = begin(EXACT)
    end, results = play(simulation, start, [the_way(start, EXACT)] * 4)
    assert [v.reward for v in results] == pytest.approx([1.0] * 4)
    assert [v.info["is_success"] for v in results] == [True] * 4
    assert not end.over


def test_standing_still_gets_lost(begin, play):
    simulation, start = begin(replace(EXACT, max_episode_steps=8))
    _, results = play(simulation, start, [np.zeros(5)] * 8)
    assert len(results) < 8 and results[-1].terminated
    assert results[-1].info["trans_err_m"] > 1.0 and not results[-1].info["is_success"]
    rewards = [v.reward for v in results]
    assert all(0.0 < reward < 1.0 for reward in rewards)


@FIXTURES
@given(seed=st.integers(0, 10**6), twists=st.integers(0, 10**6))
def test_errors_are_those_of_the_metrics(begin, play, seed, twists):
    task = Follow(max_episode_steps=3, lost=100.0)
    simulation, episode = begin(task, seed)
    seen, wanted, total = [], [], np.zeros(2)
    for chunk, twist in enumerate(np.random.default_rng(twists).uniform(-1, 1, (3, 5))):
        episode, [result] = play(simulation, episode, [twist])
        seen.append(episode.c2w)
        wanted.append(episode.task.path[24 * chunk + 1 : 24 * chunk + 25])
        # The metrics' mean counts the shared first frame and the chunks before as well.
        first = np.eye(4)[None]
        score = score_poses(
            np.concatenate([first, *seen]), np.concatenate([first, *wanted]), UNALIGNED
        )
        n = 24 * (chunk + 1) + 1
        degrees, metres = result.info["rot_err_deg"], result.info["trans_err_m"]
        total += 24 * np.array([degrees, metres])
        assert [score.rot_err * n, score.trans_err * n] == pytest.approx(total)
        expected = math.exp(-metres / task.scale - math.radians(degrees) / task.turn_scale)
        assert result.reward == pytest.approx(expected)


@FIXTURES
@given(seed=st.integers(0, 10**6), chunk=st.integers(0, 30))
def test_slips_add_to_the_command_and_belong_to_the_seed(begin, seed, chunk):
    task = Follow()
    (_, one), (_, two) = begin(task, seed), begin(task, seed)
    still = task.disturb(one.task, chunk, Controls.still(24))
    walk = replace(Controls.still(24), forward=np.full(24, 0.03))
    moved = task.disturb(two.task, chunk, walk)
    np.testing.assert_allclose(moved.forward - still.forward, 0.03)
    np.testing.assert_array_equal(moved.yaw, still.yaw)
    assert np.ptp(still.yaw) == 0.0 and not still.roll.any()
    assert (chunk >= task.max_episode_steps) == (not still.yaw.any())


def test_slips_have_the_sizes_asked_for(begin):
    task = Follow(max_episode_steps=400, noise=0.05, drift=0.1, persistence=0.8)
    simulation, start = begin(task)
    limits = simulation.world.spec.limits
    units = [limits.yaw, limits.pitch, limits.right, limits.down, limits.forward]
    noise = start.task.actuation_noise / units
    assert noise.std() == pytest.approx(math.hypot(0.05, 0.1), rel=0.1)
    # White noise does not outlive its chunk, the bias mostly does.
    assert (noise[1:] * noise[:-1]).mean() == pytest.approx(0.8 * 0.1**2, rel=0.2)


def test_the_next_chunk_ends_are_seen(begin, play):
    task = Follow(lookahead=3, max_episode_steps=5, lost=100.0)
    simulation, start = begin(task)
    end, _ = play(simulation, start, [np.zeros(5)] * 2)
    path = simulation.observe([end])[0]["path"].reshape(3, 3, 4)
    for ahead in range(3):
        pose = start.task.path[24 * (3 + ahead)]
        np.testing.assert_allclose(path[ahead], pose[:3], rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(task.target(end.task, 3 + ahead), pose)
    # Past its end the path stands still, for planners that look beyond it.
    np.testing.assert_array_equal(task.target(end.task, 99), start.task.path[-1])


@FIXTURES
@given(seed=st.integers(0, 10**6))
def test_paths_keep_to_the_limits_and_stay_level(begin, seed):
    simulation, start = begin(Follow(wander=1.0), seed)
    path, limits = start.task.path, simulation.world.spec.limits
    steps = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert steps.max() <= math.hypot(limits.forward, limits.right) + 1e-9
    np.testing.assert_allclose(path[:, 1, 3], 0.0, atol=1e-12)
    np.testing.assert_allclose(path[:, 1, 1], 1.0, atol=1e-12)
