"""The refiner against diffusers' own two ways of running the same modules, and its laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("diffusers", minversion="0.42")

from diffusers import FlowMatchEulerDiscreteScheduler, LTX2VideoTransformer3DModel

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

CHANNELS, ROWS, COLUMNS, CAPTION = 4, 2, 3, 10
SIZE = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "audio_in_channels": 3,
    "audio_out_channels": 3,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 12,
    "num_layers": 3,
    "caption_channels": CAPTION,
}
Make = Callable[[str], Any]


@pytest.fixture(scope="module")
def network() -> Make:
    """A tiny random transformer per RoPE type; do not change it."""
    made: dict[str, Any] = {}

    def make(rope_type: str = "split") -> Any:
        if rope_type not in made:
            torch.manual_seed(3)
            made[rope_type] = LTX2VideoTransformer3DModel(**SIZE, rope_type=rope_type).eval()
        return made[rope_type]

    return make


@pytest.fixture(autouse=True)
def _no_gradients() -> Any:
    with torch.inference_mode():
        yield


def draw(frames: int, batch: int = 1, seed: int = 0) -> tuple[Tensor, Tensor, PromptEmbedding]:
    """Latents of `frames`, noise for all but the first, and an encoded prompt with padding."""
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, CHANNELS, frames, ROWS, COLUMNS, generator=random)
    noise = torch.randn(batch, CHANNELS, frames - 1, ROWS, COLUMNS, generator=random)
    text = torch.randn(1, 5, CAPTION, generator=random)
    return latents, noise, PromptEmbedding(text, torch.tensor([[1, 1, 1, 0, 1]]))


@pytest.mark.parametrize("rope_type", ["split", "interleaved"])
def test_all_at_once_is_the_masked_forward_of_the_library(network: Make, rope_type: str) -> None:
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


def test_chunk_causal_is_the_refiner_of_diffusers(network: Make) -> None:
    """17 frames: the window of 11 fills, and cuts a block in the middle."""
    from diffusers.models.transformers.transformer_sana_wm_refiner import (
        SanaWMLTX2RefinerTransformer3DModel,
    )
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    net, (latents, _, text) = network("split"), draw(17)
    theirs = SanaWMLTX2RefinerTransformer3DModel(**SIZE, rope_type="split").eval()
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


def test_streaming_with_snapshots_is_one_shot(network: Make) -> None:
    refiner, (latents, noise, text) = Refiner(network("split"), CHUNK_CAUSAL), draw(16)
    expected = refiner.refine(latents, noise, text)
    state, parts = refiner.begin(latents[:, :, 0], text), [latents[:, :, :1]]
    for start in range(1, 16, 3):
        state = values.unpack(RefinerState, values.pack(state))
        part, state = refiner(
            latents[:, :, start : start + 3], noise[:, :, start - 1 : start + 2], text, state
        )
        parts.append(part)
    assert torch.equal(torch.cat(parts, dim=2), expected)
    assert state.frames.tolist() == [16]


def test_one_block_of_everything_is_all_at_once(network: Make) -> None:
    latents, noise, text = draw(4)
    once = Refiner(network("split"), BIDIRECTIONAL).refine(latents, noise, text)
    block = Refiner(network("split"), CHUNK_CAUSAL).refine(latents, noise, text)
    assert torch.equal(once, block)
    longer = draw(7)
    once = Refiner(network("split"), BIDIRECTIONAL).refine(*longer)
    assert not torch.allclose(
        once, Refiner(network("split"), CHUNK_CAUSAL).refine(*longer), atol=1e-3
    )


def test_blocks_do_not_see_the_future(network: Make) -> None:
    refiner, (latents, noise, text) = Refiner(network("split"), CHUNK_CAUSAL), draw(10)
    changed = latents.clone()
    changed[:, :, 7:] += 1
    ours, other = refiner.refine(latents, noise, text), refiner.refine(changed, noise, text)
    assert torch.equal(ours[:, :, :7], other[:, :, :7])
    assert not torch.allclose(ours[:, :, 7:], other[:, :, 7:], atol=1e-2)
    changed = latents.clone()
    changed[:, :, 0] += 1
    touched = (refiner.refine(changed, noise, text) - ours).abs().amax(dim=(0, 1, 3, 4))
    assert (touched > 1e-4).all()


def test_memory_grows_by_blocks_to_the_window_and_is_owned(network: Make) -> None:
    refiner, (latents, noise, text) = Refiner(network("split"), CHUNK_CAUSAL), draw(19)
    state, remembered, bytes_held = refiner.begin(latents[:, :, 0], text), [], []
    for start in range(1, 19, 3):
        _, state = refiner(
            latents[:, :, start : start + 3], noise[:, :, start - 1 : start + 2], text, state
        )
        remembered.append(state.layers[0].key.shape[1] // (ROWS * COLUMNS))
        tensors = named_tensors(state).values()
        bytes_held.append(sum(t.untyped_storage().nbytes() for t in tensors))
        assert bytes_held[-1] == sum(t.numel() * t.element_size() for t in tensors)
    assert remembered == [3, 6, 9, 10, 10, 10]
    assert bytes_held[3] == bytes_held[-1]


def test_a_call_leaves_the_state_as_it_was(network: Make) -> None:
    refiner, (latents, noise, text) = Refiner(network("split"), CHUNK_CAUSAL), draw(4)
    state = refiner.begin(latents[:, :, 0], text)
    before = {name: tensor.clone() for name, tensor in named_tensors(state).items()}
    first = refiner(latents[:, :, 1:], noise, text, state)[0]
    assert all(torch.equal(before[k], v) for k, v in named_tensors(state).items())
    assert torch.equal(refiner(latents[:, :, 1:], noise, text, state)[0], first)


def test_rows_of_a_batch_are_independent_and_may_be_at_different_times(network: Make) -> None:
    refiner = Refiner(network("split"), RefinerPlan(block=3, window=4))
    latents, noise, text = draw(10, batch=2)

    def state_after(row: slice, blocks: int) -> RefinerState:
        state = refiner.begin(latents[row, :, 0], text)
        for k in range(blocks):
            span = slice(1 + 3 * k, 4 + 3 * k)
            state = refiner.remember(latents[row, :, span], text, state)
        return state

    early, late = state_after(slice(0, 1), 1), state_after(slice(1, 2), 2)
    joined = stack([early, late])
    args = latents[:, :, 7:], noise[:, :, 6:]
    both = refiner.denoise(*args, text, joined)
    for row, state in enumerate((early, late)):
        alone = refiner.denoise(*(part[row : row + 1] for part in args), text, state)
        assert torch.allclose(both[row : row + 1], alone, atol=1e-5)
    # Time is read from each row's own position.
    moved = replace(joined, frames=joined.frames + 40)
    assert not torch.allclose(refiner.denoise(*args, text, moved), both, atol=1e-4)


def test_a_perfect_velocity_leads_to_its_latents(
    network: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """v = (x - z) / sigma points at z from anywhere, whatever the noise."""
    refiner, (latents, noise, text) = Refiner(network("split"), BIDIRECTIONAL), draw(4)
    goal, asked = torch.randn(1, CHANNELS, 3, ROWS, COLUMNS), []

    def perfect(x: Tensor, sigma: float, *_: object) -> tuple[Tensor, list[object]]:
        asked.append((sigma, x))
        return (x - goal) / sigma, []

    state = refiner.begin(latents[:, :, 0], text)
    monkeypatch.setattr(refiner, "_pass", perfect)
    refined = refiner.denoise(latents[:, :, 1:], noise, text, state)
    assert torch.allclose(refined, goal, atol=1e-6)
    assert [sigma for sigma, _ in asked] == list(SIGMAS[:-1])
    start = 0.090625 * latents[:, :, 1:] + 0.909375 * noise
    assert torch.allclose(asked[0][1], start, atol=1e-6)
    for (sigma, x), (after, y) in zip(asked, asked[1:], strict=False):
        assert torch.allclose(y, after / sigma * x + (1 - after / sigma) * goal, atol=1e-6)


def test_positions_are_seconds_and_pixels_of_the_library(network: Make) -> None:
    refiner = Refiner(network("split"), CHUNK_CAUSAL)
    rope = refiner.transformer.rope
    expected = rope(rope.prepare_video_coords(1, 6, ROWS, COLUMNS, torch.device("cpu"), fps=16.0))
    got = refiner._rope(torch.arange(6)[None], ROWS, COLUMNS)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_audio_half_is_not_needed(network: Make) -> None:
    latents, noise, text = draw(7)
    expected = Refiner(network("split"), CHUNK_CAUSAL).refine(latents, noise, text)
    lean = LTX2VideoTransformer3DModel(**SIZE, rope_type="split").eval()
    lean.load_state_dict(network("split").state_dict())
    whole = sum(p.numel() for p in lean.parameters())
    video_only(lean)
    assert not any("audio" in name or "a2v" in name for name in lean.state_dict())
    assert sum(p.numel() for p in lean.parameters()) < 0.8 * whole
    assert torch.equal(Refiner(lean, CHUNK_CAUSAL).refine(latents, noise, text), expected)


def test_full_size_is_as_the_documentation_says() -> None:
    with torch.device("meta"):
        net = LTX2VideoTransformer3DModel()
    assert sum(p.numel() for p in net.parameters()) == 18_876_174_592
    assert sum(p.numel() for p in video_only(net).parameters()) == 13_041_520_768
    window = CHUNK_CAUSAL.window * 880 * 2 * net.proj_in.out_features * 2
    assert window * len(net.transformer_blocks) == pytest.approx(7.6e9, rel=0.01)


def test_half_precision_stays_half(network: Make) -> None:
    net = LTX2VideoTransformer3DModel(**SIZE, rope_type="split").eval()
    net.load_state_dict(network("split").state_dict())
    refiner = Refiner(net.to(torch.bfloat16), CHUNK_CAUSAL)
    latents, noise, text = draw(7)
    exact = Refiner(network("split"), CHUNK_CAUSAL).refine(latents, noise, text)
    half = refiner.refine(latents.bfloat16(), noise.bfloat16(), text)
    assert half.dtype == torch.bfloat16
    assert (half.float() - exact).norm() / exact.norm() < 0.05
    state = refiner.begin(latents[:, :, 0].bfloat16(), text)
    assert {t.dtype for t in named_tensors(state).values()} == {torch.int64, torch.bfloat16}


def test_misfits_are_told(network: Make) -> None:
    refiner, (latents, noise, text) = Refiner(network("split"), CHUNK_CAUSAL), draw(4)
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
def test_a_later_ltx_is_refused(network: Make, setting: dict[str, Any]) -> None:
    config = SimpleNamespace(**{**network("split").config, **setting})
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
