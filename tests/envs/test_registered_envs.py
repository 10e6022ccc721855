"""What Gymnasium expects of a registered environment: step limits, keys for `play`, one thread."""

from __future__ import annotations

import threading
from itertools import count
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_values import same, started

import sana_wm_gym
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.sana_wm_env import simulation_in
from sana_wm_gym.envs.tasks import TASKS


def ends(env: Any) -> list[int]:
    """Numbers of steps of two episodes, until truncation."""
    found = []
    env.reset(seed=0)
    for _ in range(2):
        for step in count(1):
            *_, truncated, _ = env.step(np.zeros(env.action_space.shape, np.float32))
            if np.all(truncated):
                found.append(step)
                break
        env.reset(seed=0)
    return found


@pytest.mark.parametrize(("name", "task"), sana_wm_gym.ENV_IDS.items())
def test_the_registered_limit_is_the_tasks(name: str, task: str) -> None:
    assert gym.spec(name).max_episode_steps == TASKS[task]().max_episode_steps


@pytest.mark.parametrize("given", [None, 3, 11])
def test_episodes_are_truncated_once_after_max_episode_steps(world: Any, given: int | None) -> None:
    options: dict[str, Any] = {} if given is None else {"max_episode_steps": given}
    name = "SanaWM/Inspect-v0"
    steps = given or 24
    made = gym.make(name, world=world, **options)
    assert made.spec is not None and made.spec.max_episode_steps == steps
    environments = [
        made,
        gym.make(made.spec),
        SanaWMEnv(world, task="inspect", **options),
        gym.make_vec(name, 2, world=world, autoreset_mode="Disabled", **options),
        gym.make_vec(
            name, 2, "sync", {"autoreset_mode": gym.vector.AutoresetMode.DISABLED}, world=world,
            **options,
        ),
    ]  # fmt: skip
    for env in environments:
        assert ends(env) == [steps] * 2
    assert gym.wrappers.TimeAwareObservation(made).max_timesteps == steps
    assert simulation_in(made).max_episode_steps == steps


def test_a_restored_episode_and_a_branch_are_truncated_at_their_own_chunk(world: Any) -> None:
    env = started(SanaWMEnv(world, max_episode_steps=3))
    env.step(np.zeros(5))
    here = env.snapshot()
    env.step(np.zeros(5))
    made: Any = gym.make("SanaWM/World-v0", world=world).unwrapped
    made.restore(here)
    [branch] = made.branch(1)
    assert (env.max_episode_steps, made.max_episode_steps, branch.max_episode_steps) == (
        3,
        None,
        40,
    )
    for _ in range(2):
        env.restore(here)
        assert [env.step(np.zeros(5))[3] for _ in range(2)] == [False, True]


@pytest.mark.parametrize(("mode", "combinations"), [("discrete", 12), ("keys", 255)])
@pytest.mark.parametrize("parts", [1, 3])
def test_pressed_keys_are_actions(world: Any, mode: str, combinations: int, parts: int) -> None:
    env = gym.make("SanaWM/World-v0", world=world, action_mode=mode, actions_per_chunk=parts)
    assert env.has_wrapper_attr("get_keys_to_action")
    actions = env.get_wrapper_attr("get_keys_to_action")()
    assert len(actions) == combinations
    for letters, action in actions.items():
        assert letters and action in env.action_space
    pressed = SanaWMEnv(world)
    for letters in (("w",), ("w", "d"), ("i",)):
        env.reset(seed=0)
        pressed.reset(seed=0)
        expected = pressed.step_string("".join(letters) + "-24")
        assert same(env.step(actions[letters]), expected)


def test_other_actions_are_no_keys(world: Any) -> None:
    for mode in ("continuous", "planar"):
        env = gym.make("SanaWM/World-v0", world=world, action_mode=mode)
        assert not env.has_wrapper_attr("get_keys_to_action")


@pytest.mark.parametrize("kind", ["single", "batch"])
def test_a_second_thread_is_refused_and_the_episode_unchanged(
    world: Any, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make() -> Any:
        return SanaWMEnv(world) if kind == "single" else SanaWMVectorEnv(2, world)

    env, twin = make(), make()
    action = np.ones(env.action_space.shape, np.float32)
    env.reset(seed=0)
    twin.reset(seed=0)
    inside, leave, results = threading.Event(), threading.Event(), []
    advance = world.advance

    def slow(*args: Any) -> Any:
        inside.set()
        assert leave.wait(30)
        return advance(*args)

    with monkeypatch.context() as patched:
        patched.setattr(world, "advance", slow)
        first = threading.Thread(target=lambda: results.append(env.step(action)))
        first.start()
        assert inside.wait(30)
        for call in (lambda: env.step(action), lambda: env.reset(seed=1)):
            with pytest.raises(RuntimeError, match="in use by another thread"):
                call()
        leave.set()
        first.join()
    results.append(env.step(action))
    for found in results:
        expected = twin.step(action)
        assert np.array_equal(found[0], expected[0])
        assert np.array_equal(found[4]["chunk_index"], expected[4]["chunk_index"])
