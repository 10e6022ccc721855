"""The learned world keeps the world contract, whatever its weights: here they are random."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from camera_paths import ahead
from learned_worlds import HEIGHT, INTRINSICS, SPEC, WIDTH, start, walk
from stepping import advance, frames_of, latents_of

from sana_wm_gym.models.state import named_tensors, shapes
from sana_wm_gym.world.world_model import Start, as_arrays


def test_seed_camera_and_image_matter(world):
    def latents(seed=1, picture=0, step=0.02):
        return latents_of(world, walk(world, world.begin(start(picture), seed), 2, step))

    base = latents()
    for other in (latents(seed=2), latents(picture=1), latents(step=0.01)):
        assert np.abs(base - other).max() > 1e-3


@pytest.mark.parametrize("name", ["world", "placed"])
def test_a_batch_is_each_world_alone(name, request):
    """Worlds at chunks 0 to 4, shuffled, against one call each."""
    world = request.getfixturevalue(name)
    before = [
        walk(world, world.begin(start(seed, world.spec.width), seed), chunk)
        for seed, chunk in enumerate((2, 0, 4, 1, 0, 3))
    ]
    cameras = [ahead(world.spec, s.chunk, 0.01 * (i + 1), 0.002) for i, s in enumerate(before)]
    together = advance(world, before, cameras)
    for state, trajectory, result in zip(before, cameras, together, strict=True):
        (alone,) = advance(world, [state], [trajectory])
        assert (result.chunk, result.seed) == (alone.chunk, alone.seed)
        assert np.array_equal(result.anchor, state.anchor)
        np.testing.assert_allclose(
            latents_of(world, result), latents_of(world, alone), rtol=1e-4, atol=1e-5
        )
        a, b = named_tensors(result.generator), named_tensors(alone.generator)
        assert a.keys() == b.keys()
        for name in a:
            torch.testing.assert_close(a[name], b[name], rtol=1e-4, atol=1e-5, msg=name)
    frames = as_arrays(world.decode(together))
    for state, decoded in zip(together, frames, strict=True):
        difference = decoded.astype(int) - frames_of(world, state)
        assert np.abs(difference).max() <= 1  # of 255: last bits round either way


@torch.inference_mode()
def test_frames_of_a_rollout_are_one_decoded_clip(world):
    start_state = world.begin(start(), seed=1)
    states = [walk(world, start_state, chunks) for chunks in (1, 2, 3)]
    clip, _ = world.codec.decode(
        torch.cat([state.latents for state in states], 2),
        world.codec.begin(start_state.latents[:, :, 0]),
    )
    whole = (clip[0] * 255).round().numpy()
    streamed = np.concatenate([frames_of(world, state) for state in states])
    assert np.abs(streamed - whole).max() <= 1  # of 255: last bits round either way


def test_memory_does_not_grow(world):
    state, sizes = world.begin(start(), seed=1), []
    for _ in range(5):
        state = walk(world, state, 1)
        sizes.append(shapes(state.generator))
    assert sizes[2] == sizes[3] == sizes[4]


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


def test_a_spec_without_latents(world):
    spec = replace(SPEC, latent_shape=None)
    with pytest.raises(ValueError, match="given a spec without latent_shape"):
        replace(world, spec=spec)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.pop("seed"), "has no array 'seed'"),
        (lambda a: a.pop("generator.frames"), "has no array 'generator.frames'"),
        (lambda a: a.pop("generator.blocks.0.ffn_tail"), "no array .*blocks.0.ffn_tail"),
        (lambda a: a.update(novelty=np.zeros(3)), "novelty"),
        (lambda a: a.update(latents=a["latents"][:, :11]), "'latents' has shape"),
        (lambda a: a.update(image=np.zeros((8, 8, 3), np.uint8)), "'image' has shape"),
        (lambda a: a.update(chunk=np.array(0)), "after 0 chunks with"),
        (lambda a: a.pop("anchor"), "has no array 'anchor'"),
        (lambda a: a.pop("anchor_confidence"), "has no array 'anchor_confidence'"),
        (lambda a: a.update(anchor=np.eye(4)[:3]), r"'anchor' has shape \(3, 4\)"),
        (lambda a: a.update(anchor=2 * np.eye(4)), "anchor frame 0 has a last row other than"),
        (lambda a: a.update(anchor=np.diag([1.0, 2, 1, 1])), "anchor frame 0 .* not orthonormal"),
        (lambda a: a.update(anchor=np.full((4, 4), np.nan)), "anchor frame 0 .* not finite"),
        (lambda a: a.update(anchor_confidence=np.array(1.5)), "confidence is 1.5"),
        (lambda a: a.update(anchor_confidence=np.array(np.nan)), "confidence is nan"),
        (lambda a: a.update(anchor_confidence=np.ones(1)), "confidence' has shape"),
    ],
)
def test_arrays_that_make_no_state(world, change, expected):
    arrays = world.pack(walk(world, world.begin(start(), seed=0), 1))
    change(arrays)
    with pytest.raises(ValueError, match=expected):
        world.unpack(arrays)
