"""The batch: row i is the single environment of its seed, and Gymnasium's own loop agrees."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sana_wm_gym
from sana_wm_gym.camera import Controls
from sana_wm_gym.envs import Episode, SanaWMEnv, SanaWMVectorEnv, Simulation
from sana_wm_gym.envs.tasks.task import Verdict
from sana_wm_gym.world.catalogue import load_world

MODES = list(AutoresetMode)


@dataclass(frozen=True)
class Countdown:
    """A task with all that a task can have: ends after a number of steps drawn at the start."""

    horizon: int = 4
    name: str = "countdown"

    def spaces(self, simulation: Simulation) -> dict[str, spaces.Space[Any]]:
        return {"left": spaces.Box(-10, 10, (1,), np.float32)}

    def begin(
        self,
        simulation: Simulation,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[int]:
        return [int(rng.integers(1, 7)) for rng in rngs]

    def disturb(self, state: int, chunk: int, controls: Controls) -> Controls:
        return replace(controls, forward=controls.forward + 0.001 * state)

    def judge(self, simulation: Simulation, before: Episode, after: Episode) -> tuple[int, Verdict]:
        left = before.task - 1
        gone = float(np.linalg.norm(after.c2w[-1, :3, 3]))
        return left, Verdict(gone, left == 0, {"left": float(left), "is_success": left == 0})

    def observe(self, state: int) -> dict[str, npt.NDArray[Any]]:
        return {"left": np.array([state], np.float32)}

    def pack(self, state: int) -> dict[str, npt.NDArray[Any]]:
        return {"left": np.array(state)}

    def unpack(self, arrays: dict[str, npt.NDArray[Any]]) -> int:
        return int(arrays["left"])


class WholeInfo(gym.Wrapper[Any, Any, Any, Any]):
    """Repeats the one pose of a reset 24 times: Gymnasium's loop cannot mix array shapes."""

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        observation, info = self.env.reset(**kwargs)
        return observation, {**info, "c2w": np.repeat(info["c2w"], 24, axis=0)}


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit and type for type, through dicts, sequences and object arrays."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) and a.dtype == object:
        return b.dtype == object and a.shape == b.shape and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(type(a) is type(b) and a == b)


def at(batch: Any, row: int) -> Any:
    """One row of a batch of observations."""
    return (
        {name: part[row] for name, part in batch.items()} if isinstance(batch, dict) else batch[row]
    )


def conforms(mode: AutoresetMode, seed: int, rows: int, steps: int, **options: Any) -> None:
    """A batch gives what Gymnasium's loop over single environments gives."""
    batch = SanaWMVectorEnv(rows, autoreset_mode=mode, **options)
    loop = SyncVectorEnv(
        [lambda: WholeInfo(SanaWMEnv(**options)) for _ in range(rows)], autoreset_mode=mode
    )
    assert batch.metadata["autoreset_mode"] is mode is loop.metadata["autoreset_mode"]
    assert batch.observation_space == loop.observation_space
    assert batch.action_space == loop.action_space
    loop.action_space.seed(seed)
    observations, infos = batch.reset(seed=seed)
    expected, expected_infos = loop.reset(seed=seed)
    infos["c2w"] = np.repeat(infos["c2w"], 24, axis=1)
    assert same(observations, expected) and same(infos, expected_infos)
    for _ in range(steps):
        actions = loop.action_space.sample()
        result = batch.step(actions)
        assert same(result, loop.step(actions))
        over = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and over.any():
            observations, infos = batch.reset(options={"reset_mask": over})
            infos["c2w"] = np.repeat(infos["c2w"], 24, axis=1)
            assert same((observations, infos), loop.reset(options={"reset_mask": over}))


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
# The world of the tests keeps nothing but counts of its calls, so examples may share it.
@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    rows=st.integers(1, 4),
    task=st.sampled_from(["free_roam", Countdown()]),
    action_mode=st.sampled_from(["continuous", "discrete", "keys"]),
    parts=st.sampled_from([1, 3]),
    observation=st.sampled_from([("frame",), ("frames", "latent", "pose")]),
)
def test_a_batch_is_gymnasiums_loop_over_single_environments(
    world: Any,
    mode: AutoresetMode,
    seed: int,
    rows: int,
    task: Any,
    action_mode: str,
    parts: int,
    observation: tuple[str, ...],
) -> None:
    conforms(
        mode, seed, rows, 6, world=world, task=task, observation=observation, horizon=3,
        action_mode=action_mode, actions_per_chunk=parts,
    )  # fmt: skip


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_so_it_is_in_the_procedural_world(mode: AutoresetMode) -> None:
    conforms(mode, 3, 2, 3, world="procedural", task=Countdown(), horizon=2)


