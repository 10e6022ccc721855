"""What all tasks have in common: names, settings, states that survive a file, infos."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from env_values import same

from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.tasks import (
    TASKS,
    Explore,
    Follow,
    FreeRoam,
    ImageGoal,
    Inspect,
    PoseDistance,
    Shaped,
    ThumbnailGoal,
)

EVERY = [
    FreeRoam(),
    ImageGoal(success_distance_m=0.1),
    Follow(lost=100.0),
    Explore(),
    Explore(bonus=0.5, away=1),
    Inspect(),
    ThumbnailGoal(),
]


def named(task: Any) -> str:
    return f"{task.name}{'+bonus' if getattr(task, 'bonus', 0) else ''}"


def test_names_and_the_table_agree() -> None:
    names = ["free_roam", "image_goal", "image_goal_her", "follow", "explore", "inspect"]
    assert list(TASKS) == names
    for name, task in TASKS.items():
        assert task().name == name


@pytest.mark.parametrize("task", EVERY, ids=named)
def test_observations_fit_the_space_and_infos_keep_their_types(task: Any, world: Any) -> None:
    env = SanaWMEnv(world, task=task, max_episode_steps=3)
    env.action_space.seed(0)
    observation, info = env.reset(seed=0)
    kinds = {name: type(value) for name, value in info.items()}
    for name in task.info(env.simulation, env.snapshot().episode):
        assert kinds[name] in (bool, int, float), name
    for _ in range(3):
        assert env.observation_space.contains(observation)
        observation, reward, terminated, _, info = env.step(env.action_space.sample())
        assert np.isfinite(reward) and not terminated
        assert {name: type(value) for name, value in info.items()} == kinds
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize("task", EVERY, ids=named)
def test_a_state_continues_from_its_arrays(task: Any, world: Any) -> None:
    env = SanaWMEnv(world, task=task)
    simulation = env.simulation
    env.reset(seed=1)
    env.step(np.array([0.3, 0, 0.2, 0, 0.9], np.float32))
    before = env.snapshot().episode
    state = task.unpack({n: array.copy() for n, array in task.pack(before.task).items()})
    assert same(task.observe(state), task.observe(before.task))
    [after] = simulation.move([before], [simulation.decode(before, np.ones(5))])
    ours, theirs = (
        task.evaluate(simulation, replace(before, task=value), after)
        for value in (state, before.task)
    )
    assert ours[1] == theirs[1] and same(task.pack(ours[0]), task.pack(theirs[0]))


@pytest.mark.parametrize("task", EVERY[1:], ids=named)
def test_wrong_arrays_are_refused(task: Any, world: Any) -> None:
    env = SanaWMEnv(world, task=task)
    env.reset(seed=1)
    good = task.pack(env.snapshot().episode.task)
    first = next(iter(good))
    with pytest.raises(ValueError, match="unknown arrays"):
        task.unpack({**good, "more": np.zeros(1)})
    with pytest.raises(ValueError, match="has no array"):
        task.unpack({name: array for name, array in good.items() if name != first})
    other = next(name for name in reversed(good) if name != "picture")
    with pytest.raises(ValueError, match=f"{other}.*shape"):
        task.unpack({**good, other: good[other][None]})


@pytest.mark.parametrize("task", EVERY, ids=named)
def test_observed_arrays_are_new_every_time(task: Any, world: Any) -> None:
    env = SanaWMEnv(world, task=task)
    seen: Any = env.reset(seed=1)[0]
    state = env.snapshot().episode.task
    for name, array in task.observe(state).items():
        kept = array.copy()
        seen[name][...] = 0
        assert same(task.observe(state)[name], kept)


@pytest.mark.parametrize("task", EVERY, ids=named)
def test_a_state_depends_on_its_own_episode_and_generator(task: Any, world: Any) -> None:
    simulation = SanaWMEnv(world, task=task).simulation
    together = simulation.begin([None] * 3, [np.random.default_rng(seed) for seed in (4, 5, 6)])
    for episode, seed in zip(together, (4, 5, 6), strict=True):
        [alone] = simulation.begin([None], [np.random.default_rng(seed)])
        assert same(task.pack(episode.task), task.pack(alone.task))


@pytest.mark.parametrize("task", EVERY, ids=named)
def test_a_task_leaves_start_and_noise_of_a_seed_alone(task: Any, world: Any) -> None:
    bare, tasked = SanaWMEnv(world), SanaWMEnv(world, task=task)
    for env in (bare, tasked):
        env.reset(seed=3)
    one, two = (env.snapshot().episode.world for env in (bare, tasked))
    np.testing.assert_array_equal(one.image, two.image)
    assert one.seed == two.seed and two.chunk == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ImageGoal(max_episode_steps=0), "max_episode_steps is 0"),
        (lambda: ImageGoal(chunks=()), "chunks is empty"),
        (lambda: ImageGoal(chunks=(1, 0)), "chunks is 0"),
        (lambda: ImageGoal(forward=(0.9, 0.2)), r"forward is \(0.9, 0.2\)"),
        (lambda: ImageGoal(yaw=1.5), "yaw is 1.5"),
        (lambda: ImageGoal(success_distance_m=0.0), "success_distance_m is 0.0"),
        (lambda: ImageGoal(success_angle_deg=float("nan")), "success_angle_deg is nan"),
        (lambda: Shaped(bonus=-1.0), "bonus is -1.0"),
        (lambda: PoseDistance(0.0), "metres_per_radian is 0.0"),
        (lambda: Follow(lookahead=0), "lookahead is 0"),
        (lambda: Follow(persistence=1.1), "persistence is 1.1"),
        (lambda: Follow(scale=-1.0), "scale is -1.0"),
        (lambda: Explore(cell=0.0), "cell is 0.0"),
        (lambda: Explore(sectors=True), "sectors is True"),
        (lambda: Explore(bonus=float("inf")), "bonus is inf"),
        (lambda: Inspect(distance=(0.2, 1.0)), r"distance is \(0.2, 1.0\)"),
        (lambda: Inspect(arc=0.0), "arc is 0.0"),
        (lambda: ThumbnailGoal(threshold=0.0), "threshold is 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
