"""Prompts of episodes: whose they are, what they change, where they can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from env_values import started
from gymnasium.error import ResetNeeded

import sana_wm_gym
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene, with_appearance
from sana_wm_gym.world.world_model import Start

WORLD = ProceduralWorld(scenes=(COURTYARD,), name="twin")
SURFACES = WORLD.spec.surfaces
ACTION = np.array([0.5, 0.0, 0.0, 0.0, 1.0])


def made(**options: Any) -> SanaWMEnv:
    env = gym.make(sana_wm_gym.ENV_ID, world=WORLD, observation=("frames",), **options).unwrapped
    assert isinstance(env, SanaWMEnv)
    return env


def start_of(env: SanaWMEnv) -> Start:
    start = env.snapshot().episode.world.start
    assert isinstance(start, Start)
    return start


def test_an_episode_has_its_own_prompt() -> None:
    env = made()
    with pytest.raises(ResetNeeded):
        _ = env.prompt
    prompts = []
    for seed in range(4):
        _, info = env.reset(seed=seed)
        assert env.prompt == prompt_of(SURFACES, start_of(env).appearance)
        assert not {"prompt", "appearance", "scene"} & info.keys()
        prompts.append(env.prompt)
    assert len(set(prompts)) > 1
    env.step(ACTION)
    assert env.prompt == prompts[-1]


def test_a_named_variant_is_shown_and_the_rest_stays() -> None:
    plain, named = made(), made(prompt="white gate, Yellow door")
    for seed in range(3):
        plain.reset(seed=seed)
        named.reset(seed=seed)
        drawn, shown = start_of(plain), start_of(named)
        names = [surface.name for surface in SURFACES]
        gate, door = names.index("gate"), names.index("door")
        expected = list(drawn.appearance)
        expected[gate] = SURFACES[gate].variants.index("white")
        expected[door] = SURFACES[door].variants.index("yellow")
        assert shown.appearance == tuple(expected)
        np.testing.assert_array_equal(shown.scene_c2w, drawn.scene_c2w)
        assert named.prompt == "white gate, Yellow door"
        observation, *_, info = named.step(ACTION)
        assert shown.scene_c2w is not None
        scene = with_appearance(generate_scene(COURTYARD), shown.appearance)
        np.testing.assert_array_equal(observation, render(scene, shown.scene_c2w @ info["c2w"]))


def test_an_empty_prompt_changes_no_picture() -> None:
    own, empty = made(), made(prompt="")
    first, _ = own.reset(seed=2)
    second, _ = empty.reset(seed=2)
    np.testing.assert_array_equal(first, second)
    assert empty.prompt == "" != own.prompt
    # Options go before what the environment was made with.
    empty.reset(seed=2, options={"prompt": None})
    assert empty.prompt == own.prompt


def test_an_unknown_word_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(ValueError, match=r"unknown phrase 'a hall'.*blue door, yellow door"):
        made(prompt="a hall")
    env = started(made())
    before, state = env.snapshot().episode, env.np_random.bit_generator.state
    start = start_of(env)
    for options in (
        {"prompt": "green door"},
        {"image": start.image, "prompt": "green door"},
        {"start": Start(start.image, start.intrinsics, "green door")},
    ):
        with pytest.raises(ValueError, match="unknown phrase 'green door'"):
            env.reset(options=options)
    assert env.snapshot().episode is before and env.np_random.bit_generator.state == state


def test_an_image_without_a_prompt_has_an_empty_one() -> None:
    env = started(made())
    start = start_of(env)
    options = {"image": start.image, "scene": COURTYARD, "scene_c2w": start.scene_c2w}
    for more, expected in (({}, ""), ({"prompt": "red gate"}, "red gate")):
        env.reset(options=options | more)
        assert env.prompt == expected


def test_a_snapshot_keeps_the_prompt_and_the_appearance(tmp_path: Path) -> None:
    env = made(prompt="white gate")
    env.reset(seed=1)
    env.step(ACTION)
    env.snapshot().save(tmp_path / "here.safetensors", env.world)
    other = made()
    other.restore(Snapshot.load(tmp_path / "here.safetensors", other.world))
    assert other.prompt == "white gate"
    assert env.branch(1)[0].prompt == "white gate"
    np.testing.assert_array_equal(env.step(ACTION)[0], other.step(ACTION)[0])


def test_sub_environments_have_prompts_of_their_own() -> None:
    envs, single, expected = SanaWMVectorEnv(3, WORLD), made(), []
    with pytest.raises(ResetNeeded):
        _ = envs.prompts
    _, infos = envs.reset(seed=5)
    for seed in (5, 6, 7):
        single.reset(seed=seed)
        expected.append(single.prompt)
    assert envs.prompts == expected and "prompt" not in infos
    envs.reset(seed=5, options={"prompt": "pink tower"})
    assert envs.prompts == ["pink tower"] * 3


def test_a_prompt_changes_within_a_rollout() -> None:
    env = made()
    with pytest.raises(ResetNeeded):
        env.set_prompt("red door")
    env.reset(seed=3)
    env.step(ACTION)
    before = env.snapshot()
    surface = SURFACES[0]
    worlds = []
    for variant in range(2):
        env.restore(before)
        env.set_prompt(surface.phrase(variant))
        assert env.prompt == surface.phrase(variant)
        worlds.append(env.step(ACTION)[0])
    assert not np.array_equal(*worlds)
    with pytest.raises(ValueError, match="green door"):
        env.set_prompt("green door")
    assert env.prompt == surface.phrase(1)


def test_a_batched_rollout_changes_its_prompt_through_a_single_environment() -> None:
    batch, single = SanaWMVectorEnv(2, world=WORLD), made()
    batch.reset(seed=3)
    single.restore(batch.snapshot(1))
    single.set_prompt(SURFACES[0].phrase(1))
    batch.restore(1, single.snapshot())
    assert batch.prompts[1] == SURFACES[0].phrase(1) != batch.prompts[0]
