"""Goals are what the world shows at the end of a hidden walk; rewards and SPL keep their laws."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from env_values import FIXTURES
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import ImageGoal, PoseDistance, Shaped, Sparse
from sana_wm_gym.envs.tasks.image_goal import gap
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

STRAIGHT = ImageGoal(chunks=(1,), forward=(0.7, 0.7), right=0.0, yaw=0.0)


def test_the_goal_is_the_view_at_the_end_of_the_walk() -> None:
    env = SanaWMEnv(ProceduralWorld(size=(24, 24)), task=STRAIGHT)
    first, _ = env.reset(seed=2)
    assert not np.array_equal(first["goal"], first["frame"])
    last, reward, terminated, truncated, info = env.step(np.array([0, 0, 0, 0, 0.7]))
    np.testing.assert_array_equal(last["frame"], first["goal"])
    np.testing.assert_array_equal(last["goal"], first["goal"])
    assert terminated and not truncated
    assert info["is_success"] and info["spl"] == 1.0
    assert info["goal_distance_m"] < 1e-9 and info["goal_angle_deg"] < 1e-6
    assert reward == pytest.approx(24 * 0.7 * 0.05 - 0.05 + 1.0, abs=1e-4)


@FIXTURES
@given(seed=st.integers(0, 10**6), twists=st.integers(0, 10**6), distance=st.floats(0.1, 5.0))
def test_shaped_rewards_telescope(begin, play, seed, twists, distance):
    task = ImageGoal(distance=PoseDistance(distance), reward=Shaped(bonus=2.0, step_cost=0.1))
    simulation, start = begin(task, seed)
    actions = np.random.default_rng(twists).uniform(-1, 1, (4, 5))
    end, results = play(simulation, start, actions)
    here, there = (task.distance.between(e.c2w[-1], start.task.c2w) for e in (start, end))
    won = sum(v.info["is_success"] for v in results)
    total = sum(v.reward for v in results)
    assert total == pytest.approx(here - there - 0.1 * len(results) + 2.0 * won)
    assert end.over == bool(won)


@FIXTURES
@given(
    metres=st.floats(0.0, 1.0),
    degrees=st.floats(0.0, 40.0),
    axis=st.integers(0, 2),
    way=st.integers(0, 2),
)
def test_success_is_being_near_and_turned_right(begin, metres, degrees, axis, way):
    task = ImageGoal(reward=Sparse())
    simulation, start = begin(task)
    pose = start.task.c2w.copy()
    pose[:3, :3] = (
        pose[:3, :3] @ Rotation.from_rotvec(np.eye(3)[axis] * math.radians(degrees)).as_matrix()
    )
    pose[way, 3] += metres
    there = replace(start, c2w=pose[None], chunk=1)
    state, result = task.evaluate(simulation, start, there)
    info = task.info(simulation, replace(there, task=state))
    if abs(metres - 0.4) > 1e-6 and abs(degrees - 15) > 1e-6:
        reached = metres <= 0.4 and degrees <= 15
        assert info["is_success"] == result.terminated == reached
        assert result.reward == float(reached)
        assert (info["spl"] > 0) == reached
    assert info["goal_distance_m"] == pytest.approx(metres, abs=1e-9)
    assert info["goal_angle_deg"] == pytest.approx(degrees, abs=1e-6)


@FIXTURES
@given(seed=st.integers(0, 10**6), twists=st.integers(0, 10**6))
def test_path_lengths_and_spl(begin, play, seed, twists):
    task = ImageGoal(
        success_distance_m=1.5, success_angle_deg=57.3, forward=(1.0, 1.0), chunks=(2,)
    )
    simulation, start = begin(task, seed)
    actions = np.random.default_rng(twists).uniform(-1, 1, (6, 5))
    end, results = play(simulation, start, actions)
    shortest = task.distance.between(start.c2w[-1], end.task.c2w)
    # The distance is a metric: no way is shorter than the straight one.
    assert end.task.taken >= task.distance.between(start.c2w[-1], end.c2w[-1]) - 1e-9
    for result in results:
        assert 0.0 <= result.info["spl"] <= 1.0
    if results[-1].info["is_success"]:
        expected = shortest / max(end.task.taken, shortest)
        assert results[-1].info["spl"] == pytest.approx(expected)


def test_a_detour_costs_spl(begin, play):
    simulation, start = begin(STRAIGHT)
    straight = [(0, 0, 0, 0, 0.7)]
    there_and_back = [(0, 0, 1, 0, 0), (0, 0, -1, 0, 0), *straight]
    direct = play(simulation, start, straight)[1][-1].info["spl"]
    longer = play(simulation, start, there_and_back)[1][-1].info["spl"]
    assert direct == 1.0
    assert longer == pytest.approx(0.84 / (0.84 + 2.4), rel=1e-3)


@FIXTURES
@given(seed=st.integers(0, 10**6))
def test_goals_lie_away_from_the_start(begin, seed):
    task = ImageGoal()
    _, start = begin(task, seed)
    metres, angle = gap(np.eye(4), start.task.c2w)
    assert not task.reached(metres, angle)
    assert metres <= 2 * 24 * 0.05 * math.hypot(1.0, 0.2) + 1e-9
    assert math.degrees(angle) <= 60
    assert start.task.c2w[2, 3] > 0


def test_the_goal_takes_the_form_of_what_is_observed(world: Any) -> None:
    small = SanaWMEnv(world, task="image_goal", observation_size=(10, 12))
    every = SanaWMEnv(world, task="image_goal", observation=("pose", "frames"))
    latent = SanaWMEnv(world, task="image_goal", observation=("latent", "frame"))
    assert small.reset(seed=0)[0]["goal"].shape == (10, 12, 3)
    assert every.reset(seed=0)[0]["goal"].shape == (40, 48, 3)
    world.calls.clear()
    both, _ = latent.reset(seed=0)
    assert both["goal"].shape == both["latent"].shape == (60,)
    # The frame that is observed is the start's alone.
    assert world.calls["decoded"] == 1
    with pytest.raises(ValueError, match="a goal image is of no use"):
        SanaWMEnv(world, task="image_goal", observation=("pose",))


def test_goals_of_a_batch_are_imagined_together(world: Any) -> None:
    simulation = SanaWMEnv(world, task=ImageGoal(chunks=(1, 2))).simulation
    world.calls.clear()
    episodes = simulation.begin([None] * 8, [np.random.default_rng(i) for i in range(8)])
    assert world.calls["advance"] == 2
    assert len({e.task.c2w.tobytes() for e in episodes}) == 8
    with pytest.raises(ValueError, match="stay within 5 m"):
        SanaWMEnv(world, task=ImageGoal(success_distance_m=5.0, success_angle_deg=180.0))


def test_distance_is_metres_and_radians() -> None:
    turned = np.eye(4)
    turned[:3, :3] = Rotation.from_rotvec([0, 0.5, 0]).as_matrix()
    turned[:3, 3] = 3.0, 0.0, 4.0
    assert PoseDistance(2.0).between(np.eye(4), turned) == pytest.approx(5.0 + 2.0 * 0.5)
