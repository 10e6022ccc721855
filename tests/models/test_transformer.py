"""The whole network: its names, its gates, its numeric choices, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sana_wm_gym.models import numerics
from sana_wm_gym.models.attention import (
    DeltaRuleAttention,
    SoftmaxAttention,
    bounded,
    key_inflation,
)
from sana_wm_gym.models.numerics import EXACT, Numerics, padded_head_dim
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
CHUNKS = ChunkPlan((0, 2))


def flow(model, inputs, plan=CHUNKS, **changes):
    """The flow of inputs, with parts of their conditioning replaced."""
    latents, timestep, conditioning = inputs
    with torch.inference_mode():
        return model(latents, timestep, replace(conditioning, **changes), plan, None)[0]


# Names


@pytest.mark.parametrize("variant", ["bidirectional", "chunk_causal", "streaming"])
def test_released_state_dict(variant):
    """The default configuration has the released names, shapes and kinds, and nothing else."""
    manifest = json.loads((GOLDEN / f"manifest_{variant}.json").read_text())
    with torch.device("meta"):
        model = SanaWM(SanaWMConfig())
    ours = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    assert ours == {name: item["shape"] for name, item in manifest["state_dict"].items()}
    buffers = {name for name, item in manifest["state_dict"].items() if item["kind"] == "buffer"}
    assert {name for name, _ in model.named_buffers()} == buffers
    assert sum(p.numel() for p in model.parameters()) == manifest["total_parameters"] == 2661800448


def test_every_fourth_block_is_softmax():
    with torch.device("meta"):
        blocks = SanaWM(SanaWMConfig()).blocks
    softmax = [i for i, block in enumerate(blocks) if isinstance(block.attn, SoftmaxAttention)]
    assert softmax == [3, 7, 11, 15, 19]


def test_unread_entries_change_nothing(build, draw):
    full = build()
    small = SanaWM(replace(full.config, unread_entries=False), EXACT)
    small.load_state_dict(full.state_dict(), strict=False)
    unread = full.state_dict().keys() - small.state_dict().keys()
    assert {name.split(".")[-1] for name in unread} <= {
        *("recall_gate", "A_log", "dt_bias", "weight", "bias")
    }
    assert len(unread) == 4 + 2 + 2 * 6  # recall gates, raymap embedder, unused softmax gates
    assert torch.equal(flow(full, draw(4)), flow(small.eval(), draw(4)))


# Inputs


def test_shapes_of_results(build, draw):
    latents, timestep, conditioning = draw(5)
    out, state = build()(latents, timestep, conditioning, CHUNKS, None)
    assert out.shape == latents.shape
    assert state.frames.tolist() == [5, 5]
    assert len(state.blocks) == 4


def test_one_timestep_for_all_frames(build, draw):
    latents, _, conditioning = draw(4)
    scalar = torch.tensor([700.0, 30.0])
    repeated = scalar[:, None].expand(2, 4)
    flows = [flow(build(), (latents, timestep, conditioning)) for timestep in (scalar, repeated)]
    torch.testing.assert_close(*flows)


def test_masked_caption_tokens_are_not_read(build, draw):
    inputs = draw(3)
    base, text = flow(build(), inputs), inputs[2].text.clone()
    text[0, 3:] = 9.0  # masked in sample 0, read in sample 1
    assert torch.equal(base, flow(build(), inputs, text=text))
    text[1, 3:] = 9.0
    read = flow(build(), inputs, text=text)
    assert torch.equal(base[0], read[0])
    assert (base[1] - read[1]).abs().max() > 1e-3


def test_no_mask_keeps_every_token(build, draw):
    masks = (torch.ones(2, 5), None)
    torch.testing.assert_close(*[flow(build(), draw(3), text_mask=mask) for mask in masks])


@pytest.mark.parametrize("part", ["ray_from_world", "plucker"])
def test_every_part_of_the_camera_is_read(build, draw, part):
    base = flow(build(), draw(3))
    for other in (None, getattr(draw(3, seed=1)[2], part)):
        assert (flow(build(), draw(3), **{part: other}) - base).abs().max() > 1e-3


# Gates


def test_gates_lie_between_zero_and_one(build, draw):
    model = build()
    x = 3 * torch.randn(2, 4, 6, 32, generator=torch.Generator().manual_seed(0))
    for block in model.blocks:
        if isinstance(block.attn, DeltaRuleAttention):
            beta, decay = block.attn.gates(x)
            assert beta.shape == (2, 2, 4, 6) and decay.shape == (2, 2, 4)
            for gate in (beta, decay):
                assert gate.dtype == torch.float32
                assert ((gate > 0) & (gate < 1)).all()
            assert decay.std() > 1e-3 and beta.std() > 1e-3


def test_decay_follows_its_definition(build):
    attention = build().blocks[0].attn
    x = torch.randn(1, 3, 6, 32, generator=torch.Generator().manual_seed(1))
    _, decay = attention.gates(x)
    rate = attention.gate_proj(x.mean(2)) + attention.dt_bias
    expected = torch.exp(-torch.exp(attention.A_log) * F.softplus(rate))
    torch.testing.assert_close(decay, expected.permute(0, 2, 1))


def test_key_inflation_of_rigid_motions():
    x = torch.tensor([[3.0, 4.0, 0.0, 0.0]])
    assert key_inflation(2 * x, x).item() == pytest.approx(4.0)
    assert key_inflation(x, 0 * x).item() > 1e12  # floored, not infinite


# Numerics

ACTS = {
    "padded_main_scale": "always",
    "padded_camera_scale": "always",
    "bf16_softmax": "always",
    "causal_softmax": "several chunks",
    "camera_key_context": "several chunks",
    "renormalise_softmax_rays": "moving cameras",
    "renormalise_delta_rays": "moving cameras",
    "bounded_writes": "strong keys",
    "denominator_floor": "always",
}


def test_every_choice_is_tested():
    assert ACTS.keys() == Numerics.__dataclass_fields__.keys()


@pytest.mark.parametrize("name", ACTS)
def test_a_choice_acts_where_documented_and_nowhere_else(build, draw, name):
    plain, other = build(EXACT), build(replace(EXACT, **{name: not getattr(EXACT, name)}))
    moving = draw(5)

    if ACTS[name] == "strong keys":
        for model in (plain, other):
            for block in model.blocks:
                block.attn.k_norm.weight.data *= 4

    def difference(inputs, plan, **changes):
        flows = [flow(model, inputs, plan, **changes) for model in (plain, other)]
        return (flows[0] - flows[1]).abs().max()

    assert difference(moving, CHUNKS) > 1e-5
    if ACTS[name] == "several chunks":
        assert difference(moving, ChunkPlan()) < 1e-6
    if ACTS[name] == "moving cameras":
        assert difference(draw(5, reach=0.0), CHUNKS) < 1e-5
    if "camera" in name or "rays" in name:
        assert difference(moving, CHUNKS, ray_from_world=None) < 1e-6


@pytest.mark.parametrize(
    ("choice", "acting", "other"),
    [
        ("renormalise_softmax_rays", numerics.R0_BIDIRECTIONAL, numerics.R1_BIDIRECTIONAL),
        ("renormalise_delta_rays", numerics.DIFFUSERS_BIDIRECTIONAL, numerics.R0_BIDIRECTIONAL),
        ("padded_main_scale", numerics.R1_STREAMING, numerics.R1_BIDIRECTIONAL),
        ("padded_camera_scale", numerics.R1_BIDIRECTIONAL, numerics.R2_BIDIRECTIONAL),
        ("causal_softmax", numerics.R2_CHUNK_CAUSAL, numerics.R1_CHUNK_CAUSAL),
        ("camera_key_context", numerics.R2_STREAMING, numerics.R1_STREAMING),
    ],
)
def test_known_differences_between_the_published_revisions(choice, acting, other):
    assert getattr(acting, choice) and not getattr(other, choice)


def test_our_own_choices_are_in_no_published_revision():
    assert Numerics(bounded_writes=True, denominator_floor=0.5) == EXACT
    upstream = [value for name, value in vars(numerics).items() if name[:2] in ("R0", "R1", "R2")]
    assert len(upstream) == 7 and not any(
        preset.bounded_writes or preset.denominator_floor for preset in upstream
    )


def test_bounded_writes_never_amplify_a_memory():
    generator = torch.Generator().manual_seed(0)
    key = 3 * torch.randn(2, 3, 6, 2, 8, generator=generator)
    beta = torch.rand(2, 2, 3, 6, generator=generator)
    by_head = key.permute(0, 3, 1, 2, 4)

    def norm(gates):
        written = (gates[..., None] * by_head).transpose(-1, -2) @ by_head
        return torch.linalg.matrix_norm(torch.eye(8) - written, ord=2).max()

    assert norm(beta) > 2
    assert norm(bounded(beta, key)) <= 1 + 1e-6
    torch.testing.assert_close(bounded(beta, 1e-3 * key), beta)


@pytest.mark.parametrize(
    ("head_dim", "padded"), [(40, 128), (32, 32), (64, 64), (112, 128), (128, 128), (136, 256)]
)
def test_padded_head_dim(head_dim, padded):
    assert padded_head_dim(head_dim) == padded


# What does not fit


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"width": 33}, "expected a head dim"),
        ({"width": 24, "heads": 2}, "whole multiple of 8"),
        ({"temporal_kernel": 4}, "given temporal_kernel=4; expected an odd number"),
    ],
)
def test_sizes_that_make_no_network(change, expected):
    with pytest.raises(ValueError, match=expected):
        SanaWMConfig(**change)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x, t, c: (x[:, :5], t, c), r"given latents \(2, 5, 3, 2, 3\); expected \[b, 6,"),
        (lambda x, t, c: (x[0], t, c), r"given latents \(6, 3, 2, 3\)"),
        (lambda x, t, c: (x, t[:, :2], c), r"given timestep \(2, 2\); expected \(2,\) or \(2, 3\)"),
        (lambda x, t, c: (x, t[:, None], c), r"given timestep \(2, 1, 3\)"),
        (
            lambda x, t, c: (x, t, replace(c, ray_from_world=c.ray_from_world[:, :2])),
            r"given ray matrices \(2, 2, 2, 3, 4, 4\); expected \(2, 3, 2, 3, 4, 4\)",
        ),
        (
            lambda x, t, c: (x, t, replace(c, plucker=c.plucker[:, :6])),
            r"given Pluecker map \(2, 6, 3, 2, 3\); expected \(2, 48, 3, 2, 3\)",
        ),
        (lambda x, t, c: (x, t, replace(c, text=None)), "given no caption; this network reads one"),
    ],
)
def test_arguments_that_do_not_fit(build, draw, change, expected):
    with pytest.raises(ValueError, match=expected):
        build()(*change(*draw(3)), ChunkPlan(), None)


def test_a_caption_for_a_network_without_one(build, draw):
    model = SanaWM(replace(build().config, text_channels=None), EXACT)
    latents, timestep, conditioning = draw(3)
    with pytest.raises(ValueError, match="given a caption for a network built without one"):
        model(latents, timestep, conditioning, ChunkPlan(), None)
    silent = Conditioning(conditioning.ray_from_world, conditioning.plucker)
    assert model(latents, timestep, silent, ChunkPlan(), None)[0].shape == latents.shape
