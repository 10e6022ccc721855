"""Small pieces of the transformer: rotary tables, convolutions, caption attention, embeddings.

Token tensors are [b, f, s, d]: batch, latent frames, grid cells (row-major), width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.models.kernels import RMSNorm, causal_convolution
from sana_wm_gym.models.plan import Spans

ROPE_BASE = 10000.0
TIMESTEP_FREQUENCIES = 256
CROSS_NORM_EPS = 1e-6
MASKED_TEXT_BIAS = -10000.0


# --- rotary position embedding -------------------------------------------------------------


def rope_pairs(head_dim: int) -> tuple[int, int, int]:
    """Rotary pairs for (time, row, column) in a head of `head_dim` channels."""
    space = head_dim // 6
    return head_dim // 2 - 2 * space, space, space


def rope_table(first_frame: Tensor, frames: int, rows: int, columns: int, head_dim: int) -> Tensor:
    """Unit complex factors for every token of a call.

    Args:
        first_frame: Absolute index of the call's first latent frame, int64 [b].
        frames: Latent frames f.
        rows: Grid rows.
        columns: Grid columns.
        head_dim: Channels per head.

    Returns:
        complex64 [b, f, rows * columns, 1, head_dim / 2], sections ordered time, row, column.

    Source: SANA-WM `wan_rope`; angles computed in float64.
    """
    device = first_frame.device
    time_pairs, row_pairs, column_pairs = rope_pairs(head_dim)

    def angles(positions: Tensor, pairs: int) -> Tensor:
        exponents = torch.arange(pairs, dtype=torch.float64, device=device) / pairs
        return positions.double()[..., None] * ROPE_BASE**-exponents

    time = angles(first_frame[:, None] + torch.arange(frames, device=device), time_pairs)
    row = angles(torch.arange(rows, device=device), row_pairs)
    column = angles(torch.arange(columns, device=device), column_pairs)
    grid = (first_frame.shape[0], frames, rows, columns, -1)
    sections = (time[:, :, None, None], row[None, None, :, None], column[None, None, None])
    phase = torch.cat([section.expand(grid) for section in sections], dim=-1).flatten(2, 3)
    return torch.polar(torch.ones_like(phase), phase).to(torch.complex64)[:, :, :, None]


def camera_rope_table(table: Tensor, head_dim: int) -> Tensor:
    """The camera branch's factors: the leading frequencies of each section, for half a head."""
    kept = rope_pairs(head_dim // 2)
    sections = table.split(rope_pairs(head_dim), dim=-1)
    return torch.cat([s[..., :n] for s, n in zip(sections, kept, strict=True)], dim=-1)


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Multiply interleaved channel pairs of x [b, f, s, heads, d] by unit complex factors."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * table).flatten(-2).to(x.dtype)


# --- ray-local transform -------------------------------------------------------------------


def rigid_inverse(matrices: Tensor) -> Tensor:
    """Inverse of [..., 4, 4] rigid motions."""
    rotation = matrices[..., :3, :3].transpose(-1, -2)
    translation = -(rotation @ matrices[..., :3, 3:])
    return torch.cat([torch.cat([rotation, translation], dim=-1), matrices[..., 3:, :]], dim=-2)


def ray_transform(x: Tensor, matrices: Tensor, table: Tensor) -> Tensor:
    """Move vectors between world and ray frames: first half of a head by 4x4 matrices in groups
    of four channels, second half by rotary factors.

    Args:
        x: [b, f, s, heads, head_dim].
        matrices: [b, f, s, 4, 4].
        table: Camera rotary factors, complex [b, f, s, 1, head_dim / 4].
    """
    half = x.shape[-1] // 2
    groups = x[..., :half].unflatten(-1, (-1, 4)).flatten(3, 4)
    moved = (groups @ matrices.transpose(-1, -2).to(x.dtype)).flatten(-2)
    moved = moved.unflatten(-1, (x.shape[-2], half))
    return torch.cat([moved, rotate(x[..., half:], table)], dim=-1)


def limit_rms(x: Tensor, reference: Tensor) -> Tensor:
    """Scale each vector of x down to at most the root mean square of `reference`."""

    def rms(v: Tensor) -> Tensor:
        return v.float().pow(2).mean(-1, keepdim=True).add(1e-6).sqrt()

    return (x * (rms(reference) / rms(x)).clamp(max=1.0)).to(x.dtype)


# --- temporal convolutions -----------------------------------------------------------------


class ShortConvolution(nn.Module):
    """Key convolution: a causal and an anti-causal pass of one kernel, centre counted once."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        weight = torch.zeros(width, 1, kernel)
        weight[..., -1] = 1.0
        self.weight = nn.Parameter(weight)

    def forward(
        self,
        x: Tensor,
        causal_spans: Spans,
        reverse_spans: Spans,
        tail: Tensor | None,
    ) -> Tensor:
        """Filter raw keys x [b, f, s, d].

        The causal pass does not look out of `causal_spans` on the left, but for `tail`, the raw
        keys before x; the anti-causal pass does not look out of `reverse_spans` on the right.
        """
        weight = self.weight.to(x.dtype)
        causal = [
            causal_convolution(x[:, start:end], weight, tail if start == 0 else None)
            for start, end in causal_spans
        ]
        reverse = [
            causal_convolution(x[:, start:end].flip(1), weight, None).flip(1)
            for start, end in reverse_spans
        ]
        return torch.cat(causal, 1) + torch.cat(reverse, 1) - weight[:, 0, -1] * x


def last_frames(x: Tensor, count: int, earlier: Tensor | None) -> Tensor:
    """The last `count` frames of (earlier, x) along axis 1, zeros where there are fewer."""
    if x.shape[1] >= count:
        return x[:, x.shape[1] - count :]
    if earlier is None:
        earlier = x.new_zeros((x.shape[0], count, *x.shape[2:]))
    return torch.cat([earlier, x], dim=1)[:, -count:]


# --- feed-forward --------------------------------------------------------------------------


class PointwiseConv(nn.Module):
    """1x1 convolution on tokens, its weight stored as [out, in, 1, 1]."""

    def __init__(self, width: int, out: int, bias: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, out, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """[b, f, s, width] to [b, f, s, out]."""
        return F.linear(x, self.conv.weight.flatten(1), self.conv.bias)


class DepthwiseConv(nn.Module):
    """3x3 depthwise convolution over each frame's grid, zeros outside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor, rows: int) -> Tensor:
        """Filter x [b, f, s, width], s = rows * columns."""
        batch, frames, cells, width = x.shape
        grid = x.reshape(batch * frames, rows, cells // rows, width).permute(0, 3, 1, 2)
        return self.conv(grid).permute(0, 2, 3, 1).reshape(x.shape)


class TemporalConv(nn.Module):
    """Dense convolution over frames: context on the left, zeros right of each chunk."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, kernel, 1))

    @property
    def reach(self) -> int:
        """Frames seen on either side."""
        return self.weight.shape[2] // 2

    def forward(self, x: Tensor, spans: Spans, tail: Tensor | None) -> Tensor:
        """Filter x [b, f, s, d]; `tail` holds the `reach` frames before x."""
        reach = self.reach
        blank = x.new_zeros((x.shape[0], reach, *x.shape[2:]))
        past = torch.cat([blank if tail is None else tail, x], dim=1)
        stacked = []
        for start, end in spans:
            window = torch.cat([past[:, start : end + reach], blank], dim=1)
            taps = [window[:, i : i + end - start] for i in range(self.weight.shape[2])]
            stacked.append(torch.cat(taps, dim=-1))
        weight = self.weight[..., 0].permute(0, 2, 1).flatten(1)
        return F.linear(torch.cat(stacked, dim=1), weight)


class GluMbConv(nn.Module):
    """GLU-MBConv feed-forward with a residual temporal convolution.

    Source: SANA-WM Stage-1 FFN: 1x1 expand, SiLU, 3x3 depthwise, gate, 1x1 project, temporal.
    """

    def __init__(self, width: int, hidden: int, temporal_kernel: int) -> None:
        super().__init__()
        self.inverted_conv = PointwiseConv(width, 2 * hidden, bias=True)
        self.depth_conv = DepthwiseConv(2 * hidden)
        self.point_conv = PointwiseConv(hidden, width, bias=False)
        self.t_conv = TemporalConv(width, temporal_kernel)

    def forward(
        self, x: Tensor, rows: int, spans: Spans, tail: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Returns the output and the next tail, both [b, ., s, d]."""
        value, gate = self.depth_conv(F.silu(self.inverted_conv(x)), rows).chunk(2, dim=-1)
        mixed = self.point_conv(value * F.silu(gate))
        return mixed + self.t_conv(mixed, spans, tail), last_frames(mixed, self.t_conv.reach, tail)


# --- captions and embeddings ---------------------------------------------------------------


class CrossAttention(nn.Module):
    """Attention of tokens to the caption."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.q_norm = RMSNorm(width, eps=CROSS_NORM_EPS)
        self.k_norm = RMSNorm(width, eps=CROSS_NORM_EPS)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, text_mask: Tensor | None) -> Tensor:
        """x [b, f, s, d], text [b, l, d], text_mask [b, l] (1 keeps)."""

        def split(tokens: Tensor) -> Tensor:
            return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        key, value = self.kv_linear(text).chunk(2, dim=-1)
        query = split(self.q_norm(self.q_linear(x)).flatten(1, 2))
        bias = None
        if text_mask is not None:
            bias = ((1 - text_mask.to(x.dtype)) * MASKED_TEXT_BIAS)[:, None, None]
        out = F.scaled_dot_product_attention(query, split(self.k_norm(key)), split(value), bias)
        return self.proj(out.transpose(1, 2).flatten(2).view(x.shape))


class CellEmbed(nn.Module):
    """1x1x1 patch embedding."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[b, channels, f, h, w] to [b, f, h * w, width]."""
        tokens = x.flatten(3).permute(0, 2, 3, 1)
        return F.linear(tokens, self.proj.weight.flatten(1), self.proj.bias)


class TimestepEmbed(nn.Module):
    """Sinusoid (cosines first) and two-layer MLP; the fraction of a timestep is cut off."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(
            nn.Linear(TIMESTEP_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width)
        )

    def forward(self, timestep: Tensor) -> Tensor:
        """Embed timesteps in [0, 1000] of any shape [...] as [..., d]."""
        half = TIMESTEP_FREQUENCIES // 2
        exponents = torch.arange(half, dtype=torch.float32, device=timestep.device) / half
        phase = timestep.long().float()[..., None] * torch.exp(-math.log(ROPE_BASE) * exponents)
        waves = torch.cat([phase.cos(), phase.sin()], dim=-1)
        return self.mlp(waves.to(next(self.mlp.parameters()).dtype))


class TextEmbed(nn.Module):
    """Caption features to the transformer's width."""

    y_embedding: Tensor

    def __init__(self, channels: int, width: int, tokens: int) -> None:
        super().__init__()
        self.y_proj = nn.ModuleDict(
            {"fc1": nn.Linear(channels, width), "fc2": nn.Linear(width, width)}
        )
        # Upstream's stored null caption; only its training loop reads it.
        self.register_buffer("y_embedding", torch.zeros(tokens, channels))

    def forward(self, text: Tensor) -> Tensor:
        """[b, l, channels] to [b, l, width]."""
        return self.y_proj["fc2"](F.gelu(self.y_proj["fc1"](text), approximate="tanh"))