STATED_LATENT, STATED_PIXEL = 1e-3, 1
"""How far a row of the learned world may be from the single environment; see docs/vector_env.md."""


def test_rows_of_the_learned_world_are_single_environments_but_for_rounding() -> None:
    options: dict[str, Any] = {"world": "tiny", "observation": ("frame", "latent")}
    batch = SanaWMVectorEnv(3, horizon=[1, 9, 9], **options)
    single = SanaWMEnv(**options)
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1, 1, (4, 3, 5)).astype(np.float32)
    seen = [batch.reset(seed=5)[0]] + [batch.step(chunk)[0] for chunk in actions]
    # Row 0 is reset every second step, so the rows soon stand at different chunks.
    for row, chunks in ((1, 4), (2, 4), (0, 1)):
        expected = [single.reset(seed=5 + row)[0]]
        expected += [single.step(actions[chunk, row])[0] for chunk in range(chunks)]
        for batched, alone in zip(seen, expected, strict=False):
            here = at(batched, row)
            assert np.abs(here["latent"] - alone["latent"]).max() <= STATED_LATENT
            assert np.abs(here["frame"].astype(int) - alone["frame"]).max() <= STATED_PIXEL


def test_every_row_has_its_own_horizon(world: Any) -> None:
    batch = SanaWMVectorEnv(3, world, horizon=[1, 2, 3], autoreset_mode="Disabled")
    batch.reset(seed=0)
    assert batch.step(np.zeros((3, 5)))[3].tolist() == [True, False, False]
    with pytest.raises(ResetNeeded, match="row 0 was truncated at its horizon of 1 chunks"):
        batch.step(np.zeros((3, 5)))
    assert SanaWMVectorEnv(2, world, horizon=7, max_episode_steps=5).horizons == (5, 5)
    for horizon, message in (([1, 2], "2 horizons"), ([1, 0, 2], "horizon is 0"), (0, "is 0")):
        with pytest.raises(ValueError, match=message):
            SanaWMVectorEnv(3, world, horizon=horizon)


def test_a_batch_is_one_call_of_the_world(world: Any) -> None:
    batch = SanaWMVectorEnv(5, world, horizon=[1, 2, 3, 4, 5])
    batch.reset(seed=0)
    for step in range(4):
        batch.step(np.zeros((5, 5)))
        assert world.calls["advance"] == step + 1


def state_of(batch: SanaWMVectorEnv, row: int) -> tuple[Any, Any]:
    snapshot = batch.snapshot(row)
    return snapshot.episode, dict(snapshot.rng)


def test_a_masked_reset_touches_only_its_rows(world: Any) -> None:
    batch = SanaWMVectorEnv(4, world, task=Countdown())
    batch.reset(seed=0)
    observations = batch.step(np.ones((4, 5)))[0]
    before = [state_of(batch, row) for row in range(4)]
    mask = np.array([False, True, False, True])
    again, infos = batch.reset(seed=[1, 2, 3, 4], options={"reset_mask": mask, "scene": 4})
    for row in (0, 2):
        episode, rng = state_of(batch, row)
        assert episode is before[row][0] and rng == before[row][1]
        assert same(at(again, row), at(observations, row))
    assert infos["_c2w"].tolist() == mask.tolist()
    single = SanaWMEnv(world, task=Countdown())
    assert same(at(again, 3), single.reset(seed=4, options={"scene": 4})[0])


@pytest.mark.parametrize(
    "mask", [np.array([1, 0]), np.array([True]), np.array([False, False]), "all"]
)
def test_bad_masks(world: Any, mask: Any) -> None:
    batch = SanaWMVectorEnv(2, world)
    batch.reset(seed=0)
    before = [state_of(batch, row) for row in range(2)]
    with pytest.raises(ValueError, match=r"reset_mask is .*, expected bool \(2,\)"):
        batch.reset(options={"reset_mask": mask})
    assert [state_of(batch, row) for row in range(2)] == before


def test_out_of_order(world: Any) -> None:
    batch = SanaWMVectorEnv(2, world, render_mode="rgb_array")
    for call in (lambda: batch.step(np.zeros((2, 5))), batch.render, lambda: batch.snapshot(0)):
        with pytest.raises(ResetNeeded, match="expected reset"):
            call()
    with pytest.raises(ResetNeeded, match="reset of all rows first"):
        batch.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="3 seeds, expected one for each of 2"):
        batch.reset(seed=[1, 2, 3])
    batch.reset(seed=[7, None])
    assert batch.np_random_seed[0] == 7
    with pytest.raises(ValueError, match="given row 2, expected one of 0 to 1"):
        batch.snapshot(2)
    batch.close()
    batch.close()
    with pytest.raises(ClosedEnvironmentError):
        batch.reset()


