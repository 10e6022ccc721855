"""What every world keeps: one suite for renderer, networks, replays and toys."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from camera_paths import ahead, poses_ahead
from chunk_worlds import ChunkWorld
from stepping import advance, frames_of

from sana_wm_gym.camera import CameraTrajectory
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.released.replay import GeneratedClip, ReplayWorld
from sana_wm_gym.world.world_model import ChunkInput, Start, as_arrays

CHUNKS = 4


class Counted:
    """A clip whose frames are numbered by their seed and place."""

    def clip(self, image: Any, trajectory: Any, prompt: str, *, seed: int) -> GeneratedClip:
        count = len(trajectory)
        frames = (image[None] // 2 + seed + np.arange(count)[:, None, None, None]).astype(np.uint8)
        frames[0] = image
        latents = np.arange((count - 1) // 8 + 1, dtype=np.float32)[:, None, None, None] + seed
        return GeneratedClip(frames, np.tile(latents, (1, 2, 5, 6)))


NAMES = ["procedural", "small", "courtyard", "released", "replay", "toy", "one frame"]


@pytest.fixture(params=NAMES)
def world(request: pytest.FixtureRequest) -> Any:
    name = request.param
    if name in ("small", "courtyard"):
        path: Path = request.getfixturevalue(f"{name}_world_file")
        return world_of(read_world_file(path))
    if name == "released":
        return request.getfixturevalue("stack").load(refined=True, dtype=torch.float32)
    if name == "replay":
        spec = replace(ChunkWorld(24).spec, name="replay", height=40, width=48)
        return ReplayWorld(
            Counted(),
            replace(spec, latent_shape=(2, 5, 6)),
            poses_ahead(range(24 * CHUNKS + 1), 0.02, 0.01),
        )
    toys = {"toy": ChunkWorld(), "one frame": ChunkWorld(1)}
    return toys.get(name) or ProceduralWorld((16, 24), (3,))


def start(world: Any, seed: int = 0) -> Start:
    rng = np.random.default_rng(seed)
    if not world.spec.scenes or isinstance(world, ReplayWorld):
        image = rng.integers(0, 100, (*world.spec.size, 3), dtype=np.uint8)
        return Start(image, world.spec.intrinsics, prompt="a room")
    return world.sample_start(rng)


def camera(world: Any, chunk: int) -> CameraTrajectory:
    return ahead(world.spec, chunk, 0.02, 0.01)


def walk(world: Any, chunks: int, seed: int = 0, state: Any = None) -> Any:
    """A state after some chunks more."""
    state, first = (world.begin(start(world, seed), seed), 0) if state is None else state
    for chunk in range(first, first + chunks):
        [state] = advance(world, [state], [camera(world, chunk)])
    return state


def same(world: Any, a: Any, b: Any) -> bool:
    a, b = world.pack(a), world.pack(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_frames_and_latents_are_as_the_spec_says(world: Any) -> None:
    spec = world.spec
    begun = walk(world, 0)
    assert np.array_equal(frames_of(world, begun), start(world).image[None])
    states = [begun, walk(world, 1), walk(world, 3, seed=1)]
    for count, state, frames, last in zip(
        (1, *[spec.frames_per_chunk] * 2),
        states,
        as_arrays(world.decode(states)),
        as_arrays(world.decode(states, last=True)),
        strict=True,
    ):
        assert frames.dtype == last.dtype == np.uint8
        assert frames.shape == (count, *spec.size, 3) and last.shape == (*spec.size, 3)
        # A product of another shape may round the other way.
        assert np.abs(frames[-1].astype(int) - last).max() <= 1
        assert np.abs(frames_of(world, state).astype(int) - frames).max() <= 1
        assert 0 <= world.anchor_confidence(state) <= 1
    if spec.latent_shape is None:
        with pytest.raises(ValueError, match="no latents"):
            world.latents(states)
        return
    whole, lasts = as_arrays(world.latents(states)), as_arrays(world.latents(states, last=True))
    assert [part.shape for part in whole] == [(k, *spec.latent_shape) for k in (1, 3, 3)]
    assert all(np.array_equal(part[-1], last) for part, last in zip(whole, lasts, strict=True))
    assert {part.dtype for part in whole + lasts} == {np.dtype(np.float32)}


def test_a_state_is_a_function_of_start_seed_and_cameras(world: Any) -> None:
    state = walk(world, 2)
    assert same(world, state, walk(world, 2))
    kept = {name: np.array(array) for name, array in world.pack(state).items()}
    first, second = (walk(world, 1, state=(state, 2)) for _ in range(2))
    assert same(world, first, second)
    assert all(np.array_equal(kept[name], array) for name, array in world.pack(state).items())


def test_a_batch_is_each_state_alone(world: Any) -> None:
    before = [walk(world, chunk, seed=seed) for seed, chunk in enumerate((2, 0, 3, 1))]
    cameras = [camera(world, chunk) for chunk in (2, 0, 3, 1)]
    for state, given, result in zip(before, cameras, advance(world, before, cameras), strict=True):
        [alone] = advance(world, [state], [given])
        a, b = frames_of(world, result).astype(int), frames_of(world, alone)
        assert np.abs(a - b).max() <= 1


@pytest.mark.parametrize("chunks", [0, 2])
def test_a_packed_state_continues_bit_for_bit(world: Any, chunks: int) -> None:
    state = walk(world, chunks)
    copied = world.unpack({name: np.array(a) for name, a in world.pack(state).items()})
    assert same(world, copied, state)
    assert np.array_equal(frames_of(world, copied), frames_of(world, state))
    ahead = [walk(world, 2, state=(each, chunks)) for each in (copied, state)]
    assert same(world, *ahead)


def test_what_does_not_fit_is_refused(world: Any) -> None:
    state, good, n = walk(world, 0), camera(world, 0), world.spec.frames_per_chunk
    with pytest.raises(ValueError, match=f"a camera of {n} poses; expected {n + 1}"):
        advance(world, [state], [good[:n]])
    with pytest.raises(ValueError, match=r"given a camera for .* frames; expected"):
        advance(world, [state], [replace(good, width=2 * good.width)])
    with pytest.raises(ValueError, match="1 states and 2 inputs"):
        advance(world, [state], [good, good])
    with pytest.raises(ValueError, match="without a camera"):
        world.advance([state], [ChunkInput()])


def test_a_world_is_a_frozen_value(world: Any) -> None:
    copied = replace(world)
    assert copied is not world and copied.spec == world.spec
    with pytest.raises(FrozenInstanceError):
        setattr(world, fields(world)[0].name, None)
