"""The released VAE's wrapper and its streaming decoder, on tiny random weights of the same shape.

The stream is compared with the library's own one-shot causal decode.
"""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_vae import MIXED, build, draw, picture

from sana_wm_gym import values
from sana_wm_gym.models import state as memory
from sana_wm_gym.models.vae import (
    RELEASED_TILING,
    CausalDecoderState,
    CausalVae,
    Tiling,
    VideoVae,
    to_uint8,
)


@pytest.fixture(scope="module")
def vae():
    return CausalVae(build())


def stream(vae, chunks, state=None):
    """Frames of latents that come chunk by chunk, one tensor per chunk, and the last state."""
    frames = []
    for chunk in chunks:
        new, state = vae.decode(chunk, state)
        frames.append(new)
    return frames, state


def same(state, other):
    return all(torch.equal(a, b) for a, b in zip(state.tails, other.tails, strict=True))


# The first frame.


def test_the_first_frame_is_the_normalised_mode(vae):
    image, library = picture(batch=2), vae.autoencoder
    latent = vae.encode_image(image)
    assert latent.shape == (2, 8, 2, 3)
    posterior = library.encode((2 * image - 1).permute(0, 3, 1, 2)[:, :, None]).latent_dist
    mean, std = library.latents_mean[None, :, None, None], library.latents_std[None, :, None, None]
    expected = (posterior.mean[:, :, 0] - mean) * 0.8 / std
    torch.testing.assert_close(latent, expected)
    assert torch.equal(latent, vae.encode_image(image))


def test_denormalising_undoes_normalising(vae):
    latents = draw(2)
    torch.testing.assert_close(vae.denormalise(vae.normalise(latents)), latents)
    assert not torch.allclose(vae.normalise(latents), latents)


def test_large_images_are_encoded_in_tiles():
    image, small = picture(64, 128), Tiling(size=96, stride=64)
    tiled = VideoVae(build(), small).encode_image(image)
    whole = VideoVae(build(), None).encode_image(image)
    assert tiled.shape == whole.shape == (1, 8, 2, 4)
    assert not torch.equal(tiled, whole)
    torch.testing.assert_close(VideoVae(build()).encode_image(image), whole)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.rand(1, 72, 96, 3), "72 x 96 pixels; expected multiples of 32"),
        (torch.rand(1, 32, 96, 3), "at least 64"),
        (torch.rand(64, 96, 3), r"expected \[n, H, W, 3\]"),
        (torch.rand(1, 3, 64, 96), r"expected \[n, H, W, 3\]"),
        (torch.zeros(1, 64, 96, 3, dtype=torch.uint8), "expected floats"),
    ],
)
def test_images_that_do_not_fit_are_refused(vae, image, message):
    with pytest.raises(ValueError, match=message):
        vae.encode_image(image)


# Whole clips.


def test_a_clip_is_decoded_as_the_library_does():
    vae, latents = VideoVae(build(decoder_causal=False)), draw(3)
    frames = vae.decode_clip(latents)
    assert frames.shape == (1, 17, 64, 96, 3) and frames.dtype == torch.float32
    pixels = vae.autoencoder.decode(vae.denormalise(latents)).sample
    expected = (127.5 * pixels + 127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 4, 1)
    assert torch.equal(to_uint8(frames), expected)
    assert 0 < expected.float().mean() < 255


def test_long_clips_are_decoded_in_pieces():
    latents = draw(5, columns=2)
    pieces = VideoVae(build(decoder_causal=False), Tiling(frames=24, frame_stride=16))
    whole = VideoVae(build(decoder_causal=False))
    assert RELEASED_TILING.frames > 8 * 5
    assert pieces.decode_clip(latents).shape == whole.decode_clip(latents).shape
    assert not torch.equal(pieces.decode_clip(latents), whole.decode_clip(latents))


# The stream.


@pytest.mark.parametrize(
    "changes",
    [
        {},
        MIXED | {"upsample_residual": [False, True, True, False]},
        {"decoder_spatial_padding_mode": "zeros", "decoder_layers_per_block": [2, 1, 2, 1]},
    ],
    ids=["released", "mixed", "deep"],
)
def test_the_stream_is_the_librarys_causal_decode(changes):
    vae, latents = CausalVae(build(**changes)), draw(3)
    frames, _ = stream(vae, latents.split(1, dim=2))
    pixels = vae.autoencoder.decode(vae.denormalise(latents), causal=True).sample
    expected = (pixels / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 4, 1)
    torch.testing.assert_close(torch.cat(frames, 1), expected.float(), rtol=0, atol=1e-6)
    assert expected.std() > 0.05


