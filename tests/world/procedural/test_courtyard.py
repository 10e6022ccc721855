"""The courtyard: bright, textured, walkable, and varying where its surfaces say."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sana_wm_gym.poses.tracks import track_points
from sana_wm_gym.world.procedural.appearance import parse_prompt, prompt_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld, draw_start, with_prompt
from sana_wm_gym.world.procedural.renderer import render, render_geometry
from sana_wm_gym.world.procedural.scenes import (
    Scene,
    free_space,
    generate_scene,
    sample_pose,
    with_appearance,
)
from sana_wm_gym.world.procedural.walks import sample_walk

SCENE = generate_scene(COURTYARD)
COUNT = len(SCENE.surfaces)
WORLD = ProceduralWorld(scenes=(COURTYARD,))


def frames_of(scene: Scene, walks: int, frames: int, seed: int) -> npt.NDArray[np.uint8]:
    """Walks with an appearance drawn for each, uint8 [walks, frames + 1, 64, 64, 3]."""
    rng = np.random.default_rng(seed)
    clips = []
    for _ in range(walks):
        shown = with_appearance(scene, [int(rng.integers(2)) for _ in scene.surfaces])
        clips.append(render(shown, sample_walk(scene, rng, frames)))
    return np.stack(clips)


@pytest.fixture(scope="module")
def poses() -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(0)
    return np.stack([sample_pose(SCENE, rng) for _ in range(120)])


@pytest.fixture(scope="module")
def clips() -> npt.NDArray[np.uint8]:
    return frames_of(SCENE, 8, 96, 1)


def test_the_courtyard_is_the_one_that_the_shipped_world_learned(
    poses: npt.NDArray[np.float64],
) -> None:
    frames = [render(with_appearance(SCENE, (v,) * COUNT), poses[:40]) for v in (0, 1)]
    digest = hashlib.sha256(b"".join(f.tobytes() for f in frames)).hexdigest()
    assert digest == "46b1a3f6d35fbcccf9021141ea6b9954c19918ebbcdd66d2fa01fc4b9769bec1"


def test_many_surfaces_vary() -> None:
    assert COUNT >= 8 and min(len(surface.variants) for surface in SCENE.surfaces) >= 2
    assert len({surface.name for surface in SCENE.surfaces}) == COUNT
    words = [word for s in SCENE.surfaces for word in (s.name, *s.variants)]
    assert all(word.isalpha() and word.islower() for word in words)


def test_variants_are_plainly_different_and_change_nothing_else(
    poses: npt.NDArray[np.float64],
) -> None:
    first, second = (
        render(with_appearance(SCENE, (variant,) * COUNT), poses) for variant in (0, 1)
    )
    seen = render_geometry(SCENE, poses)[1]
    squared = ((first / 255.0 - second / 255.0) ** 2).mean(-1)
    for index, surface in enumerate(SCENE.surfaces):
        psnr = -10 * np.log10(squared[seen == index].mean())
        assert psnr <= 12, f"{surface.name}: {psnr:.1f} dB"
    # Pixels that no varying surface touches, not even with a corner.
    inner = np.ones_like(seen[:, 1:-1, 1:-1], bool)
    for row in range(3):
        for column in range(3):
            inner &= seen[:, row : row + 62, column : column + 62] < 0
    assert inner.any() and not squared[:, 1:-1, 1:-1][inner].any()


def test_most_frames_show_a_varying_surface(poses: npt.NDArray[np.float64]) -> None:
    seen = render_geometry(SCENE, poses)[1]
    fractions = np.stack([(seen == index).mean((1, 2)) for index in range(COUNT)])
    assert ((fractions >= 0.03).any(0)).mean() > 0.8
    assert ((fractions >= 0.03).mean(1)).min() > 0.05


def test_surfaces_seen_are_those_that_change(poses: npt.NDArray[np.float64]) -> None:
    base = render(SCENE, poses[:40]).astype(int)
    for index in range(COUNT):
        appearance = np.eye(COUNT, dtype=int)[index].tolist()
        changed = np.abs(render(with_appearance(SCENE, appearance), poses[:40]) - base).sum(-1)
        own = render_geometry(SCENE, poses[:40])[1] == index
        assert (changed[own] > 0).mean() > 0.95


def test_scenes_without_surfaces_show_none() -> None:
    scene = generate_scene(3)
    pose = sample_pose(scene, np.random.default_rng(0))
    assert (render_geometry(scene, pose[None], size=(8, 6))[1] == np.full((1, 8, 6), -1)).all()
    with pytest.raises(ValueError, match="one variant per surface"):
        with_appearance(scene, (0,))


def test_frames_vary_at_least_as_much_as_those_of_scene_8(clips: npt.NDArray[np.uint8]) -> None:
    other = frames_of(generate_scene(8), 8, 96, 1)
    ours, theirs = (
        c[:, ::4].reshape(-1, 64 * 64 * 3).std(1, dtype=np.float64).mean() for c in (clips, other)
    )
    assert ours >= 1.05 * theirs
    assert clips.mean() > other.mean()


def test_corners_survive_half_a_second_at_64_pixels(clips: npt.NDArray[np.uint8]) -> None:
    kept = []
    for clip in clips[:4]:
        for start in range(0, 88, 22):
            tracks = track_points(clip[start : start + 9])
            kept.append((tracks.seen[0] & tracks.seen[-1]).sum())
    assert np.median(kept) >= 60


def test_one_can_walk_around_everything() -> None:
    step = 0.1
    x, z = (np.arange(SCENE.lower[0, i] + step / 2, SCENE.upper[0, i], step) for i in (0, 2))
    grid = np.stack(np.meshgrid(x, [0.0], z, indexing="ij"), -1)[:, 0]
    # Low boxes stand in the way too: what is walked in is the floor plan.
    up = np.array([0, 9, 0])
    flat = replace(SCENE, lower=SCENE.lower * [1, 0, 1] - up, upper=SCENE.upper + up)
    free = free_space(flat, grid, 0.3)
    start = np.argwhere(free)[0]
    reached = np.zeros_like(free)
    front = [tuple(start)]
    while front:
        i, j = front.pop()
        inside = 0 <= i < free.shape[0] and 0 <= j < free.shape[1]
        if inside and free[i, j] and not reached[i, j]:
            reached[i, j] = True
            front += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    assert (reached == free).all()


def test_a_start_shows_what_its_prompt_names() -> None:
    start = WORLD.sample_start(np.random.default_rng(3))
    same = draw_start(WORLD.spec, np.random.default_rng(3))
    np.testing.assert_array_equal(start.image, same.image)
    assert start.prompt == prompt_of(SCENE.surfaces, start.appearance) == same.prompt
    assert start.scene_c2w is not None
    shown = with_appearance(SCENE, start.appearance)
    np.testing.assert_array_equal(start.image, render(shown, start.scene_c2w[None])[0])
    drawn = [WORLD.sample_start(np.random.default_rng(seed)).appearance for seed in range(8)]
    assert len(set(drawn)) > 4


def test_scenes_without_surfaces_keep_their_starts() -> None:
    start = ProceduralWorld(scenes=(8,)).sample_start(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    rng.choice([8])
    scene = generate_scene(8)
    np.testing.assert_array_equal(start.scene_c2w, sample_pose(scene, rng))
    assert start.prompt == "" and start.appearance == ()
    spec = ProceduralWorld(scenes=(8,)).spec
    assert with_prompt(start, spec, "a hall").prompt == "a hall" and spec.surfaces == ()


def test_a_prompt_changes_what_it_names_and_nothing_else() -> None:
    start = WORLD.sample_start(np.random.default_rng(3))
    for index, surface in enumerate(SCENE.surfaces):
        for variant in range(2):
            named = with_prompt(start, WORLD.spec, surface.phrase(variant))
            expected = [*start.appearance[:index], variant, *start.appearance[index + 1 :]]
            assert named.appearance == tuple(expected)
            assert named.prompt == surface.phrase(variant)
            np.testing.assert_array_equal(named.scene_c2w, start.scene_c2w)
            shown = with_appearance(SCENE, expected)
            assert start.scene_c2w is not None
            np.testing.assert_array_equal(named.image, render(shown, start.scene_c2w[None])[0])
    empty = with_prompt(start, WORLD.spec, "")
    assert empty.prompt == "" and empty.appearance == start.appearance
    assert parse_prompt(SCENE.surfaces, start.prompt) == start.appearance
    with pytest.raises(ValueError, match="unknown phrase 'a hall'"):
        with_prompt(start, WORLD.spec, "a hall")


def test_states_keep_their_appearance() -> None:
    start = WORLD.sample_start(np.random.default_rng(5))
    other = with_prompt(
        start, WORLD.spec, prompt_of(SCENE.surfaces, [1 - v for v in start.appearance])
    )
    states = [WORLD.begin(s, 0) for s in (start, other)]
    again = [WORLD.unpack(WORLD.pack(state)) for state in states]
    for state, copy, one in zip(states, again, (start, other), strict=True):
        assert copy.start.appearance == state.start.appearance == one.appearance
        assert copy.start.prompt == one.prompt
    with pytest.raises(ValueError, match="one variant per surface"):
        WORLD.begin(replace(start, appearance=(0,)), 0)
    # A user's image brings no appearance: the first variants.
    plain = WORLD.begin(replace(start, appearance=()), 0)
    assert plain.start.appearance == ()
