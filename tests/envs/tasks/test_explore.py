"""Cells count once; coming back is worth what the place has kept of its look."""

from __future__ import annotations

import numpy as np
import pytest
from env_values import FIXTURES
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import Explore
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

AHEAD, BACK = (0, 0, 0, 0, 1), (0, 0, 0, 0, -1)


@FIXTURES
@given(twists=st.integers(0, 10**6), rings=st.integers(0, 4), sectors=st.integers(1, 12))
def test_rewards_sum_to_the_cells_that_were_visited(begin, play, twists, rings, sectors):
    task = Explore(rings=rings, sectors=sectors, scale=2.0)
    simulation, episode = begin(task)
    visited = set(task.cells(episode.c2w).tolist())
    assert len(visited) == 1
    total = 0.0
    for twist in np.random.default_rng(twists).uniform(-1, 1, (5, 5)):
        episode, [result] = play(simulation, episode, [twist])
        visited |= set(task.cells(episode.c2w).tolist())
        total += result.reward
        assert result.reward >= 0.0
        assert result.info["cells"] == len(visited)
        assert result.info["coverage"] == len(visited) / ((2 * rings + 1) ** 2 * sectors)
    assert total == pytest.approx((len(visited) - 1) / 2.0)


@pytest.mark.parametrize(
    ("rings", "twists"), [(4, [AHEAD, BACK, AHEAD]), (1, [AHEAD] * 4)], ids=["back", "off the grid"]
)
def test_no_new_cells_earn_nothing(begin, play, rings, twists):
    simulation, start = begin(Explore(rings=rings))
    _, results = play(simulation, start, twists)
    assert results[0].reward > 0.0
    assert [v.reward for v in results[1:]] == [0.0] * (len(twists) - 1)


def test_cells_are_places_and_headings():
    task = Explore(cell=0.5, sectors=4, rings=1)
    poses = np.tile(np.eye(4), (5, 1, 1))
    poses[1, 0, 3] = 0.24  # the same square
    poses[2, 0, 3] = 0.26  # the next one
    poses[3, :3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]  # facing right
    poses[4, 2, 3] = 0.8  # two squares off
    assert len(task.cells(poses[:2])) == 1
    assert len(task.cells(poses[[0, 2]])) == 2
    assert len(task.cells(poses[[0, 3]])) == 2
    assert len(task.cells(poses[4:])) == 0


def test_nothing_is_decoded_without_a_bonus(world):
    for bonus, decoded in ((0.0, 0), (1.0, 3)):
        env = SanaWMEnv(world, task=Explore(bonus=bonus), observation=("pose",))
        world.calls.clear()
        env.reset(seed=0)
        for _ in range(2):
            env.step(np.zeros(5))
        assert world.calls["decoded"] == decoded


def test_a_perfect_world_looks_the_same_on_return(play):
    task = Explore(bonus=0.5, away=2, scale=1.0)
    simulation = SanaWMEnv(ProceduralWorld(size=(32, 32)), task=task).simulation
    [start] = simulation.begin([None], [np.random.default_rng(3)])
    _, results = play(simulation, start, [AHEAD, AHEAD, BACK, BACK])
    assert [v.info["revisits"] for v in results] == [0, 0, 0, 1]
    # The square at the end of the third chunk was left in the second, so the camera was hardly
    # away; the start was left in the first.
    assert results[-1].info["revisit_similarity"] == pytest.approx(1.0)
    assert [v.reward for v in results[2:]] == pytest.approx([0.0, 0.5])


def test_a_forgetful_world_is_caught_and_staying_is_no_revisit(begin, play):
    # The fake world shows noise of its own in every chunk.
    simulation, start = begin(Explore(bonus=0.5, away=2))
    _, results = play(simulation, start, [AHEAD, AHEAD, BACK, BACK])
    assert results[-1].info["revisits"] == 1
    assert results[-1].info["revisit_similarity"] < 0.5
    _, results = play(simulation, start, [np.zeros(5)] * 5)
    assert [(v.info["revisits"], v.reward) for v in results] == [(0, 0.0)] * 5