def changed(actions: npt.NDArray[Any], value: Any) -> npt.NDArray[Any]:
    actions = actions.copy()
    actions[1, 0] = value
    return actions


ZEROS = np.zeros((3, 5))


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (np.zeros((2, 5)), r"shape \(2, 5\), expected \(3, 5\): one action for each of 3 rows"),
        (np.zeros(5), r"shape \(5,\), expected \(3, 5\)"),
        (changed(ZEROS, np.nan), "row 1: action yaw is nan"),
        (changed(ZEROS, 2.0), "row 1: action yaw is 2.0"),
        ("forward", "expected"),
    ],
)
def test_a_bad_batch_changes_nothing(world: Any, actions: Any, message: str) -> None:
    batch = SanaWMVectorEnv(3, world, task=Countdown())
    batch.reset(seed=0)
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
        SanaWMVectorEnv(3, world, horizon=[2, 3, 4], autoreset_mode=mode) for _ in range(2)
    )
    for each in (batch, twin):
        each.reset(seed=0)
        each.step(ZEROS)

    def fail(*_: Any) -> Any:
        raise RuntimeError("the world broke down")

    for _ in range(3):
        # The last thing a step asks for, when generators have drawn for the rows that are reset.
        with monkeypatch.context() as broken:
            broken.setattr(world, "decode", fail)
            with pytest.raises(RuntimeError, match="broke down"):
                batch.step(ZEROS)
        assert same(batch.step(ZEROS), twin.step(ZEROS))


def test_actions_of_a_row_that_is_only_reset_do_not_matter(world: Any) -> None:
    batch, twin = (SanaWMVectorEnv(3, world, horizon=[2, 1, 2]) for _ in range(2))
    for each in (batch, twin):
        each.reset(seed=0)
        each.step(ZEROS)
    assert same(batch.step(ZEROS), twin.step(changed(ZEROS, np.nan)))


def test_branches_cost_nothing_and_differ_by_their_actions(world: Any) -> None:
    batch = SanaWMVectorEnv(4, world, task=Countdown(horizon=9))
    batch.reset(seed=0)
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
    options: dict[str, Any] = {"world": world, "task": Countdown(horizon=9)}
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
    batch = SanaWMVectorEnv(3, world, render_mode="rgb_array_list")
    batch.reset(seed=0)
    observations = batch.step(ZEROS)[0]
    shown = batch.render()
    assert shown is not None and [len(frames) for frames in shown] == [24] * 3
    assert same(np.stack([frames[-1] for frames in shown]), observations)
    assert world.calls["decode"] == 3 and world.calls["decoded"] == 9
    shown[0][-1][...] = 0
    assert same(batch.render()[0][-1], observations[0])
    unseen = SanaWMVectorEnv(3, world, observation=("pose",))
    unseen.reset(seed=0)
    unseen.step(ZEROS)
    assert world.calls["decode"] == 3


@pytest.mark.parametrize("name", sana_wm_gym.ENV_IDS)
def test_make_vec(name: str) -> None:
    made = gym.make_vec(name, num_envs=2, world="procedural", max_episode_steps=3)
    assert isinstance(made, SanaWMVectorEnv)
    assert made.horizons == (3, 3) and made.task.name == sana_wm_gym.ENV_IDS[name]
    observations, _ = made.reset(seed=0)
    assert observations in made.observation_space
    observations, rewards, *ends, _ = made.step(made.action_space.sample())
    assert observations in made.observation_space
    assert rewards.dtype == np.float64 and [end.dtype for end in ends] == [np.bool_] * 2


def test_gymnasiums_vector_wrappers_fit(world: Any) -> None:
    batch = SanaWMVectorEnv(2, world, task=Countdown(horizon=2), autoreset_mode="SameStep")
    envs = gym.wrappers.vector.RecordEpisodeStatistics(batch)
    envs.reset(seed=0)
    envs.step(ZEROS[:2])
    assert envs.step(ZEROS[:2])[4]["episode"]["l"].max() == 2


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


def test_bad_numbers_of_rows(world: Any) -> None:
    for number in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="num_envs is"):
            SanaWMVectorEnv(number, world)
