"""Small pieces against plain definitions, and the laws that the camera branch rests on."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sana_wm_gym.models.kernels import causal_convolution
from sana_wm_gym.models.layers import (
    DepthwiseConv,
    GluMbConv,
    PointwiseConv,
    ShortConvolution,
    TemporalConv,
    TimestepEmbed,
    camera_rope_table,
    last_frames,
    limit_rms,
    ray_transform,
    rigid_inverse,
    rope_pairs,
    rope_table,
    rotate,
)

close = torch.testing.assert_close
HEAD = 16


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture
def random():
    return torch.Generator().manual_seed(0)


# Positions and rays


def table(first=0, frames=3, rows=2, columns=2, head_dim=HEAD):
    return rope_table(torch.tensor([first]), frames, rows, columns, head_dim)


@pytest.mark.parametrize("head_dim", [8, 16, 40, 112])
def test_rope_pairs_fill_a_head(head_dim):
    assert sum(rope_pairs(head_dim)) == head_dim // 2
    assert camera_rope_table(table(head_dim=head_dim), head_dim).shape[-1] == head_dim // 4
    assert (rope_pairs(112), rope_pairs(56)) == ((20, 18, 18), (10, 9, 9))  # as published


def test_rotation_keeps_norms_and_sees_relative_positions(random):
    x, y = torch.randn(2, 1, 3, 4, 2, HEAD, generator=random)
    close(rotate(x, table()).norm(dim=-1), x.norm(dim=-1))
    products = [(rotate(x, table(f)) * rotate(y, table(f))).sum(-1) for f in (0, 7)]
    close(products[0], products[1], rtol=1e-4, atol=1e-4)
    across = [(rotate(x, table(f)) * rotate(y, table(f + 2))).sum(-1) for f in (0, 7)]
    close(across[0], across[1], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(across[0], products[0], atol=1e-2)


def test_a_later_call_continues_the_table():
    close(torch.cat([table(0, 4), table(4, 3)], 1), table(0, 7))


def test_rotary_angles_are_their_definition():
    """Frame 3, row 1, column 2 of a head of 40: angle = position x 10000^(-i / pairs)."""
    got = table(3, 1, 2, 3, 40)[0, 0, 1 * 3 + 2, 0].angle()
    positions, pairs = (3, 1, 2), rope_pairs(40)
    expected = [
        p * 10000 ** (-i / n) for p, n in zip(positions, pairs, strict=True) for i in range(n)
    ]
    close(got, torch.tensor(expected))


def attention_products(query, key, rays, rope):
    """All query-key products of one head, as a softmax or delta-rule block forms them."""
    moved_query = ray_transform(query, rays.transpose(-1, -2), rope)
    moved_key = ray_transform(key, rigid_inverse(rays), rope)
    return moved_query.flatten(1, 2)[:, :, 0] @ moved_key.flatten(1, 2)[:, :, 0].mT


def test_products_see_relative_poses_alone(random, rigid_motions):
    """Moving the whole world moves no product of a query and a key."""
    query, key = torch.randn(2, 1, 3, 4, 1, HEAD, generator=random)
    rays = rigid_motions(1, 3, 4, random=random)
    rope = camera_rope_table(table(), HEAD)
    before = attention_products(query, key, rays, rope)
    world = rigid_motions(1, 1, 1, random=random)
    close(attention_products(query, key, rays @ world, rope), before, rtol=1e-4, atol=1e-4)
    # Moving one camera alone is seen.
    rays[:, 1] = rays[:, 1] @ world[:, 0]
    assert (attention_products(query, key, rays, rope) - before).abs().max() > 0.1


def test_outputs_return_from_the_frame_that_values_went_to(random, rigid_motions):
    value = torch.randn(2, 3, 4, 2, HEAD, generator=random)
    rays = rigid_motions(2, 3, 4, random=random)
    close(rigid_inverse(rays) @ rays, torch.eye(4).expand_as(rays), rtol=0, atol=1e-5)
    rope = camera_rope_table(table(), HEAD).expand(2, -1, -1, -1, -1)
    there = ray_transform(value, rigid_inverse(rays), rope)
    close(ray_transform(there, rays, rope.conj()), value, rtol=1e-4, atol=1e-5)


def test_ray_transform_is_its_definition(random, rigid_motions):
    x = torch.randn(1, 1, 1, 1, HEAD, generator=random)
    matrix = rigid_motions(1, 1, 1, random=random)
    moved = ray_transform(x, matrix, torch.ones(1, 1, 1, 1, HEAD // 4, dtype=torch.complex64))
    for group in range(HEAD // 8):
        part = slice(4 * group, 4 * group + 4)
        close(moved[0, 0, 0, 0, part], matrix[0, 0, 0] @ x[0, 0, 0, 0, part])
    close(moved[..., HEAD // 2 :], x[..., HEAD // 2 :])


def test_limit_rms_only_shrinks(random):
    x, reference = torch.randn(2, 6, 8, generator=random)
    limited = limit_rms(x, reference)

    def rms(v):
        return v.pow(2).mean(-1).sqrt()

    close(rms(limited), torch.minimum(rms(x), rms(reference)), rtol=1e-4, atol=1e-5)
    close(F.cosine_similarity(limited, x), torch.ones(6))


# Convolutions


def test_causal_convolution_is_torchs(random):
    x, weight = torch.randn(2, 5, 3, 4, generator=random), torch.randn(4, 1, 4, generator=random)
    tail = torch.randn(2, 3, 3, 4, generator=random)
    for earlier in (None, tail):
        padded = torch.cat([torch.zeros_like(tail) if earlier is None else earlier, x], 1)
        lines = padded.permute(0, 2, 3, 1).flatten(0, 1)
        expected = F.conv1d(lines, weight, groups=4).unflatten(0, (2, 3)).permute(0, 3, 1, 2)
        close(causal_convolution(x, weight, earlier), expected)


def test_key_convolution_is_symmetric_with_its_centre_counted_once(random):
    layer, x = ShortConvolution(4, 4), torch.randn(1, 6, 2, 4, generator=random)
    torch.nn.init.normal_(layer.weight, generator=random)
    whole = ((0, 6),)
    close(layer(x.flip(1), whole, whole, None).flip(1), layer(x, whole, whole, None))
    taps = layer.weight[:, 0]
    kernel = torch.cat([taps, taps[:, :-1].flip(1)], 1)  # w0 w1 w2 w3 w2 w1 w0
    lines = x[0].permute(1, 2, 0)
    expected = F.conv1d(lines, kernel[:, None], padding=3, groups=4).permute(2, 0, 1)[None]
    close(layer(x, whole, whole, None), expected)


def test_key_convolution_starts_as_identity(random):
    x = torch.randn(1, 6, 2, 4, generator=random)
    close(ShortConvolution(4, 4)(x, ((0, 6),), ((0, 2), (2, 6)), None), x)


@pytest.mark.parametrize("frames", [1, 2, 3, 5])
def test_last_frames_reach_over_short_chunks(random, frames):
    x, earlier = torch.randn(1, frames, 2, 4, generator=random), torch.ones(1, 3, 2, 4)
    close(last_frames(x, 3, earlier), torch.cat([earlier, x], 1)[:, -3:])
    close(last_frames(x, 3, None), torch.cat([torch.zeros(1, 3, 2, 4), x], 1)[:, -3:])


def test_convolutions_on_tokens_are_torchs(random):
    x = torch.randn(2, 3, 6, 4, generator=random)  # 2 rows of 3 cells
    grid = x.flatten(0, 1).unflatten(1, (2, 3)).permute(0, 3, 1, 2)

    def tokens(y):
        return y.permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, (2, 3))

    pointwise, depthwise = PointwiseConv(4, 5, bias=True), DepthwiseConv(4)
    close(pointwise(x), tokens(pointwise.conv(grid)))
    close(depthwise(x, 2), tokens(depthwise.conv(grid)))


def test_temporal_convolution_sees_the_left_chunk_and_zeros_on_the_right(random):
    layer = TemporalConv(4, 3)
    torch.nn.init.normal_(layer.weight, generator=random)
    x, tail = torch.randn(1, 5, 2, 4, generator=random), torch.randn(1, 1, 2, 4, generator=random)
    zero = torch.zeros_like(tail)

    def plain(window):  # [1, frames + 2, cells, d], valid convolution over frames
        return F.conv2d(window.permute(0, 3, 1, 2), layer.weight).permute(0, 2, 3, 1)

    first = plain(torch.cat([tail, x[:, :2], zero], 1))
    second = plain(torch.cat([x[:, 1:2], x[:, 2:], zero], 1))
    close(layer(x, ((0, 2), (2, 5)), tail), torch.cat([first, second], 1))
    close(layer(x, ((0, 5),), None), plain(torch.cat([zero, x, zero], 1)))


def test_feed_forward_starts_frame_wise(random):
    """The temporal kernel starts at zero: a new FFN knows no neighbouring frames."""
    layer, x = GluMbConv(4, 6, 3), torch.randn(1, 3, 6, 4, generator=random)
    whole, tail = layer(x, 2, ((0, 3),), None)
    single = [layer(x[:, i : i + 1], 2, ((0, 1),), None)[0] for i in range(3)]
    close(whole, torch.cat(single, 1))
    close(tail, whole[:, -1:])


# Timesteps


def test_timesteps_lose_their_fraction():
    layer = TimestepEmbed(8)
    given = torch.tensor([0.0, 936.0, 936.43, 936.99, 937.0])
    embedded = layer(given)
    assert torch.equal(embedded[1], embedded[2]) and torch.equal(embedded[1], embedded[3])
    assert not torch.equal(embedded[1], embedded[4])


def test_timestep_waves_are_cosines_then_sines():
    layer = TimestepEmbed(256)
    layer.mlp[0].weight.copy_(torch.eye(256))
    layer.mlp[0].bias.zero_()
    layer.mlp[1] = layer.mlp[2] = torch.nn.Identity()
    waves = layer(torch.tensor([7.0]))[0]
    angles = [7 * math.exp(-math.log(10000) * i / 128) for i in range(128)]
    close(waves, torch.tensor([*map(math.cos, angles), *map(math.sin, angles)]))
