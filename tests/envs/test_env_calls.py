"""The environment's calls: order, what is decoded and returned, tasks, failures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from env_values import EVERYTHING, same, started
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from stepping import frames_of, latents_of

from sana_wm_gym.camera import Controls, parse_action_string, rollout_action_string
from sana_wm_gym.camera.keys import (
    SANA_WM_2026_06,
)
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.tasks import StepResult, Task


def test_calls_out_of_order(world: Any) -> None:
    env = SanaWMEnv(world, max_episode_steps=2, render_mode="rgb_array")
    for call in (lambda: env.step(np.zeros(5)), env.render, env.snapshot):
        with pytest.raises(ResetNeeded, match="expected reset"):
            call()
    env.reset(seed=0)
    assert env.step(np.zeros(5))[3] is False
    assert env.step(np.zeros(5))[3] is True
    with pytest.raises(ResetNeeded, match="truncated after max_episode_steps = 2"):
        env.step(np.zeros(5))
    env.reset()
    env.close()
    env.close()
    for call in (lambda: env.step(np.zeros(5)), env.reset, env.render):
        with pytest.raises(ClosedEnvironmentError):
            call()


@pytest.mark.parametrize(
    ("observation", "latents"), [(("pose",), 0), (("latent",), 1), (("latent", "pose"), 1)]
)
def test_nothing_is_decoded_that_nobody_asked_for(
    world: Any, observation: tuple[str, ...], latents: int
) -> None:
    env = started(SanaWMEnv(world, observation=observation))
    env.step(np.zeros(5))
    assert world.calls["decoded"] == 0
    assert world.calls["latents"] == 2 * latents


def test_a_chunk_is_decoded_once(world: Any) -> None:
    env = started(SanaWMEnv(world, observation=("frame", "frames"), render_mode="rgb_array_list"))
    env.render()
    env.step(np.zeros(5))
    assert same(env.render(), env.render())
    assert world.calls["decoded"] == 2


def test_observations_show_the_chunk(world: Any) -> None:
    env = SanaWMEnv(world, observation=EVERYTHING, render_mode="rgb_array_list")
    observation, _ = env.reset(seed=0)
    assert (observation["frames"] == observation["frame"]).all()
    observation, *_, info = env.step(np.ones(5))
    state = env.snapshot().episode.world
    assert np.array_equal(observation["frames"], frames_of(world, state))
    assert np.array_equal(observation["frame"], frames_of(world, state)[-1])
    assert np.array_equal(observation["latent"], latents_of(world, state)[-1].ravel())
    assert np.array_equal(observation["pose"], info["c2w"][-1, :3].ravel().astype(np.float32))
    assert np.array_equal(np.stack(env.render()), observation["frames"])


def test_frames_are_resized_by_area(world: Any) -> None:
    env = SanaWMEnv(world, observation=("frame", "frames"), observation_size=(20, 24))
    observation, _ = env.reset(seed=0)
    assert observation in env.observation_space
    blocks = observation["frames"][0].reshape(20, 2, 24, 2, 3).mean(axis=(1, 3))
    assert np.abs(observation["frame"] - blocks).max() <= 0.5


def test_returned_arrays_are_the_callers_own(world: Any) -> None:
    env = SanaWMEnv(world, observation=EVERYTHING, render_mode="rgb_array_list")
    twin = SanaWMEnv(world, observation=EVERYTHING)
    assert same(env.reset(seed=0), twin.reset(seed=0))
    for _ in range(2):
        observation, *_, info = env.step(np.ones(5))
        assert same(observation, twin.step(np.ones(5))[0])
        frames = env.render()
        before = [frame.copy() for frame in frames]
        for array in (*observation.values(), info["c2w"], info["intrinsics"]):
            array[...] = 0
        assert same(frames, before)
        frames[-1][...] = 0
        assert same(env.render(), before)


def test_render_modes(world: Any) -> None:
    last = SanaWMEnv(world, render_mode="rgb_array")
    every = SanaWMEnv(world, render_mode="rgb_array_list")
    # Gymnasium takes integers alone; one frame per chunk of 1.5 s is less than one per second.
    for env, fps in ((last, 1), (every, 16)):
        env.reset(seed=0)
        env.step(np.zeros(5))
        assert type(env.metadata["render_fps"]) is int and env.metadata["render_fps"] == fps
    assert np.array_equal(last.render(), every.render()[-1])
    assert len(every.render()) == 24
    silent = started(SanaWMEnv(world))
    with pytest.warns(UserWarning, match="needs render_mode"):
        assert silent.render() is None


def test_a_long_string_in_chunks_is_the_string_in_one(world: Any) -> None:
    text = "w-40,aw-30,none-20,jw-30"
    held = parse_action_string(text, SANA_WM_2026_06)
    letter = {name: key for key, name in SANA_WM_2026_06.bindings.items()}
    env = started(SanaWMEnv(world))
    poses = [np.eye(4)[None]]
    for chunk in range(0, 120, 24):
        parts = ["".join(letter[n] for n in keys) + "-1" for keys in held[chunk : chunk + 24]]
        poses.append(env.step_string(",".join(parts))[4]["c2w"])
    assert np.array_equal(np.concatenate(poses), rollout_action_string(text, SANA_WM_2026_06))


class Dive(Task):
    """Ends when the camera is deep enough; reports how deep it is."""

    name, max_episode_steps = "dive", 7

    def spaces(self, setting: Any) -> Any:
        return {"deep": spaces.Box(-9, 9, (1,), np.float32)}

    def begin(self, setting: Any, episodes: Any, rngs: Any) -> Any:
        return [0.0 for _ in episodes]

    def disturb(self, state: float, chunk: int, controls: Controls) -> Controls:
        return replace(controls, down=controls.down + 0.001 * chunk)

    def evaluate(self, setting: Any, before: Any, after: Any) -> Any:
        deep = float(after.c2w[-1, 1, 3])
        return deep, StepResult(deep - before.task, deep > 0.5)

    def info(self, setting: Any, episode: Any) -> Any:
        return {"deep": episode.task}

    def observe(self, state: float) -> Any:
        return {"deep": np.array([state], np.float32)}


def test_a_task_disturbs_evaluates_and_ends(world: Any) -> None:
    env = SanaWMEnv(world, task=Dive())
    assert (
        env.max_episode_steps == 7
        and SanaWMEnv(world, task=Dive(), max_episode_steps=3).max_episode_steps == 3
    )
    observation, info = env.reset(seed=0)
    assert observation["frame"].shape == (40, 48, 3) and observation["deep"] == 0
    assert info["deep"] == 0
    down, total = np.array([0, 0, 0, 0.5, 0]), 0.0
    for chunk in range(2):
        observation, reward, terminated, truncated, info = env.step(down)
        total += reward
        # Half of 0.025 m per frame, and 0.001 m more from the second chunk on.
        assert info["deep"] == pytest.approx(24 * 0.0125 * (chunk + 1) + 0.024 * chunk)
        assert total == pytest.approx(info["deep"]) == observation["deep"][0]
    assert terminated is True and truncated is False and info["chunk_index"] == 2
    with pytest.raises(ResetNeeded, match="ended by its task at chunk 2"):
        env.step(down)
    env.reset()
    env.step(down)


def test_imagining_disturbs_nobody(world: Any) -> None:
    env, twin = SanaWMEnv(world, task=Dive()), SanaWMEnv(world, task=Dive())
    for each in (env, twin):
        each.reset(seed=0)
    here, simulation = env.snapshot().episode, env.simulation
    motion = simulation.decode(here, np.array([0, 0, 0, 1, 0]))
    after, results = simulation.play([here] * 3, [motion] * 3)
    [passed] = simulation.move([here], [motion])
    assert [result.terminated for result in results] == [after[0].over] * 3 == [True] * 3
    assert passed.task == 0.0 and not passed.over and passed.chunk == 1
    assert np.array_equal(passed.c2w, after[0].c2w)
    assert same(simulation.observe(after), [simulation.observe([after[0]])[0]] * 3)
    # Futures of one moment have pictures of their own.
    [other] = simulation.move([here], [Command(Controls.still(24))])
    pictures = simulation.frames([passed, other, here])
    assert all(
        np.array_equal(p, frames_of(world, e.world))
        for p, e in zip(pictures, [passed, other, here], strict=True)
    )
    assert same(env.step(np.zeros(5)), twin.step(np.zeros(5)))
    with pytest.raises(ValueError, match="given 3 episodes and 2 commands"):
        simulation.move([here] * 3, [motion] * 2)


def test_a_task_may_not_hide_what_is_seen(world: Any) -> None:
    class Hides(Dive):
        def spaces(self, setting: Any) -> Any:
            return {"frame": spaces.Box(-9, 9, (1,), np.float32)}

    with pytest.raises(ValueError, match=r"'dive' adds observation parts \['frame'\]"):
        SanaWMEnv(world, task=Hides())
