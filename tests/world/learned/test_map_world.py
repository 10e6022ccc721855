"""Worlds with a map: no clean pass, a localiser, prompts that name variants."""

from __future__ import annotations

import re
import warnings
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from camera_paths import ahead
from learned_worlds import FREQUENCIES, SPEC, SURFACES, localised, start, walk
from small_worlds import file_of
from stepping import advance, frames_of, latents_of

from sana_wm_gym.camera.se3 import invert, rotation_y
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.state import shapes
from sana_wm_gym.weights.world_file import read_world_file, write_world_file
from sana_wm_gym.world.learned.sampler import CleanPrediction
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.learned.world_files import load_tiny_bf16, world_of
from sana_wm_gym.world.world_model import Start


def camera(chunk: int = 0) -> CameraTrajectory:
    return ahead(replace(SPEC, width=16), chunk, 0.02, 0.005)


def square(seed: int = 0, prompt: str = "") -> Start:
    return start(seed, 16, prompt)


def same(world, a, b) -> bool:
    a, b = world.pack(a), world.pack(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


# The clean pass


def test_a_world_without_a_clean_pass(world):
    """Its first chunk is the same, its memory another, and each chunk costs one call less."""
    calls = []

    def counted(model):
        flow = CleanPrediction(model)

        def call(*given):
            calls.append(given)
            return flow(*given)

        return call

    quick = replace(world, clean_pass=False, flow=counted)
    begun = world.begin(start(), seed=1)
    expected, made = walk(world, begun, 1), walk(quick, begun, 1)
    assert len(calls) == world.schedule.steps == 2
    assert np.array_equal(latents_of(quick, made), latents_of(world, expected))
    assert shapes(made.generator) == shapes(expected.generator)
    after = latents_of(world, walk(world, expected, 1)), latents_of(quick, walk(quick, made, 1))
    assert np.abs(after[0] - after[1]).max() > 1e-4


# The anchor


def test_without_a_localiser_cameras_are_relative_to_the_first_frame(world):
    state = walk(world, world.begin(start(), seed=1), 1)
    assert np.array_equal(state.anchor, np.eye(4))
    assert state.anchor_confidence == world.anchor_confidence(state) == 1.0


def test_the_picture_alone_places_the_cameras(placed):
    state = placed.begin(square(), seed=1)
    found = placed.localiser(torch.from_numpy(square().image).movedim(-1, 0)[None])
    assert np.array_equal(state.anchor, found.c2w[0].numpy())
    assert placed.anchor_confidence(state) == float(found.confidence[0]) > 0.99
    assert np.abs(placed.begin(square(1), seed=1).anchor - state.anchor).max() > 1e-3
    elsewhere = np.eye(4)
    elsewhere[:3, 3] = 1, 0, 2
    base = walk(placed, state, 2)
    for change in (
        {"scene_c2w": elsewhere},
        {"scene": 3, "scene_c2w": elsewhere, "appearance": (1, 2)},
        {"intrinsics_from": "assumed"},
    ):
        other = walk(placed, placed.begin(replace(square(), **change), seed=1), 2)
        assert same(placed, other, base)
        assert frames_of(placed, other).tobytes() == frames_of(placed, base).tobytes()


def test_only_the_camera_in_the_map_counts(placed):
    """The anchor and the commanded poses matter by their product alone."""
    state = placed.begin(square(), seed=1)
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = rotation_y(0.7), (0.5, -0.1, 0.3)
    given = camera()
    [expected] = advance(placed, [state], [given])
    apart = replace(state, anchor=np.eye(4))
    [same_place] = advance(placed, [apart], [replace(given, c2w=state.anchor @ given.c2w)])
    assert np.array_equal(latents_of(placed, same_place), latents_of(placed, expected))
    moved = replace(state, anchor=state.anchor @ move)
    [again] = advance(placed, [moved], [replace(given, c2w=invert(move) @ given.c2w)])
    np.testing.assert_allclose(latents_of(placed, again), latents_of(placed, expected), atol=1e-3)
    [other] = advance(placed, [moved], [given])
    assert np.abs(latents_of(placed, other) - latents_of(placed, expected)).max() > 0.01


def test_a_snapshot_keeps_the_anchor(placed, tmp_path: Path):
    env = SanaWMEnv(placed, image=square(4).image, prompt="grey crates")
    _, info = env.reset(seed=0)
    env.step(np.ones(5))
    env.snapshot().save(tmp_path / "here", placed)
    expected = env.step(np.ones(5))
    read = Snapshot.load(tmp_path / "here", placed)
    other = SanaWMEnv(placed)
    _, restored = other.restore(read)
    result = other.step(np.ones(5))
    assert read.episode.world.anchor.tobytes() == env._episode.world.anchor.tobytes()
    assert np.array_equal(result[0], expected[0])
    for given in (restored, result[4], expected[4]):
        assert given["anchor_confidence"] == info["anchor_confidence"] < 1


def test_a_world_warns_once_of_a_picture_that_it_does_not_know(placed):
    foreign = localised(threshold=20.0)
    with pytest.warns(UserWarning, match=r"not look like a place .*'random'.*confidence 0\.00"):
        confidence = foreign.anchor_confidence(foreign.begin(square(), seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        foreign.begin(square(1), seed=0)
        placed_confidence = placed.anchor_confidence(placed.begin(square(), seed=0))
        # Its own renders are of its map.
        drawn = localised(threshold=20.0)
        drawn.begin(replace(square(), scene=SPEC.scenes[0]), seed=0)
    assert 0 <= confidence < 0.5 < placed_confidence <= 1
    with pytest.warns(UserWarning, match="not look like a place"):
        drawn.begin(replace(square(), scene=77), seed=0)


# Words


def test_words_matter_where_they_are_said(placed):
    def latents(prompt: str) -> np.ndarray:
        return latents_of(placed, walk(placed, placed.begin(square(prompt=prompt), seed=1), 1))

    prompts = ("", "red door", "blue door", "red door, green crates", "red door, grey crates")
    made = [latents(prompt) for prompt in prompts]
    for index, one in enumerate(made):
        for other in made[:index]:
            assert np.abs(one - other).max() > 1e-4
    assert np.array_equal(latents("green crates,red door"), latents("red door, Green crates"))
    listed = "expected phrases out of: red door, blue door, green crates, white crates, grey crates"
    with pytest.raises(ValueError, match=re.escape(f"'red crates' in the prompt, {listed}")):
        placed.begin(square(prompt="red crates"), seed=1)


def test_masked_words_change_nothing(placed):
    state = placed.begin(square(prompt="red door"), seed=1)
    assert state.text.mask.tolist() == [[1, 1, 0]]
    features = state.text.features.clone()
    features[:, 2] = 7.0
    junk = replace(state, text=replace(state.text, features=features))
    a, b = walk(placed, state, 2), walk(placed, junk, 2)
    assert np.array_equal(latents_of(placed, a), latents_of(placed, b))
    features[:, 1] = 7.0
    heard = replace(state, text=replace(state.text, features=features))
    assert not np.array_equal(latents_of(placed, walk(placed, heard, 2)), latents_of(placed, a))


def test_a_world_file_keeps_localiser_and_words(placed, tmp_path: Path):
    write_world_file(tmp_path / "world.safetensors", file_of(placed))
    rebuilt, again = (world_of(read_world_file(tmp_path / "world.safetensors")) for _ in range(2))
    assert rebuilt.spec == placed.spec and rebuilt.spec.surfaces == SURFACES
    assert (rebuilt.schedule, rebuilt.window) == (placed.schedule, placed.window)
    assert (rebuilt.clean_pass, rebuilt.frequencies) == (False, FREQUENCIES)
    assert rebuilt.localiser.config == placed.localiser.config
    assert file_of(rebuilt).metadata == file_of(placed).metadata
    given = square(prompt="blue door")
    near, kept = placed.begin(given, seed=1), rebuilt.begin(given, seed=1)
    np.testing.assert_allclose(kept.anchor, near.anchor, atol=0.02)  # half precision
    assert torch.equal(kept.text.features, near.text.features)
    assert same(rebuilt, walk(rebuilt, kept, 2), walk(again, again.begin(given, seed=1), 2))


def test_a_world_file_without_words_or_localiser(world):
    file = file_of(world)
    kept = file.metadata
    assert (kept["clean_pass"], kept["frequencies"], kept["surfaces"]) == (True, [], [])
    rebuilt = world_of(file)
    assert rebuilt.spec == world.spec
    assert (rebuilt.schedule, rebuilt.window) == (world.schedule, world.window)
    begun = world.begin(start(), seed=1)
    assert same(world, walk(rebuilt, begun, 2), walk(world, begun, 2))
    assert rebuilt.localiser is None and rebuilt.caption is None


def test_a_variation_keeps_what_is_not_varied():
    """Among it the type of matrix products: a shortened `tiny-bf16` is no float32 world."""
    world = load_tiny_bf16()
    varied = replace(world, schedule=self_forcing((1000, 500, 0)), window=MemoryWindow(3))
    same = {field.name for field in fields(world)} - {"schedule", "window"}
    assert all(getattr(varied, name) is getattr(world, name) for name in same)
    assert varied.autocast_dtype is torch.bfloat16
    begun = world.begin(world.sample_start(np.random.default_rng(0)), seed=1)
    still = ahead(world.spec, step=0.0)
    [rounded] = advance(varied, [begun], [still])
    [exact] = advance(replace(varied, autocast_dtype=None), [begun], [still])
    difference = (rounded.latents - exact.latents).abs().max()
    assert 1e-3 < difference < 1
    with pytest.raises(FrozenInstanceError):
        world.autocast_dtype = None
