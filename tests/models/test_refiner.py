"""The refiner against diffusers' own two ways of running the same modules, and its laws."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, LTX2VideoTransformer3DModel
from tiny_networks import CHANNELS, COLUMNS, LTX, ROWS, draw, ltx
from torch import Tensor

from sana_wm_gym import values
from sana_wm_gym.models.refiner import (
    BIDIRECTIONAL,
    CHUNK_CAUSAL,
    SIGMAS,
    Refiner,
    RefinerPlan,
    RefinerState,
    video_only,
)
from sana_wm_gym.models.state import named_tensors, stack
from sana_wm_gym.models.text import PromptEmbedding

network = cache(ltx)
"""A tiny random transformer per RoPE type; not changed by any test."""


@pytest.fixture(autouse=True)
def _no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def refiner() -> Refiner:
    """The streaming release's plan."""
    return Refiner(network(), CHUNK_CAUSAL)


def blocks(latents: Tensor, noise: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Blocks of three frames after the first, with their noise."""
    parts = latents[:, :, 1:].split(3, dim=2), noise.split(3, dim=2)
    return list(zip(*parts, strict=True))


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_all_at_once_is_the_mcalls_forward_of_the_library(rope_type: str) -> None:
    """Sink tokens see the sink, the others see everything: here by one explicit mask."""
    net, (latents, noise, text) = network(rope_type), draw(5)
    sigma = 0.9
    got = Refiner(net, RefinerPlan(block=None, sigmas=(sigma, 0.0))).refine(latents, noise, text)

    cells = ROWS * COLUMNS
    noisy = (1 - sigma) * latents[:, :, 1:] + sigma * noise
    x = torch.cat([latents[:, :, :1], noisy], dim=2)
    sigmas = torch.full((1, 5 * cells), sigma)
    sigmas[:, :cells] = 0
    mask = torch.ones(1, 5 * cells, 5 * cells)
    mask[:, :cells, cells:] = 0
    velocity = net(
        hidden_states=x.flatten(2).mT,
        audio_hidden_states=torch.zeros(1, 2, 3),
        encoder_hidden_states=text.features,
        audio_encoder_hidden_states=text.features,
        timestep=1000 * sigmas,
        audio_timestep=torch.zeros(1, 2),
        encoder_attention_mask=text.mask,
        audio_encoder_attention_mask=text.mask,
        num_frames=5,
        height=ROWS,
        width=COLUMNS,
        fps=16.0,
        audio_num_frames=2,
        isolate_modalities=True,
        video_self_attention_mask=mask,
    ).sample
    expected = x - (sigmas[..., None] * velocity).mT.reshape(x.shape)
    assert torch.allclose(got, expected, atol=2e-5)
    assert not torch.allclose(got[:, :, 1:], noisy, atol=0.1)


def test_chunk_causal_is_the_refiner_of_diffusers() -> None:
    """17 frames: the window of 11 fills, and cuts a block in the middle."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import (
        SanaWMLTX2RefinerTransformer3DModel,
    )
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    net, (latents, _, text) = network(), draw(17)
    theirs = SanaWMLTX2RefinerTransformer3DModel(**LTX, rope_type="split").eval()
    theirs.load_state_dict(net.state_dict(), strict=False)
    pipe = SanaWMLTX2Refiner(
        transformer=theirs,
        connectors=None,
        tokenizer=None,
        text_encoder=None,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )
    pipe.set_progress_bar_config(disable=True)
    pipe._encode_prompt = lambda *_, **__: (text.features, text.mask)
    expected = pipe(
        latents, "", fps=16, generator=torch.Generator().manual_seed(5), output_type="latent"
    )
    random = torch.Generator().manual_seed(5)
    noise = [torch.randn(1, CHANNELS, n, ROWS, COLUMNS, generator=random) for n in (3,) * 5 + (1,)]
    got = Refiner(net, CHUNK_CAUSAL).refine(latents, torch.cat(noise, dim=2), text)
    assert torch.allclose(got, expected, atol=2e-5)
    assert not torch.allclose(got[:, :, 1:], latents[:, :, 1:], atol=0.1)


