"""The second stage: LTX-2's video transformer cleans the generator's latents, block by block.

Three Euler steps turn a block of noisy latents into refined ones, which attend to the first image's
latent (the sink) and to the blocks refined before. The modules are diffusers'; this is the pass
through their video half, with its past as a value. The bidirectional mode is one block of all
remaining frames: the sink attends to itself alone, so in either mode its keys are computed once.

Source: SANA-WM (arXiv 2605.15178) releases; spec "LTX-2 refiner". LTX-2 as in diffusers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from sana_wm_gym.models.text import PromptEmbedding

SIGMAS = (0.909375, 0.725, 0.421875, 0.0)
"""Noise levels of the released refiner, whose weights contain the distilled LoRA."""

Rope = tuple[Tensor, Tensor]
Trace = tuple[Tensor, Tensor, Tensor]
"""Keys before and after RoPE and values of one layer in one pass, [b, tokens, d] each."""


@dataclass(frozen=True)
class RefinerPlan:
    """How a clip is cut and what a block sees.

    Attributes:
        block: Latent frames refined together; None takes all after the sink at once.
        window: Latent frames that stay in view, the sink among them, the block itself not.
        fps: Frames per second of the video, the unit of LTX-2's time axis.
        sigmas: Noise levels from the first to 0.
    """

    block: int | None
    window: int = 11
    fps: float = 16.0
    sigmas: tuple[float, ...] = SIGMAS

    def __post_init__(self) -> None:
        if self.block is not None and self.block < 1:
            raise ValueError(f"given block={self.block}; expected at least 1, or None")
        if self.window < 1 or self.fps <= 0:
            raise ValueError(
                f"given window={self.window}, fps={self.fps}; expected window >= 1 and fps > 0"
            )
        falling = all(high > low for high, low in pairwise(self.sigmas))
        if len(self.sigmas) < 2 or not falling or self.sigmas[0] > 1 or self.sigmas[-1] != 0:
            raise ValueError(f"given sigmas={self.sigmas}; expected 1 >= falling levels, last 0")


CHUNK_CAUSAL = RefinerPlan(block=3)
"""The streaming release."""
BIDIRECTIONAL = RefinerPlan(block=None)
"""The bidirectional release."""


@dataclass(frozen=True)
class LayerMemory:
    """Past of one layer, tokens in (frame, row, column) order.

    Attributes:
        sink_key: Normalised keys of the sink before RoPE, [b, tokens, d]: its position changes.
        sink_value: [b, tokens, d].
        key: Keys of refined frames after RoPE at their own places, [b, n tokens, d]; n may be 0.
        value: [b, n tokens, d].
    """

    sink_key: Tensor
    sink_value: Tensor
    key: Tensor
    value: Tensor


@dataclass(frozen=True)
class RefinerState:
    """Past of the refiner.

    Attributes:
        frames: Latent frames seen, the sink among them, int64 [b]; the next frame's position.
        layers: One memory per layer.
    """

    frames: Tensor
    layers: tuple[LayerMemory, ...]


class Refiner(nn.Module):
    """Video-only LTX-2 with a sliding memory.

    Args:
        transformer: diffusers' `LTX2VideoTransformer3DModel`, with or without its audio half (see
            `video_only`).
        plan: Block size, window and noise levels.

    Raises:
        ValueError: The transformer merges latent cells or has LTX-2.3's gates and text modulation.
    """

    def __init__(self, transformer: nn.Module, plan: RefinerPlan) -> None:
        super().__init__()
        config: Any = transformer.config
        wanted: dict[str, Any] = dict.fromkeys(("patch_size", "patch_size_t"), 1)
        wanted |= {"gated_attn": False, "cross_attn_mod": False, "use_prompt_embeddings": True}
        given = {name: getattr(config, name) for name in wanted}
        if given != wanted:
            raise ValueError(f"given a transformer with {given}; expected {wanted}")
        from diffusers.models.transformers import transformer_ltx2 as ltx2

        # Any, because the library's submodules carry no types.
        self.transformer: Any = transformer
        self.plan = plan
        self._rotate = {
            "interleaved": ltx2.apply_interleaved_rotary_emb,
            "split": ltx2.apply_split_rotary_emb,
        }[config.rope_type]

    def begin(self, sink: Tensor, text: PromptEmbedding) -> RefinerState:
        """State before the first block.

        Args:
            sink: Latent of the first image [b, c, h, w]; it is not refined itself.
            text: Encoded prompt, of one row or b rows.
        """
        self._check(sink[:, :, None], text, None)
        frames = torch.zeros(sink.shape[0], dtype=torch.int64, device=sink.device)
        _, traces = self._pass(sink[:, :, None], 0.0, text, frames, ())
        # Copies of no tokens, because views would keep all of them alive.
        layers = tuple(
            LayerMemory(bare_key, value, key[:, :0].clone(), value[:, :0].clone())
            for bare_key, key, value in traces
        )
        return RefinerState(frames + 1, layers)

    def denoise(
        self, latents: Tensor, noise: Tensor, text: PromptEmbedding, state: RefinerState
    ) -> Tensor:
        """Refined latents of the next frames.

        Args:
            latents: The generator's next frames, [b, c, f, h, w].
            noise: Standard normal, shaped like `latents`.
            text: Encoded prompt.
            state: Past.

        Raises:
            ValueError: Shapes do not fit one another or the state.
        """
        self._check(latents, text, state)
        if noise.shape != latents.shape:
            raise ValueError(f"given noise {tuple(noise.shape)} for latents {tuple(latents.shape)}")
        first, kind = self.plan.sigmas[0], latents.dtype
        x = ((1 - first) * latents.float() + first * noise.float()).to(kind)
        for sigma, after in pairwise(self.plan.sigmas):
            velocity, _ = self._pass(x, sigma, text, state.frames, state.layers)
            # The released code rounds the prediction to the latents' precision, then steps.
            clean = (x.float() - sigma * velocity.float()).to(kind).float()
            keep = after / sigma
            x = (keep * x.float() + (1 - keep) * clean).to(kind)
        return x

    def remember(self, refined: Tensor, text: PromptEmbedding, state: RefinerState) -> RefinerState:
        """State after refined frames [b, c, f, h, w]: one clean pass, whose keys are kept.

        Raises:
            ValueError: Shapes do not fit the state.
        """
        self._check(refined, text, state)
        _, traces = self._pass(refined, 0.0, text, state.frames, state.layers)
        reach = (self.plan.window - 1) * refined.shape[3] * refined.shape[4]
        layers = tuple(
            replace(layer, key=_last(layer.key, key, reach), value=_last(layer.value, value, reach))
            for layer, (_, key, value) in zip(state.layers, traces, strict=True)
        )
        return RefinerState(state.frames + refined.shape[2], layers)

    def forward(
        self, latents: Tensor, noise: Tensor, text: PromptEmbedding, state: RefinerState
    ) -> tuple[Tensor, RefinerState]:
        """Refine one block and remember it; arguments as for `denoise`."""
        refined = self.denoise(latents, noise, text, state)
        return refined, self.remember(refined, text, state)

    def refine(self, latents: Tensor, noise: Tensor, text: PromptEmbedding) -> Tensor:
        """Refine a whole clip.

        Args:
            latents: [b, c, f, h, w]; frame 0 is the first image's, and comes back as it is.
            noise: Standard normal for the frames after it, [b, c, f - 1, h, w].
            text: Encoded prompt.

        Raises:
            ValueError: There is no frame after the first, or shapes do not fit.
        """
        rest = latents[:, :, 1:]
        if noise.shape != rest.shape or rest.shape[2] == 0:
            raise ValueError(
                f"given latents {tuple(latents.shape)} and noise {tuple(noise.shape)}; "
                "expected at least two frames, and noise for all but the first"
            )
        state, refined = self.begin(latents[:, :, 0], text), [latents[:, :, :1]]
        block = self.plan.block or rest.shape[2]
        for part, eps in zip(rest.split(block, dim=2), noise.split(block, dim=2), strict=True):
            if len(refined) > 1:
                state = self.remember(refined[-1], text, state)
            refined.append(self.denoise(part, eps, text, state))
        return torch.cat(refined, dim=2)

    def _pass(
        self,
        x: Tensor,
        sigma: float,
        text: PromptEmbedding,
        start: Tensor,
        past: tuple[LayerMemory, ...],
    ) -> tuple[Tensor, list[Trace]]:
        """Velocity of x [b, c, f, h, w] and every layer's keys and values; no past is no prefix."""
        net, (b, _, f, h, w) = self.transformer, x.shape
        kind = net.proj_in.weight.dtype
        rope = self._rope(start[:, None] + torch.arange(f, device=x.device), h, w)
        # The sink goes right before what is remembered, so it moves along with the window.
        behind = past[0].key.shape[1] // (h * w) if past else 0
        sink_rope = self._rope(start[:, None] - behind - 1, h, w) if past else rope
        timestep = torch.full((b,), sigma * net.config.timestep_scale_multiplier, device=x.device)
        modulation, embedded = net.time_embed(timestep, batch_size=b, hidden_dtype=kind)
        caption = net.caption_projection(text.features.to(kind).expand(b, -1, -1))
        text_bias = ((1 - text.mask.to(kind)) * -10000.0)[:, None].expand(b, -1, -1)

        tokens = net.proj_in(rearrange(x.to(kind), "b c f h w -> b (f h w) c"))
        traces = []
        for index, block in enumerate(net.transformer_blocks):
            table = block.get_mod_params(block.scale_shift_table, modulation[:, None], b)
            shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = table
            modulated = block.norm1(tokens) * (1 + scale_a) + shift_a
            layer = past[index] if past else None
            attended, trace = self._attend(block.attn1, modulated, rope, layer, sink_rope)
            traces.append(trace)
            tokens = tokens + attended * gate_a
            tokens = tokens + block.attn2(
                block.norm2(tokens), encoder_hidden_states=caption, attention_mask=text_bias
            )
            tokens = tokens + block.ff(block.norm3(tokens) * (1 + scale_f) + shift_f) * gate_f
        shift, scale = (net.scale_shift_table + embedded[:, None]).chunk(2, dim=1)
        velocity = net.proj_out(net.norm_out(tokens) * (1 + scale) + shift)
        return rearrange(velocity, "b (f h w) c -> b c f h w", f=f, h=h), traces

    def _attend(
        self, attn: Any, tokens: Tensor, rope: Rope, past: LayerMemory | None, sink_rope: Rope
    ) -> tuple[Tensor, Trace]:
        """Self-attention of tokens [b, n, d] to sink, remembered frames and themselves."""
        query = self._rotate(attn.norm_q(attn.to_q(tokens)), rope)
        bare_key, value = attn.norm_k(attn.to_k(tokens)), attn.to_v(tokens)
        key = self._rotate(bare_key, rope)
        keys, values = [key], [value]
        if past is not None:
            keys = [self._rotate(past.sink_key, sink_rope), past.key, key]
            values = [past.sink_value, past.value, value]
        joined = (query, torch.cat(keys, dim=1), torch.cat(values, dim=1))
        q, k, v = (rearrange(part, "b n (a d) -> b a n d", a=attn.heads) for part in joined)
        mixed = rearrange(F.scaled_dot_product_attention(q, k, v), "b a n d -> b n (a d)")
        return attn.to_out[0](mixed), (bare_key, key, value)

    def _rope(self, frames: Tensor, rows: int, columns: int) -> Rope:
        """Rotations of whole latent frames at positions [b, f].

        Latent p covers pixel frames [max(0, 8 p - 7), 8 p + 1), in seconds, and cells of 32
        pixels; the numbers are the transformer's own.
        """
        rope = self.transformer.rope
        scale = torch.tensor(rope.scale_factors, dtype=torch.float32, device=frames.device)
        edges = torch.tensor([0.0, 1.0], device=frames.device)
        time = (frames[..., None] + edges) * scale[0] + rope.causal_offset - scale[0]
        time = time.clamp(min=0) / self.plan.fps
        row = (torch.arange(rows, device=frames.device)[:, None] + edges) * scale[1]
        column = (torch.arange(columns, device=frames.device)[:, None] + edges) * scale[2]
        b, f = frames.shape
        coordinates = torch.stack(
            [
                repeat(time, "b f e -> b (f h w) e", h=rows, w=columns),
                repeat(row, "h e -> b (f h w) e", b=b, f=f, w=columns),
                repeat(column, "w e -> b (f h w) e", b=b, f=f, h=rows),
            ],
            dim=1,
        )
        rotation: Rope = rope(coordinates)
        return rotation

    def _check(self, latents: Tensor, text: PromptEmbedding, state: RefinerState | None) -> None:
        config = self.transformer.config
        if latents.ndim != 5 or latents.shape[1] != config.in_channels or latents.shape[2] == 0:
            raise ValueError(
                f"given latents {tuple(latents.shape)}; "
                f"expected [b, {config.in_channels}, f >= 1, h, w]"
            )
        if text.features.ndim != 3 or text.features.shape[2] != config.caption_channels:
            raise ValueError(
                f"given text features {tuple(text.features.shape)}; "
                f"expected [1 or b, l, {config.caption_channels}]"
            )
        if state is not None:
            (b, _, _, h, w), sink = latents.shape, state.layers[0].sink_key.shape
            if sink[:2] != (b, h * w):
                raise ValueError(
                    f"given {b} rows of {h * w} cells with a state of {sink[0]} rows of {sink[1]}"
                )


def video_only(transformer: nn.Module) -> nn.Module:
    """The same transformer without its audio half, which a `Refiner` never calls.

    At full size 13.0 of 18.9 B parameters remain. The given module is changed.
    """
    net: Any = transformer
    audio = re.compile("audio|a2v|^av_|^cross_attn")
    for module in (net, *net.transformer_blocks):
        own = [*module.named_parameters(recurse=False), *module.named_children()]
        for name, _ in own:
            if audio.search(name):
                delattr(module, name)
    return transformer


def _last(past: Tensor, new: Tensor, reach: int) -> Tensor:
    """The last `reach` tokens of [b, tokens, d] joined along time, as an owned tensor."""
    surplus = max(past.shape[1] + new.shape[1] - reach, 0)
    return torch.cat([past[:, surplus:], new[:, max(new.shape[1] - reach, 0) :]], dim=1)