def test_the_first_latent_frame_is_one_frame_and_later_ones_eight(vae):
    frames, _ = stream(vae, draw(3).split(1, dim=2))
    assert [part.shape[1] for part in frames] == [1, 8, 8]
    assert vae.decode_clip(draw(3)).shape == (1, 17, 64, 96, 3)


@settings(max_examples=6)
@given(st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_chunks_of_any_size_give_the_same_bits(vae, sizes):
    latents = draw(sum(sizes), columns=2)
    whole, end = vae.decode(latents, None)
    parts, state = stream(vae, latents.split(sizes, dim=2))
    assert torch.equal(torch.cat(parts, 1), whole)
    assert same(state, end)


def test_the_stream_is_causal(vae):
    latents = draw(4)
    before = vae.decode_clip(latents)
    latents[:, :, 2] += 1
    after = vae.decode_clip(latents)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:17], after[:, 9:17])


def test_the_protocol_begins_after_the_first_image(vae):
    """As the embedded codec: `begin` takes in the image, then each latent frame makes eight."""
    latents = draw(4)
    begin = vae.begin(latents[:, :, 0])
    frames, state = vae.decode(latents[:, :, 1:], begin)
    assert torch.equal(frames, vae.decode_clip(latents)[:, 1:])
    assert same(vae.skip(latents[:, :, 1:], begin), state)


def test_a_state_is_a_value(vae):
    """Not written into, not a view of something larger, and constant in size."""
    state = vae.begin(draw(1)[:, :, 0])
    kept = copy.deepcopy(state)
    first, after = vae.decode(draw(2), state)
    assert same(state, kept)
    assert torch.equal(vae.decode(draw(2), state)[0], first)
    assert memory.shapes(after) == memory.shapes(state)
    for tail in after.tails:
        assert tail.untyped_storage().nbytes() == tail.numel() * tail.element_size()


def test_states_share_a_batch(vae):
    alone = [vae.begin(draw(1, seed=seed)[:, :, 0]) for seed in (1, 2)]
    latents = draw(2, batch=2, seed=3)
    frames, after = vae.decode(latents, memory.stack(alone))
    for i in range(2):
        single, state = vae.decode(latents[i : i + 1], alone[i])
        torch.testing.assert_close(frames[i : i + 1], single)
        torch.testing.assert_close(memory.row(after, i).tails, state.tails)


def test_a_stored_state_continues_with_the_same_bits(vae):
    latents = draw(4)
    _, middle = vae.decode(latents[:, :, :2], None)
    restored = values.unpack(vae.state_type, values.pack(middle))
    vae.check_state(restored)
    frames, _ = vae.decode(latents[:, :, 2:], restored)
    assert torch.equal(frames, vae.decode_clip(latents)[:, 9:])


def test_a_state_is_the_last_inputs_of_the_convolutions(vae):
    inputs = {}
    hooks = [
        module.conv.register_forward_pre_hook(lambda conv, given: inputs.update({conv: given[0]}))
        for module in vae.convolutions.values()
    ]
    _, state = vae.decode(draw(1), None)
    for hook in hooks:
        hook.remove()
    for module, tail in zip(vae.convolutions.values(), state.tails, strict=True):
        assert torch.equal(tail, inputs[module.conv][:, :, -2:])


def test_states_that_do_not_fit_are_refused(vae):
    state = vae.begin(draw(1)[:, :, 0])
    with pytest.raises(ValueError, match=r"begins with \(1, 8, 2, 2, 3\)"):
        vae.decode(draw(1, rows=3), state)
    for check in (vae.check_state, lambda short: vae.decode(draw(1), short)):
        with pytest.raises(ValueError, match="3 tensors"):
            check(CausalDecoderState(state.tails[:3]))
    with pytest.raises(ValueError, match=r"conv_in .*expected \[b, 8, 2, h, w\]"):
        vae.check_state(CausalDecoderState((state.tails[0][:, :4], *state.tails[1:])))


@pytest.mark.parametrize("shape", [(1, 7, 1, 2, 2), (1, 8, 0, 2, 2), (8, 1, 2, 2)])
def test_latents_of_another_shape_are_refused(vae, shape):
    with pytest.raises(ValueError, match=r"expected \[b, 8, f, h, w\]"):
        vae.decode(torch.zeros(shape), None)
    with pytest.raises(ValueError, match="2 x 2 or more"):
        vae.decode(torch.zeros(1, 8, 1, 1, 2), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder_causal": False}, "looks ahead"),
        ({"decoder_inject_noise": [True, False, False, False]}, "draws noise"),
        ({"timestep_conditioning": True}, "timestep_conditioning"),
    ],
)
def test_other_decoders_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        CausalVae(build(**changes))