def test_streaming_with_snapshots_is_one_shot(refiner: Refiner) -> None:
    latents, noise, text = draw(16)
    expected = refiner.refine(latents, noise, text)
    state, parts = refiner.begin(latents[:, :, 0], text), [latents[:, :, :1]]
    for block in blocks(latents, noise):
        state = values.unpack(RefinerState, values.pack(state))
        part, state = refiner(*block, text, state)
        parts.append(part)
    assert torch.equal(torch.cat(parts, dim=2), expected)
    assert state.frames.tolist() == [16]


def test_one_block_of_everything_is_all_at_once(refiner: Refiner) -> None:
    once = Refiner(network(), BIDIRECTIONAL)
    assert torch.equal(once.refine(*draw(4)), refiner.refine(*draw(4)))
    assert not torch.allclose(once.refine(*draw(7)), refiner.refine(*draw(7)), atol=1e-3)


def test_blocks_do_not_see_the_future(refiner: Refiner) -> None:
    latents, noise, text = draw(10)
    changed = latents.clone()
    changed[:, :, 7:] += 1
    ours, other = refiner.refine(latents, noise, text), refiner.refine(changed, noise, text)
    assert torch.equal(ours[:, :, :7], other[:, :, :7])
    assert not torch.allclose(ours[:, :, 7:], other[:, :, 7:], atol=1e-2)
    changed = latents.clone()
    changed[:, :, 0] += 1
    touched = (refiner.refine(changed, noise, text) - ours).abs().amax(dim=(0, 1, 3, 4))
    assert (touched > 1e-4).all()


