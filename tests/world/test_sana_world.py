"""The learned world keeps the world contract, whatever its weights: here they are random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.state import named_tensors, shapes
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.weights.world_file import WorldFile
from sana_wm_gym.world.sana_world import SanaWorld, promise_of, world_of
from sana_wm_gym.world.schedule import self_forcing
from sana_wm_gym.world.world_model import Start, WorldSpec

HEIGHT, WIDTH = 16, 24
INTRINSICS = (14.0, 14.0, 12.0, 8.0)
SPEC = WorldSpec(
    name="random",
    height=HEIGHT,
    width=WIDTH,
    fps=16,
    latent_shape=(12, 2, 3),
    intrinsics=INTRINSICS,
    limits=MotionLimits(),
    scenes=(3, 5),
)


@pytest.fixture(scope="module")
def world() -> SanaWorld:
    random = torch.Generator().manual_seed(0)
    config = SanaWMConfig(
        latent_channels=12,
        width=32,
        depth=4,
        heads=2,
        softmax_every=2,
        mlp_ratio=1.5,
        text_channels=None,
        position_entries=0,
        unread_entries=False,
    )
    model, codec = SanaWM(config, EXACT), PatchCodec(CodecConfig(channels=12, hidden=8, depth=1))
    with torch.no_grad():
        for parameter in model.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.normal_(0.0, spread, generator=random)
        basis, _ = torch.linalg.qr(torch.randn(codec.config.values, 12, generator=random))
        codec.basis.copy_(basis)
        codec.mean.fill_(0.5)
        codec.scale.fill_(8.0)
        codec.correction[-1].weight.normal_(0.0, 0.05, generator=random)
    return SanaWorld(SPEC, model, codec, self_forcing((1000, 700, 0)), MemoryWindow(2))


def start(seed: int = 0) -> Start:
    image = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return Start(image, INTRINSICS)


def camera(chunk: int, step: float = 0.02) -> CameraTrajectory:
    """The 25 poses of a chunk of a camera that walks and turns evenly."""
    frames = np.arange(24 * chunk, 24 * chunk + 25)
    c2w = np.tile(np.eye(4), (25, 1, 1))
    angle = step * frames / 4
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 2, 3] = step * frames
    return CameraTrajectory(c2w, np.array(INTRINSICS), WIDTH, HEIGHT)


def walk(world, state, chunks, step=0.02):
    for _ in range(chunks):
        (state,) = world.advance([state], [camera(state.chunk, step)])
    return state


def same(world, a, b) -> bool:
    a, b = world.pack(a), world.pack(b)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


def test_shapes_of_frames_and_latents(world):
    state = world.begin(start(), seed=1)
    assert world.frames(state).shape == (1, HEIGHT, WIDTH, 3)
    assert np.array_equal(world.frames(state)[0], start().image)
    assert world.latents(state).shape == (1, 12, 2, 3)
    for chunk in (1, 2, 3):
        state = walk(world, state, 1)
        frames, latents = world.frames(state), world.latents(state)
        assert frames.dtype == np.uint8 and frames.shape == (24, HEIGHT, WIDTH, 3)
        assert latents.dtype == np.float32 and latents.shape == (3, 12, 2, 3)
        assert state.chunk == chunk
        assert frames.std() > 1


def test_last_frames_of_a_batch_are_the_last_of_each(world):
    states = [
        walk(world, world.begin(start(), seed=seed), chunks)
        for seed, chunks in enumerate((0, 1, 3))
    ]
    lasts = world.last_frames(states)
    for state, last in zip(states, lasts, strict=True):
        # A product of another shape may round the other way.
        np.testing.assert_allclose(last.astype(int), world.frames(state)[-1].astype(int), atol=1)
    assert not np.array_equal(lasts[1], lasts[2])


def test_rollouts_are_deterministic_and_seeds_matter(world):
    first, again = (walk(world, world.begin(start(), seed=1), 3) for _ in range(2))
    assert same(world, first, again)
    assert np.array_equal(world.frames(first), world.frames(again))
    other = walk(world, world.begin(start(), seed=2), 3)
    assert not np.array_equal(world.latents(first), world.latents(other))


def test_camera_and_image_matter(world):
    base = world.latents(walk(world, world.begin(start(), seed=1), 2))
    slower = world.latents(walk(world, world.begin(start(), seed=1), 2, step=0.01))
    elsewhere = world.latents(walk(world, world.begin(start(1), seed=1), 2))
    assert np.abs(base - slower).max() > 1e-3
    assert np.abs(base - elsewhere).max() > 1e-3


def test_a_batch_is_each_world_alone(world):
    """Worlds at chunks 0 to 4, shuffled, against one call each."""
    before = [
        walk(world, world.begin(start(seed), seed), chunk)
        for seed, chunk in enumerate((2, 0, 4, 1, 0, 3))
    ]
    cameras = [camera(s.chunk, 0.01 * (i + 1)) for i, s in enumerate(before)]
    together = world.advance(before, cameras)
    for state, trajectory, result in zip(before, cameras, together, strict=True):
        (alone,) = world.advance([state], [trajectory])
        assert (result.chunk, result.seed) == (alone.chunk, alone.seed)
        np.testing.assert_allclose(
            world.latents(result), world.latents(alone), rtol=1e-4, atol=1e-5
        )
        a, b = named_tensors(result.generator), named_tensors(alone.generator)
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5, msg=name)
    frames = world.decode(together)
    for state, decoded in zip(together, frames, strict=True):
        difference = decoded.astype(int) - world.frames(state)
        assert np.abs(difference).max() <= 1  # of 255: last bits round either way


@pytest.mark.parametrize("chunks", [0, 1, 3])
def test_a_packed_state_continues_bit_for_bit(world, chunks):
    state = walk(world, world.begin(start(), seed=1), chunks)
    copied = world.unpack({name: array.copy() for name, array in world.pack(state).items()})
    assert same(world, copied, state)
    assert np.array_equal(world.frames(copied), world.frames(state))
    assert same(world, walk(world, copied, 2), walk(world, state, 2))


@torch.inference_mode()
def test_frames_of_a_rollout_are_one_decoded_clip(world):
    """Decoding chunk by chunk goes on where the chunk before ended."""
    start_state = world.begin(start(), seed=1)
    states = [walk(world, start_state, chunks) for chunks in (1, 2, 3)]
    clip, _ = world.codec.decode(
        torch.cat([state.latents for state in states], 2),
        world.codec.begin(start_state.latents[:, :, 0]),
    )
    whole = (clip[0] * 255).round().numpy()
    streamed = np.concatenate([world.frames(state) for state in states])
    assert np.abs(streamed - whole).max() <= 1  # of 255: last bits round either way


def test_advance_leaves_the_given_state_alone(world):
    state = walk(world, world.begin(start(), seed=1), 2)
    kept = {name: array.copy() for name, array in world.pack(state).items()}
    first, second = walk(world, state, 1), walk(world, state, 1)
    assert same(world, first, second)
    assert same(world, state, world.unpack(kept))


def test_memory_does_not_grow(world):
    state, sizes = world.begin(start(), seed=1), []
    for _ in range(5):
        state = walk(world, state, 1)
        sizes.append(shapes(state.generator))
    assert sizes[2] == sizes[3] == sizes[4]


def test_a_world_file_keeps_the_world(world):
    rebuilt = world_of(WorldFile(world.model, world.codec, promise_of(world)))
    assert rebuilt.spec == world.spec
    assert (rebuilt.schedule, rebuilt.plan) == (world.schedule, world.plan)


def test_starts_come_from_known_scenes(world):
    drawn = world.sample_start(np.random.default_rng(0))
    assert drawn.scene in SPEC.scenes
    assert drawn.image.shape == (HEIGHT, WIDTH, 3)
    assert world.sample_start(np.random.default_rng(0), scene=5).scene == 5
    with pytest.raises(ValueError, match=r"given scene 4; world 'random' knows \(3, 5\)"):
        world.sample_start(np.random.default_rng(0), scene=4)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((HEIGHT, WIDTH + 1, 3), np.uint8),
        np.zeros((HEIGHT, WIDTH), np.uint8),
        np.zeros((HEIGHT, WIDTH, 3), np.float32),
    ],
    ids=["width", "grey", "float"],
)
def test_an_image_that_does_not_fit(world, image):
    with pytest.raises(ValueError, match=r"given a first frame .*; expected uint8 \(16, 24, 3\)"):
        world.begin(Start(image, INTRINSICS), seed=0)


def test_a_camera_that_does_not_fit(world):
    state, good = world.begin(start(), seed=0), camera(0)
    with pytest.raises(ValueError, match="given 24 poses; expected 25"):
        world.advance([state], [good[:24]])
    other = CameraTrajectory(good.c2w, good.intrinsics, 2 * WIDTH, 2 * HEIGHT)
    with pytest.raises(ValueError, match="given a camera for 32 x 48 frames; expected 16 x 24"):
        world.advance([state], [other])


def test_a_spec_without_latents(world):
    spec = replace(SPEC, latent_shape=None)
    with pytest.raises(ValueError, match="given a spec without latent_shape"):
        SanaWorld(spec, world.model, world.codec, world.schedule, MemoryWindow(2))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.pop("seed"), r"given a state without \['seed'\]"),
        (lambda a: a.pop("generator.frames"), "without 'frames'"),
        (lambda a: a.pop("generator.blocks.0.ffn_tail"), "without 'blocks.0.ffn_tail'"),
        (lambda a: a.update(novelty=np.zeros(3)), "novelty"),
        (lambda a: a.update(latents=np.zeros((1, 11, 3, 2, 3), np.float32)), r"\(12, 2, 3\)"),
        (lambda a: a.update(image=np.zeros((8, 8, 3), np.uint8)), r"an image \(8, 8, 3\)"),
        (lambda a: a.update(chunk=np.array(0)), "after 0 chunks with"),
    ],
)
def test_arrays_that_make_no_state(world, change, expected):
    arrays = world.pack(walk(world, world.begin(start(), seed=0), 1))
    change(arrays)
    with pytest.raises(ValueError, match=expected):
        world.unpack(arrays)
