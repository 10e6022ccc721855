"""A circle about the point succeeds; no way to and fro earns anything."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from env_values import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.envs.tasks import Inspect
from sana_wm_gym.envs.tasks.inspect_point import in_camera, projects


def circle(simulation, episode, yaw=1.0):
    """The twist that goes round the point: to the right while turning left."""
    limits = simulation.world.spec.limits
    return -yaw, 0.0, yaw * limits.yaw * episode.task.point[2] / limits.right, 0.0, 0.0


@pytest.mark.parametrize("seed", range(3))
def test_a_circle_about_the_point_succeeds(begin, play, seed):
    simulation, start = begin(Inspect(), seed)
    end, results = play(simulation, start, [circle(simulation, start)] * 24)
    chunks = math.ceil(math.pi / (24 * simulation.world.spec.limits.yaw))
    assert chunks - 1 <= len(results) <= chunks and end.over
    last = results[-1].info
    assert last["is_success"] and last["in_view"] and last["orbit_deg"] >= 180.0
    assert last["distance_m"] == pytest.approx(start.task.point[2], abs=0.03)
    # Nearly every radian counts fully.
    total = sum(v.reward for v in results)
    assert total == pytest.approx(math.radians(last["orbit_deg"]), rel=0.05)


def test_the_other_way_round_costs(begin, play):
    simulation, start = begin(Inspect())
    _, results = play(simulation, start, [circle(simulation, start, yaw=-1.0)] * 3)
    assert all(v.reward < 0.0 for v in results)
    assert results[-1].info["orbit_deg"] == pytest.approx(-math.degrees(72 * 0.026), rel=0.05)


def test_only_what_is_in_view_and_near_counts(begin, play):
    simulation, start = begin(Inspect())
    _, results = play(simulation, start, [(0, 0, 1, 0, 0)] * 3)
    # Walking on without turning loses the point from view.
    assert not results[-1].info["in_view"] and results[-1].reward == 0.0
    narrow = replace(simulation, task=Inspect(slack=1e-3))
    twist = circle(simulation, start) * np.array([1.0, 1.0, 0.5, 1.0, 1.0])
    _, [result] = play(narrow, start, [twist])
    assert result.reward < 0.1 * 24 * 0.026


@FIXTURES
@given(seed=st.integers(0, 10**6), twists=st.integers(0, 10**6))
def test_rewards_never_exceed_the_net_angle(begin, play, seed, twists):
    simulation, episode = begin(Inspect(), seed)
    actions = np.random.default_rng(twists).uniform(-1, 1, (6, 5)) * [1, 1, 1, 1, 0.2]
    poses, total, point = [episode.c2w], 0.0, episode.task.point
    for action in actions:
        episode, [result] = play(simulation, episode, [action])
        poses.append(episode.c2w)
        total += result.reward
    x, z = (np.concatenate(poses)[:, :3, 3] - point)[:, (0, 2)].T
    net = np.unwrap(np.arctan2(x, -z))
    assert total <= net[-1] - net[0] + 1e-9
    assert total <= episode.task.progress + 1e-9


@FIXTURES
@given(seed=st.integers(0, 10**6), twists=st.integers(0, 10**6))
def test_the_target_is_the_point_seen_from_the_camera(begin, play, seed, twists):
    simulation, start = begin(Inspect(), seed)
    actions = np.random.default_rng(twists).uniform(-1, 1, (2, 5))
    for episode in (start, play(simulation, start, actions)[0]):
        target = simulation.observe([episode])[0]["target"]
        back = episode.c2w[-1] @ np.array([*target, 1.0])
        np.testing.assert_allclose(back[:3], start.task.point, atol=1e-5)


def test_projection():
    points = np.array([[0, 0, 1], [0, 0, -1], [0.79, 0, 1], [0.81, 0, 1], [0, -0.9, 1], [0, 0, 0]])
    seen = projects(points.astype(float), (30.0, 30.0, 24.0, 20.0), 48, 40)
    assert seen.tolist() == [True, False, True, False, False, False]
    assert in_camera(np.array([0.0, 0.0, 2.0]), np.eye(4)[None]).tolist() == [[0.0, 0.0, 2.0]]
