"""The batch: row i is the single environment of its seed, and Gymnasium's own loop agrees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from env_values import Countdown, at, same, started, state_of
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.tasks import TASKS
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

MODES = list(AutoresetMode)
SMALL = ProceduralWorld(size=(36, 36))


def conforms(mode: AutoresetMode, seed: int, rows: int, steps: int, **options: Any) -> None:
    """A batch gives what Gymnasium's loop over single environments gives."""
    batch = SanaWMVectorEnv(rows, autoreset_mode=mode, **options)
    loop = SyncVectorEnv([lambda: SanaWMEnv(**options) for _ in range(rows)], autoreset_mode=mode)
    assert batch.metadata["autoreset_mode"] is mode is loop.metadata["autoreset_mode"]
    assert batch.observation_space == loop.observation_space
    assert batch.action_space == loop.action_space
    loop.action_space.seed(seed)
    observations, infos = batch.reset(seed=seed)
    expected, expected_infos = loop.reset(seed=seed)
    assert same(observations, expected) and same(infos, expected_infos)
    for _ in range(steps):
        actions = loop.action_space.sample()
        result = batch.step(actions)
        assert same(result, loop.step(actions))
        over = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and over.any():
            observations, infos = batch.reset(options={"reset_mask": over})
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
        mode, seed, rows, 6, world=world, task=task, observation=observation, max_episode_steps=3,
        action_mode=action_mode, actions_per_chunk=parts,
    )  # fmt: skip


@pytest.mark.parametrize("task", [Countdown(), *TASKS], ids=str)
@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_so_it_is_in_the_procedural_world(mode: AutoresetMode, task: Any) -> None:
    conforms(mode, 3, 2, 3, world=SMALL, task=task, max_episode_steps=2)


STATED_LATENT, STATED_PIXEL = 1e-3, 1
"""How far a row of the learned world may be from the single environment; see docs/vector_env.md."""


def test_rows_of_the_learned_world_are_single_environments_but_for_rounding() -> None:
    options: dict[str, Any] = {"world": "tiny", "observation": ("frame", "latent")}
    batch = SanaWMVectorEnv(3, max_episode_steps=[1, 9, 9], **options)
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


def test_every_sub_environment_has_its_own_limit(world: Any) -> None:
    batch = started(
        SanaWMVectorEnv(3, world, max_episode_steps=[1, 2, 3], autoreset_mode="Disabled")
    )
    assert batch.step(np.zeros((3, 5)))[3].tolist() == [True, False, False]
    with pytest.raises(ResetNeeded, match="sub-environment 0 was truncated after"):
        batch.step(np.zeros((3, 5)))
    for steps, message in (([1, 2], "given 2 max"), ([1, 0, 2], "steps is 0"), (0, "is 0")):
        with pytest.raises(ValueError, match=message):
            SanaWMVectorEnv(3, world, max_episode_steps=steps)


def test_a_batch_is_one_call_of_the_world(world: Any) -> None:
    batch = started(SanaWMVectorEnv(5, world, max_episode_steps=[1, 2, 3, 4, 5]))
    for step in range(4):
        batch.step(np.zeros((5, 5)))
        assert world.calls["advance"] == step + 1


def test_a_masked_reset_touches_only_its_rows(world: Any) -> None:
    batch = started(SanaWMVectorEnv(4, world, task=Countdown()))
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
    batch = started(SanaWMVectorEnv(2, world))
    before = [state_of(batch, row) for row in range(2)]
    with pytest.raises(ValueError, match=r"reset_mask is .*, expected bool \(2,\)"):
        batch.reset(options={"reset_mask": mask})
    assert [state_of(batch, row) for row in range(2)] == before


def test_bad_calls(world: Any) -> None:
    for number in (0, -1, 2.0, True):
        with pytest.raises(ValueError, match="num_envs is"):
            SanaWMVectorEnv(number, world)
    batch = SanaWMVectorEnv(2, world, render_mode="rgb_array")
    for call in (lambda: batch.step(np.zeros((2, 5))), batch.render, lambda: batch.snapshot(0)):
        with pytest.raises(ResetNeeded, match="expected reset"):
            call()
    with pytest.raises(ResetNeeded, match="reset of all first"):
        batch.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(ValueError, match="3 seeds, expected one for each of 2"):
        batch.reset(seed=[1, 2, 3])
    batch.reset(seed=[7, None])
    assert batch.np_random_seed[0] == 7
    with pytest.raises(ValueError, match=r"env_index is 2, expected an integer in \[0, 1\]"):
        batch.snapshot(2)
    batch.close()
    batch.close()
    with pytest.raises(ClosedEnvironmentError):
        batch.reset()
