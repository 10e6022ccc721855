"""The batched environment's calls: refusals, branches, snapshots, wrappers, forks."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from env_values import Countdown, at, same, started, state_of

import sana_wm_gym
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.world.catalogue import load_world


def changed(actions: npt.NDArray[Any], value: Any) -> npt.NDArray[Any]:
    actions = actions.copy()
    actions[1, 0] = value
    return actions


ZEROS = np.zeros((3, 5))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (
            np.zeros((2, 5)),
            r"shape \(2, 5\), expected \(3, 5\): one action for each of 3 sub-env",
        ),
        (np.zeros(5), r"shape \(5,\), expected \(3, 5\)"),
        (changed(ZEROS, np.nan), "sub-environment 1: action yaw is nan"),
        (changed(ZEROS, 2.0), "sub-environment 1: action yaw is 2.0"),
        ("forward", "expected"),
    ],
)
def test_a_bad_batch_changes_nothing(world: Any, actions: Any, message: str) -> None:
    batch = started(SanaWMVectorEnv(3, world, task=Countdown()))
    batch.step(ZEROS)
    before = [state_of(batch, row) for row in range(3)]
    with pytest.raises(ValueError, match=message):
        batch.step(actions)
    assert all(state_of(batch, row)[0] is before[row][0] for row in range(3))
    assert [state_of(batch, row) for row in range(3)] == before


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_world_that_fails_changes_nothing(
    world: Any, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, twin = (
        SanaWMVectorEnv(3, world, max_episode_steps=[2, 3, 4], autoreset_mode=mode)
        for _ in range(2)
    )
    for each in (batch, twin):
        each.reset(seed=0)
        each.step(ZEROS)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the world broke down")

    for _ in range(3):
        # The last thing a step requests, when generators have drawn for the rows that are reset.
        with monkeypatch.context() as broken:
            broken.setattr(world, "decode", fail)
            with pytest.raises(RuntimeError, match="broke down"):
                batch.step(ZEROS)
        assert same(batch.step(ZEROS), twin.step(ZEROS))


def test_actions_of_a_row_that_is_only_reset_do_not_matter(world: Any) -> None:
    batch, twin = (SanaWMVectorEnv(3, world, max_episode_steps=[2, 1, 2]) for _ in range(2))
    for each in (batch, twin):
        each.reset(seed=0)
        each.step(ZEROS)
    assert same(batch.step(ZEROS), twin.step(changed(ZEROS, np.nan)))


def test_branches_cost_nothing_and_differ_by_their_actions(world: Any) -> None:
    batch = started(SanaWMVectorEnv(4, world, task=Countdown(max_episode_steps=9)))
    observations = batch.step(np.ones((4, 5)))[0]
    calls = copy.copy(world.calls)
    observation, info = batch.branch(0, [1, 2])
    assert world.calls == calls
    assert same(observation, at(observations, 0)) and info["chunk_index"] == 1
    actions = np.ones((4, 5))
    actions[2] = -1
    after, *_ = batch.step(actions)
    assert same(at(after, 0), at(after, 1))
    assert not same(at(after, 0), at(after, 2))
    # Later resets do not draw from a common generator.
    fresh = batch.reset(options={"reset_mask": np.array([True, False, False, False])})[0]
    second = batch.reset(options={"reset_mask": np.array([False, True, False, False])})[0]
    assert same(at(fresh, 0), at(second, 1))


def test_rows_and_single_environments_exchange_snapshots(world: Any) -> None:
    options: dict[str, Any] = {"world": world, "task": Countdown(max_episode_steps=9)}
    batch, single = SanaWMVectorEnv(2, **options), SanaWMEnv(**options)
    batch.reset(seed=0)
    batch.step(np.ones((2, 5)))
    single.restore(batch.snapshot(1))
    actions = np.full((2, 5), 0.5)
    after = batch.step(actions)
    alone = single.step(actions[1])
    assert same(at(after[0], 1), alone[0]) and after[1][1] == alone[1]
    batch.restore(0, single.snapshot())
    after = batch.step(actions)
    assert same(at(after[0], 0), at(after[0], 1))
    with pytest.raises(ValueError, match="made in .*'countdown'.*, expected .*'free_roam'"):
        SanaWMEnv(world).restore(batch.snapshot(0))


def test_chunks_are_decoded_once_and_together(world: Any) -> None:
    batch = started(SanaWMVectorEnv(3, world, render_mode="rgb_array_list"))
    observations = batch.step(ZEROS)[0]
    shown = batch.render()
    assert shown is not None and [len(frames) for frames in shown] == [24] * 3
    assert same(np.stack([frames[-1] for frames in shown]), observations)
    assert world.calls["decode"] == 3 and world.calls["decoded"] == 9
    shown[0][-1][...] = 0
    assert same(batch.render()[0][-1], observations[0])
    unseen = started(SanaWMVectorEnv(3, world, observation=("pose",)))
    unseen.step(ZEROS)
    assert world.calls["decode"] == 3


@pytest.mark.parametrize("name", sana_wm_gym.ENV_IDS)
def test_make_vec(name: str) -> None:
    made = gym.make_vec(name, num_envs=2, world="procedural", max_episode_steps=3)
    assert isinstance(made, SanaWMVectorEnv)
    assert made.max_episode_steps == (3, 3) and made.task.name == sana_wm_gym.ENV_IDS[name]
    observations, _ = made.reset(seed=0)
    assert observations in made.observation_space
    observations, rewards, *ends, _ = made.step(made.action_space.sample())
    assert observations in made.observation_space
    assert rewards.dtype == np.float64 and [end.dtype for end in ends] == [np.bool_] * 2


@pytest.mark.parametrize("as_torch", [False, True])
def test_gymnasiums_vector_wrappers_fit(world: Any, as_torch: bool) -> None:
    batch = SanaWMVectorEnv(
        2, world, max_episode_steps=2, autoreset_mode="SameStep", as_torch=as_torch
    )
    envs = gym.wrappers.vector.RecordEpisodeStatistics(batch)
    envs.reset(seed=0)
    envs.step(ZEROS[:2])
    assert envs.step(ZEROS[:2])[4]["episode"]["l"].tolist() == [2, 2]


def begin_in_child(pipe: Connection) -> None:
    world = load_world("tiny")
    try:
        world.begin(world.sample_start(np.random.default_rng(0)), 0)
        pipe.send("begun")
    except RuntimeError as error:
        pipe.send(str(error))


def test_a_forked_copy_of_a_network_is_refused() -> None:
    world = load_world("tiny")
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=begin_in_child, args=(there,))
    child.start()
    assert here.poll(30)
    message = here.recv()
    child.join()
    assert "forked copy of the one that loaded world 'tiny'" in message
    assert "SanaWMVectorEnv" in message and "spawn" in message
    # Pickling makes another world; only a fork pretends to be the same one.
    other = pickle.loads(pickle.dumps(world))
    other = replace(other, _process=-1)
    other.__setstate__(other.__dict__)
    other.begin(world.sample_start(np.random.default_rng(0)), 0)
