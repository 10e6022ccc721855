"""The small codec: projection, decoding that streams, and a correction that starts at nothing."""

from __future__ import annotations

import pytest
import torch

from sana_wm_gym.models.codec import GROUP, CodecConfig, PatchCodec

CONFIG = CodecConfig(channels=12, patch=4, hidden=8, depth=1)


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def codec(random):
    codec = PatchCodec(CONFIG).eval()
    basis, _ = torch.linalg.qr(torch.randn(CONFIG.values, CONFIG.channels, generator=random))
    codec.basis.copy_(basis)
    codec.mean.fill_(0.5)
    codec.scale.copy_(torch.rand(CONFIG.channels, generator=random) + 0.5)
    return codec


@pytest.fixture
def corrected(codec, random):
    """With a correction that acts."""
    codec.correction[-1].weight.normal_(0, 0.1, generator=random)
    return codec


def test_encoding_undoes_decoding(codec, random):
    """On the span of the basis, as long as no pixel is clipped."""
    latents = 0.1 * torch.randn(2, 12, 3, 2, 3, generator=random)
    frames, _ = codec.decode(latents, codec.begin(latents[:, :, 0]))
    assert frames.shape == (2, 3 * GROUP, 8, 12, 3)
    groups = frames.unflatten(1, (3, GROUP))
    back = torch.stack([codec.encode_groups(groups[:, i]) for i in range(3)], 2)
    torch.testing.assert_close(back, latents, rtol=1e-3, atol=1e-4)


def test_decoding_streams(corrected, random):
    codec, latents = corrected, torch.randn(1, 12, 5, 2, 3, generator=random)
    begin = codec.begin(torch.randn(1, 12, 2, 3, generator=random))
    whole, end = codec.decode(latents, begin)
    first, middle = codec.decode(latents[:, :, :2], begin)
    second, last = codec.decode(latents[:, :, 2:], middle)
    torch.testing.assert_close(torch.cat([first, second], 1), whole)
    assert torch.equal(last.previous, end.previous)
    assert torch.equal(codec.skip(latents, begin).previous, end.previous)


def test_decoding_is_causal_and_looks_one_frame_back(corrected, random):
    codec, latents = corrected, 0.2 * torch.randn(1, 12, 4, 2, 3, generator=random)
    begin = codec.begin(latents[:, :, 0])
    before, _ = codec.decode(latents, begin)
    latents[:, :, 1] += 0.5
    after, _ = codec.decode(latents, begin)
    moved = (before - after).abs().unflatten(1, (4, GROUP)).amax((0, 2, 3, 4, 5)) > 0
    assert moved.tolist() == [False, True, True, False]


def test_a_still_image_is_eight_equal_frames(codec, random):
    image = torch.rand(2, 8, 12, 3, generator=random)
    latent = codec.encode_image(image)
    assert latent.shape == (2, 12, 2, 3)
    assert torch.equal(latent, codec.encode_groups(image[:, None].expand(-1, GROUP, -1, -1, -1)))


def test_pixels_stay_in_range(codec, random):
    latents = 50 * torch.randn(1, 12, 2, 2, 3, generator=random)
    frames, _ = codec.decode(latents, codec.begin(latents[:, :, 0]))
    assert frames.min() == 0 and frames.max() == 1


def test_a_decoder_state_of_other_channels_is_refused(codec):
    state = codec.begin(torch.ones(1, 12, 2, 3))
    assert isinstance(state, codec.state_type)
    codec.check_state(state)
    with pytest.raises(ValueError, match=r"\(1, 11, 2, 3\); expected \[b, 12, h, w\]"):
        codec.check_state(codec.begin(torch.ones(1, 11, 2, 3)))


@pytest.mark.parametrize("frames", [1, 3])
def test_the_last_frame_alone_is_the_last_of_all(corrected, random, frames):
    latents = torch.randn(2, 12, frames, 3, 5, generator=random)
    before = corrected.begin(torch.randn(2, 12, 3, 5, generator=random))
    whole = corrected.decode(latents, before)[0]
    assert whole.std() > 0.1
    assert not torch.allclose(whole[:, -1], whole[:, -2], atol=1e-3)
    torch.testing.assert_close(corrected.decode_last(latents, before), whole[:, -1])
