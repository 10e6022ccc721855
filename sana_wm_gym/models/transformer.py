"""The SANA-WM Stage-1 diffusion transformer, at any size.

One `forward` serves the bidirectional, chunk-causal and streaming generators: what differs is an
argument (`ChunkPlan`, `GeneratorState`) or chosen when the network is built (`Numerics`).

Source: SANA-WM (arXiv 2605.15178) and its public streaming release.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.models.attention import CameraFrame, DeltaRuleAttention, SoftmaxAttention
from sana_wm_gym.models.kernels import RMSNorm
from sana_wm_gym.models.layers import (
    CellEmbed,
    CrossAttention,
    GluMbConv,
    TextEmbed,
    TimestepEmbed,
    camera_rope_table,
    rigid_inverse,
    rope_table,
)
from sana_wm_gym.models.numerics import R1_STREAMING, Numerics
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import BlockMemory, GeneratorState

LAYER_NORM_EPS = 1e-6
TEXT_NORM_EPS = 1e-5


@dataclass(frozen=True)
class SanaWMConfig:
    """Size of a SANA-WM transformer; the defaults are the released 2.6 B-parameter network.

    Attributes:
        latent_channels: Channels of a latent cell.
        width: Token width d.
        depth: Number of blocks.
        heads: Attention heads; head dim = width / heads, a multiple of 8.
        softmax_every: Every n-th block attends by softmax, the others by the delta rule.
        mlp_ratio: FFN hidden width over `width`.
        text_channels: Caption feature width; None builds a network without caption parts.
        text_tokens: Caption length of the stored null caption.
        conv_kernel: Taps of the key convolution.
        temporal_kernel: Taps of the FFN's temporal convolution, odd.
        plucker_channels: Channels of the Pluecker map, 8 frames x 6.
        position_entries: Length of upstream's unread `pos_embed`; 0 leaves it out.
        unread_entries: Keep the other weights that the released checkpoints carry and nothing
            reads, so that state dicts are interchangeable.
    """

    latent_channels: int = 128
    width: int = 2240
    depth: int = 20
    heads: int = 20
    softmax_every: int = 4
    mlp_ratio: float = 3.0
    text_channels: int | None = 2304
    text_tokens: int = 300
    conv_kernel: int = 4
    temporal_kernel: int = 3
    plucker_channels: int = 48
    position_entries: int = 484
    unread_entries: bool = True

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 8:
            raise ValueError(
                f"given width={self.width}, heads={self.heads}; expected a head dim that is a "
                "whole multiple of 8 (the camera branch splits it into 4-vectors and pairs)"
            )
        if self.temporal_kernel % 2 == 0:
            raise ValueError(
                f"given temporal_kernel={self.temporal_kernel}; expected an odd number"
            )


@dataclass(frozen=True)
class Conditioning:
    """All the generator reads besides noise and state, for the latent frames of one call.

    Attributes:
        ray_from_world: Per-cell rigid motions into the ray frames (UCPE), [b, f, h, w, 4, 4];
            None drops the camera branch.
        plucker: Pluecker coordinates of 8 pixel frames per latent, [b, 48, f, h, w]; None drops it.
        text: Caption features [b, l, text_channels]; None for a network built without them.
        text_mask: 1 keeps a caption token, [b, l]; None keeps all.
    """

    ray_from_world: Tensor | None
    plucker: Tensor | None
    text: Tensor | None = None
    text_mask: Tensor | None = None


@dataclass(frozen=True)
class BlockContext:
    """What all blocks of one call read besides the tokens: `Conditioning`, embedded, and more.

    Attributes:
        modulation: Shifts, scales and gates from the timestep, [b, f or 1, 6, d].
        rope: Rotary factors of the main branch.
        camera: Ray frames of the camera branch; None without cameras.
        plucker: [b, f, s, d], or None.
        text: [b, l, d], or None.
        text_mask: [b, l], or None.
        rows: Of the latent grid.
        plan: Chunks within the call.
    """

    modulation: Tensor
    rope: Tensor
    camera: CameraFrame | None
    plucker: Tensor | None
    text: Tensor | None
    text_mask: Tensor | None
    rows: int
    plan: ChunkPlan


class Block(nn.Module):
    """Attention, Pluecker term, caption attention and FFN around one residual stream."""

    def __init__(self, config: SanaWMConfig, numerics: Numerics, softmax: bool) -> None:
        super().__init__()
        width, heads, extras = config.width, config.heads, config.unread_entries
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn = (
            SoftmaxAttention(width, heads, numerics, extras)
            if softmax
            else DeltaRuleAttention(width, heads, numerics, extras, config.conv_kernel)
        )
        self.plucker_proj = nn.Linear(width, width)
        self.cross_attn = CrossAttention(width, heads) if config.text_channels else None
        self.mlp = GluMbConv(width, int(width * config.mlp_ratio), config.temporal_kernel)

    def forward(
        self, x: Tensor, context: BlockContext, memory: BlockMemory | None
    ) -> tuple[Tensor, BlockMemory]:
        """x [b, f, s, d]; returns the new x and memory."""
        table = self.scale_shift_table + context.modulation
        shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = table[:, :, :, None].unbind(2)
        past, tail = (None, None) if memory is None else (memory.attention, memory.ffn_tail)

        attended, attention_memory = self.attn(
            modulate(x, shift_a, scale_a), context.rope, context.camera, context.plan, past
        )
        x = x + gate_a * attended
        if context.plucker is not None:
            x = x + self.plucker_proj(context.plucker)
        if self.cross_attn is not None:
            x = x + self.cross_attn(x, context.text, context.text_mask)
        spans = context.plan.spans(x.shape[1])
        mixed, ffn_tail = self.mlp(modulate(x, shift_f, scale_f), context.rows, spans, tail)
        return x + gate_f * mixed, BlockMemory(attention_memory, ffn_tail)


class FinalLayer(nn.Module):
    """Modulated norm and projection to latent channels."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.linear = nn.Linear(width, channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """x [b, f, s, d], time [b, f or 1, d]."""
        shift, scale = (self.scale_shift_table + time[:, :, None])[:, :, :, None].unbind(2)
        return self.linear(modulate(x, shift, scale))


class SanaWM(nn.Module):
    """Predicts the flow of latent frames under camera control.

    Args:
        config: Size.
        numerics: Upstream revision to agree with; see `sana_wm_gym.models.numerics`.
    """

    def __init__(self, config: SanaWMConfig, numerics: Numerics = R1_STREAMING) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.x_embedder = CellEmbed(config.latent_channels, width)
        self.t_embedder = TimestepEmbed(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.plucker_embedder = CellEmbed(config.plucker_channels, width)
        if config.text_channels:
            self.y_embedder = TextEmbed(config.text_channels, width, config.text_tokens)
            self.attention_y_norm = RMSNorm(width, eps=TEXT_NORM_EPS)
        if config.unread_entries:
            self.raymap_embedder = CellEmbed(3, width)
        if config.position_entries:
            self.register_buffer("pos_embed", torch.zeros(1, config.position_entries, width))
        self.blocks = nn.ModuleList(
            Block(config, numerics, softmax=(index + 1) % config.softmax_every == 0)
            for index in range(config.depth)
        )
        self.final_layer = FinalLayer(width, config.latent_channels)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        plan: ChunkPlan,
        state: GeneratorState | None,
    ) -> tuple[Tensor, GeneratorState]:
        """Predict the flow of noisy latents.

        Args:
            latents: [b, channels, f, h, w].
            timestep: Noise level in [0, 1000], [b] or per latent frame [b, f]; its fraction is
                ignored.
            conditioning: Cameras and caption for these frames.
            plan: Chunks within the call.
            state: Past from earlier calls; None for an empty past.

        Returns:
            Prediction shaped like `latents`, and the state after these frames. Keep that state
            only from a call on clean latents at timestep 0.

        Raises:
            ValueError: Shapes disagree, or a caption is missing or not expected.
        """
        self.check(latents, timestep, conditioning)
        batch, _, frames, rows, columns = latents.shape
        first = latents.new_zeros(batch, dtype=torch.int64) if state is None else state.frames

        time = self.t_embedder(timestep if timestep.ndim == 2 else timestep[:, None])
        modulation = self.t_block(time).unflatten(-1, (6, -1))
        head_dim = self.config.width // self.config.heads
        rope = rope_table(first, frames, rows, columns, head_dim)
        camera = None
        if conditioning.ray_from_world is not None:
            rays = conditioning.ray_from_world.flatten(2, 3)
            camera = CameraFrame(rays, rigid_inverse(rays), camera_rope_table(rope, head_dim))
        plucker = None
        if conditioning.plucker is not None:
            plucker = self.plucker_embedder(conditioning.plucker.to(latents.dtype))
        text = None
        if conditioning.text is not None:
            text = self.attention_y_norm(self.y_embedder(conditioning.text.to(latents.dtype)))

        context = BlockContext(
            modulation, rope, camera, plucker, text, conditioning.text_mask, rows, plan
        )
        x = self.x_embedder(latents)
        memories = []
        for index, block in enumerate(self.blocks):
            x, memory = block(x, context, None if state is None else state.blocks[index])
            memories.append(memory)
        out = self.final_layer(x, time)
        flow = out.permute(0, 3, 1, 2).unflatten(-1, (rows, columns))
        return flow, GeneratorState(first + frames, tuple(memories))

    def check(self, latents: Tensor, timestep: Tensor, conditioning: Conditioning) -> None:
        """Raise ValueError where the arguments of `forward` do not fit together."""
        config = self.config
        if latents.ndim != 5 or latents.shape[1] != config.latent_channels:
            raise ValueError(
                f"given latents {tuple(latents.shape)}; "
                f"expected [b, {config.latent_channels}, f, h, w]"
            )
        batch, _, frames, rows, columns = latents.shape
        if timestep.shape not in ((batch,), (batch, frames)):
            raise ValueError(
                f"given timestep {tuple(timestep.shape)}; "
                f"expected ({batch},) or ({batch}, {frames})"
            )
        grid = (frames, rows, columns)
        for name, tensor, expected in (
            ("ray matrices", conditioning.ray_from_world, (batch, *grid, 4, 4)),
            ("Pluecker map", conditioning.plucker, (batch, config.plucker_channels, *grid)),
        ):
            if tensor is not None and tensor.shape != expected:
                raise ValueError(f"given {name} {tuple(tensor.shape)}; expected {expected}")
        if (conditioning.text is None) != (config.text_channels is None):
            raise ValueError(
                "given a caption for a network built without one"
                if config.text_channels is None
                else "given no caption; this network reads one"
            )


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without affine, then x * (1 + scale) + shift."""
    normed = F.layer_norm(x, x.shape[-1:], eps=LAYER_NORM_EPS)
    return (normed * (1 + scale) + shift).to(x.dtype)