def test_memory_grows_by_blocks_to_the_window_and_is_owned(refiner: Refiner) -> None:
    latents, noise, text = draw(19)
    state, remembered, bytes_held = refiner.begin(latents[:, :, 0], text), [], []
    for block in blocks(latents, noise):
        _, state = refiner(*block, text, state)
        remembered.append(state.layers[0].key.shape[1] // (ROWS * COLUMNS))
        tensors = named_tensors(state).values()
        bytes_held.append(sum(t.untyped_storage().nbytes() for t in tensors))
        assert bytes_held[-1] == sum(t.numel() * t.element_size() for t in tensors)
    assert remembered == [3, 6, 9, 10, 10, 10]
    assert bytes_held[3] == bytes_held[-1]


def test_a_call_leaves_the_state_as_it_was(refiner: Refiner) -> None:
    latents, noise, text = draw(4)
    state = refiner.begin(latents[:, :, 0], text)
    before = {name: tensor.clone() for name, tensor in named_tensors(state).items()}
    first = refiner(latents[:, :, 1:], noise, text, state)[0]
    assert all(torch.equal(before[k], v) for k, v in named_tensors(state).items())
    assert torch.equal(refiner(latents[:, :, 1:], noise, text, state)[0], first)


def test_states_of_a_batch_are_independent_and_may_be_at_different_times() -> None:
    refiner = Refiner(network(), RefinerPlan(block=3, window=4))
    latents, noise, text = draw(10, batch=2)

    def state_after(which: slice, blocks: int) -> RefinerState:
        state = refiner.begin(latents[which, :, 0], text)
        for k in range(blocks):
            span = slice(1 + 3 * k, 4 + 3 * k)
            state = refiner.remember(latents[which, :, span], text, state)
        return state

    early, late = state_after(slice(0, 1), 1), state_after(slice(1, 2), 2)
    joined = stack([early, late])
    args = latents[:, :, 7:], noise[:, :, 6:]
    both = refiner.denoise(*args, text, joined)
    for index, state in enumerate((early, late)):
        alone = refiner.denoise(*(part[index : index + 1] for part in args), text, state)
        assert torch.allclose(both[index : index + 1], alone, atol=1e-5)
    # Time is read from each state's own position.
    moved = replace(joined, frames=joined.frames + 40)
    assert not torch.allclose(refiner.denoise(*args, text, moved), both, atol=1e-4)


def test_a_perfect_velocity_leads_to_its_latents(monkeypatch: pytest.MonkeyPatch) -> None:
    """v = (x - z) / sigma points at z from anywhere, whatever the noise."""
    refiner, (latents, noise, text) = Refiner(network(), BIDIRECTIONAL), draw(4)
    goal, calls = torch.randn(1, CHANNELS, 3, ROWS, COLUMNS), []

    def perfect(x: Tensor, sigma: float, *_: object) -> tuple[Tensor, list[object]]:
        calls.append((sigma, x))
        return (x - goal) / sigma, []

    state = refiner.begin(latents[:, :, 0], text)
    monkeypatch.setattr(refiner, "_pass", perfect)
    refined = refiner.denoise(latents[:, :, 1:], noise, text, state)
    assert torch.allclose(refined, goal, atol=1e-6)
    assert [sigma for sigma, _ in calls] == list(SIGMAS[:-1])
    start = 0.090625 * latents[:, :, 1:] + 0.909375 * noise
    assert torch.allclose(calls[0][1], start, atol=1e-6)
    for (sigma, x), (after, y) in zip(calls, calls[1:], strict=False):
        assert torch.allclose(y, after / sigma * x + (1 - after / sigma) * goal, atol=1e-6)


def test_positions_are_seconds_and_pixels_of_the_library(refiner: Refiner) -> None:
    rope = refiner.transformer.rope
    expected = rope(rope.prepare_video_coords(1, 6, ROWS, COLUMNS, torch.device("cpu"), fps=16.0))
    got = refiner._rope(torch.arange(6)[None], ROWS, COLUMNS)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_audio_half_is_not_needed(refiner: Refiner) -> None:
    lean = ltx()
    whole = sum(p.numel() for p in lean.parameters())
    video_only(lean)
    assert not any("audio" in name or "a2v" in name for name in lean.state_dict())
    assert sum(p.numel() for p in lean.parameters()) < 0.8 * whole
    got = Refiner(lean, CHUNK_CAUSAL).refine(*draw(7))
    assert torch.equal(got, refiner.refine(*draw(7)))


def test_full_size_is_as_the_documentation_says() -> None:
    with torch.device("meta"):
        net = LTX2VideoTransformer3DModel()
    assert sum(p.numel() for p in net.parameters()) == 18_876_174_592
    assert sum(p.numel() for p in video_only(net).parameters()) == 13_041_520_768
    window = CHUNK_CAUSAL.window * 880 * 2 * net.proj_in.out_features * 2
    assert window * len(net.transformer_blocks) == pytest.approx(7.6e9, rel=0.01)


def test_half_precision_stays_half(refiner: Refiner) -> None:
    rough, (latents, noise, text) = Refiner(ltx().to(torch.bfloat16), CHUNK_CAUSAL), draw(7)
    exact = refiner.refine(latents, noise, text)
    half = rough.refine(latents.bfloat16(), noise.bfloat16(), text)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 0.05
    state = rough.begin(latents[:, :, 0].bfloat16(), text)
    assert {t.dtype for t in named_tensors(state).values()} == {torch.int64, torch.bfloat16}


def test_shapes_that_do_not_fit(refiner: Refiner) -> None:
    latents, noise, text = draw(4)
    state = refiner.begin(latents[:, :, 0], text)
    with pytest.raises(ValueError, match=r"given noise \(1, 4, 2, 2, 3\)"):
        refiner(latents[:, :, 1:], noise[:, :, :2], text, state)
    with pytest.raises(ValueError, match=r"expected \[b, 4, f >= 1, h, w\]"):
        refiner(latents[:, :2, 1:], noise[:, :2], text, state)
    with pytest.raises(ValueError, match="1 rows of 4 cells with a state of 1 rows of 6"):
        refiner(latents[..., 1:, :2, :2], noise[..., :2, :2], text, state)
    with pytest.raises(ValueError, match=r"\[1 or b, l, 10\]"):
        refiner.begin(latents[:, :, 0], PromptEmbedding(text.features[..., :3], text.mask))
    with pytest.raises(ValueError, match="at least two frames"):
        refiner.refine(latents[:, :, :1], noise[:, :, :0], text)


@pytest.mark.parametrize(
    "setting", [{"gated_attn": True}, {"cross_attn_mod": True}, {"patch_size": 2}]
)
def test_a_later_ltx_is_refused(setting: dict[str, Any]) -> None:
    config = SimpleNamespace(**{**network().config, **setting})
    with pytest.raises(ValueError, match=next(iter(setting))):
        Refiner(SimpleNamespace(config=config), CHUNK_CAUSAL)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "setting",
    [
        {"block": 0},
        {"window": 0},
        {"fps": 0.0},
        {"sigmas": (0.5,)},
        {"sigmas": (0.5, 0.5, 0.0)},
        {"sigmas": (0.5, 0.1)},
        {"sigmas": (1.5, 0.0)},
    ],
)
def test_impossible_plans_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(setting))):
        RefinerPlan(**{"block": 3, **setting})
