"""Self-attention with two branches, main and camera, in two kinds: delta rule and softmax.

The camera branch works on vectors moved into each token's ray frame (UCPE). Token tensors are
[b, f, s, d].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.models.delta_rule import DeltaRule, off_zero
from sana_wm_gym.models.kernels import RMSNorm
from sana_wm_gym.models.layers import (
    ShortConvolution,
    last_frames,
    limit_rms,
    ray_transform,
    rotate,
)
from sana_wm_gym.models.numerics import Numerics, padded_head_dim
from sana_wm_gym.models.plan import ChunkPlan, Spans
from sana_wm_gym.models.state import DeltaRuleMemory, KeyValueChunk, KeyValueMemory

QK_NORM_EPS = 1e-5
EMPTY = DeltaRuleMemory(*[None] * 5)  # type: ignore[arg-type]


@dataclass(frozen=True)
class CameraFrame:
    """What the camera branch needs at every token, shared by all blocks.

    Attributes:
        ray_from_world: [b, f, s, 4, 4].
        world_from_ray: Its inverse.
        rope: Rotary factors of half a head, complex [b, f, s, 1, head_dim / 4].
    """

    ray_from_world: Tensor
    world_from_ray: Tensor
    rope: Tensor


class DualBranchAttention(nn.Module):
    """What both kinds share: projections of the branches, output gate and output projection.

    Args:
        width: Token width.
        heads: Attention heads.
        numerics: Upstream revision to agree with.
        unread_entries: Keep the weights that the released checkpoints carry and nothing reads.
        gated: With the delta rule's gates.
    """

    def __init__(
        self, width: int, heads: int, numerics: Numerics, unread_entries: bool, gated: bool
    ) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = width // heads
        self.numerics = numerics
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm = RMSNorm(width, eps=QK_NORM_EPS)
        self.k_norm = RMSNorm(width, eps=QK_NORM_EPS)
        self.proj = nn.Linear(width, width)
        self.output_gate = nn.Linear(width, width)
        self.q_proj_cam = nn.Linear(width, width)
        self.k_proj_cam = nn.Linear(width, width)
        self.v_proj_cam = nn.Linear(width, width)
        self.out_proj_cam = nn.Linear(width, width)
        self.q_norm_cam = RMSNorm(width, eps=QK_NORM_EPS)
        self.k_norm_cam = RMSNorm(width, eps=QK_NORM_EPS)
        if unread_entries:
            self.register_buffer("recall_gate", torch.zeros(1))
        if gated:
            self.beta_proj = nn.Linear(width, heads)
            self.gate_proj = nn.Linear(width, heads)
            self.A_log = nn.Parameter(torch.zeros(heads))
            self.dt_bias = nn.Parameter(torch.full((heads,), -5.0))

    def per_head(self, x: Tensor) -> Tensor:
        """[b, f, s, d] to [b, f, s, heads, head_dim]."""
        return x.unflatten(-1, (self.heads, self.head_dim))

    def join(self, x: Tensor, main: Tensor, camera: Tensor | None) -> Tensor:
        """Sum the branches [b, f, s, heads, head_dim], gate by the block input x and project."""
        combined = main.flatten(3).to(x.dtype)
        if camera is not None:
            combined = combined + self.out_proj_cam(camera.flatten(3).to(x.dtype))
        gate = F.silu(self.output_gate(x).float())
        return self.proj((combined * gate).to(x.dtype))

    def to_rays(
        self, query: Tensor, key: Tensor, value: Tensor, camera: CameraFrame, renormalise: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Move camera queries, keys and values into their rays' frames.

        Queries take the transpose where keys and values take the inverse, so that a product of
        query and key depends on the relative pose of their rays alone.
        """
        ray_query = ray_transform(query, camera.ray_from_world.transpose(-1, -2), camera.rope)
        ray_key = ray_transform(key, camera.world_from_ray, camera.rope)
        ray_value = ray_transform(value, camera.world_from_ray, camera.rope)
        if renormalise:
            return limit_rms(ray_query, query), limit_rms(ray_key, key), limit_rms(ray_value, value)
        return ray_query, ray_key, ray_value

    @staticmethod
    def from_rays(x: Tensor, camera: CameraFrame) -> Tensor:
        """Move camera outputs back out of their rays' frames."""
        return ray_transform(x, camera.ray_from_world, camera.rope.conj())


class DeltaRuleAttention(DualBranchAttention):
    """Frame-wise gated delta rule: fixed-size memory, decay per frame, write gate per token.

    Source: SANA-WM frame-wise GDN with the denominator stream of its public code.
    """

    def __init__(
        self, width: int, heads: int, numerics: Numerics, unread_entries: bool, conv_kernel: int
    ) -> None:
        super().__init__(width, heads, numerics, unread_entries, gated=True)
        self.conv_k = ShortConvolution(width, conv_kernel)
        self.conv_k_cam = ShortConvolution(width, conv_kernel)
        self.rule = DeltaRule()

    def gates(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Write gates [b, heads, f, s] and decays [b, heads, f], float32, both in (0, 1)."""
        beta = self.beta_proj(x).sigmoid().float().permute(0, 3, 1, 2)
        rate = self.gate_proj(x.mean(2)).float() + self.dt_bias.float()
        decay = torch.exp(-self.A_log.float().exp() * F.softplus(rate))
        return beta, decay.permute(0, 2, 1)

    def features(
        self, query: Tensor, key: Tensor, q_norm: RMSNorm, k_norm: RMSNorm
    ) -> tuple[Tensor, Tensor]:
        """Non-negative queries and keys per head; keys scaled by (head_dim * tokens)^-1/2."""
        scale = (self.head_dim * key.shape[2]) ** -0.5
        return (
            self.per_head(F.relu(q_norm(query))),
            self.per_head(F.relu(k_norm(key)) * scale),
        )

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        camera: CameraFrame | None,
        plan: ChunkPlan,
        memory: DeltaRuleMemory | None,
    ) -> tuple[Tensor, DeltaRuleMemory]:
        """Attend x [b, f, s, d] to itself and the past; returns output and the next memory."""
        spans = plan.spans(x.shape[1])
        reverse_spans = plan.key_conv_spans(x.shape[1])
        whole = ((0, x.shape[1]),)
        past: Any = EMPTY if memory is None else memory
        beta, decay = self.gates(x)

        query, raw_key, value = self.qkv(x).chunk(3, dim=-1)
        tail = past.key_tail
        key = self.conv_k(raw_key, whole, reverse_spans, tail)
        query, key = self.features(query, key, self.q_norm, self.k_norm)
        main_beta = bounded(beta, key) if self.numerics.bounded_writes else beta
        numerator, numerator_memory = self.rule(
            by_head(rotate(query, rope)),
            by_head(rotate(key, rope)),
            by_head(self.per_head(value)),
            main_beta,
            decay,
            spans,
            past.numerator,
        )
        ones = torch.ones_like(beta)[..., None]
        denominator, denominator_memory = self.rule(
            by_head(query), by_head(key), ones, main_beta, decay, spans, past.denominator
        )
        denominator = off_zero(denominator, self.numerics.denominator_floor)
        main = (numerator / denominator).permute(0, 2, 3, 1, 4)

        camera_out, camera_memory, camera_tail = None, None, None
        if camera is not None:
            context = self.numerics.camera_key_context
            camera_tail = past.camera_key_tail if context else None
            raw_camera_key = self.k_proj_cam(x)
            camera_key = self.conv_k_cam(
                raw_camera_key, whole if context else spans, reverse_spans, camera_tail
            )
            camera_out, camera_memory = self.camera_branch(
                x, camera_key, beta, decay, camera, spans, past.camera
            )
            if context:
                camera_tail = last_frames(raw_camera_key, self.tail_frames, camera_tail)

        after = DeltaRuleMemory(
            numerator=numerator_memory,
            denominator=denominator_memory,
            camera=camera_memory,
            key_tail=last_frames(raw_key, self.tail_frames, tail),
            camera_key_tail=camera_tail,
        )
        return self.join(x, main, camera_out), after

    @property
    def tail_frames(self) -> int:
        """Raw key frames that the next chunk's convolution looks back on."""
        return self.conv_k.weight.shape[-1] - 1

    def camera_branch(
        self,
        x: Tensor,
        key: Tensor,
        beta: Tensor,
        decay: Tensor,
        camera: CameraFrame,
        spans: Spans,
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Numerator-only delta rule in ray frames; `key` is already convolved."""
        query, key = self.features(self.q_proj_cam(x), key, self.q_norm_cam, self.k_norm_cam)
        value = self.per_head(self.v_proj_cam(x))
        ray_query, ray_key, ray_value = self.to_rays(
            query, key, value, camera, self.numerics.renormalise_delta_rays
        )
        beta = beta / key_inflation(ray_key, key).mean(2).clamp(min=1.0).permute(0, 2, 1)[..., None]
        if self.numerics.bounded_writes:
            beta = bounded(beta, ray_key)
        out, after = self.rule(
            by_head(ray_query), by_head(ray_key), by_head(ray_value), beta, decay, spans, memory
        )
        return self.from_rays(out.permute(0, 2, 3, 1, 4), camera), after


class SoftmaxAttention(DualBranchAttention):
    """Softmax attention over the present call and the remembered chunks."""

    def __init__(self, width: int, heads: int, numerics: Numerics, unread_entries: bool) -> None:
        super().__init__(width, heads, numerics, unread_entries, gated=unread_entries)
        padded = padded_head_dim(self.head_dim)
        self.main_scale = (padded if numerics.padded_main_scale else self.head_dim) ** -0.5
        self.camera_scale = (padded if numerics.padded_camera_scale else self.head_dim) ** -0.5

    def forward(
        self,
        x: Tensor,
        rope: Tensor,
        camera: CameraFrame | None,
        plan: ChunkPlan,
        memory: KeyValueMemory | None,
    ) -> tuple[Tensor, KeyValueMemory]:
        """Attend x [b, f, s, d] to itself and the past; returns output and the next memory."""
        tokens = x.shape[2]
        query, key, value = self.qkv(x).chunk(3, dim=-1)
        query = flat(rotate(self.per_head(self.q_norm(query)), rope))
        key = flat(rotate(self.per_head(self.k_norm(key)), rope))
        value = flat(self.per_head(value))
        remembered = [key, value]
        if camera is not None:
            moved = self.to_rays(
                self.per_head(self.q_norm_cam(self.q_proj_cam(x))),
                self.per_head(self.k_norm_cam(self.k_proj_cam(x))),
                self.per_head(self.v_proj_cam(x)),
                camera,
                self.numerics.renormalise_softmax_rays,
            )
            remembered += [flat(moved[1]), flat(moved[2])]

        past = () if memory is None else memory.chunks
        parts = [slice(start * tokens, end * tokens) for start, end in plan.spans(x.shape[1])]
        chunks = past + tuple(KeyValueChunk(*[t[:, :, part] for t in remembered]) for part in parts)
        visible, kept = self.visibility(len(past), len(parts), plan)
        mask = self.mask(chunks, len(past), visible)

        def joined(name: str) -> Tensor:
            return torch.cat([getattr(chunk, name) for chunk in chunks], 2)

        main = self.attend(query, joined("key"), joined("value"), mask, self.main_scale)
        camera_out = None
        if camera is not None:
            keys, values = joined("camera_key"), joined("camera_value")
            attended = self.attend(flat(moved[0]), keys, values, mask, self.camera_scale)
            camera_out = self.from_rays(unflat(attended, tokens), camera)
        after = KeyValueMemory(tuple(chunks[index] for index in kept))
        return self.join(x, unflat(main, tokens), camera_out), after

    def visibility(
        self, past: int, present: int, plan: ChunkPlan
    ) -> tuple[list[tuple[int, ...]], tuple[int, ...]]:
        """Chunks that each present chunk sees, and those kept for the next call."""
        kept = tuple(range(past))
        visible = []
        for index in range(past, past + present):
            candidates = (*kept, index)
            visible.append(candidates)
            kept = tuple(candidates[i] for i in plan.window.keep(len(candidates)))
        if not self.numerics.causal_softmax:
            visible = [tuple(range(past + present))] * present
        return visible, kept

    @staticmethod
    def mask(
        chunks: tuple[KeyValueChunk, ...], past: int, visible: list[tuple[int, ...]]
    ) -> Tensor | None:
        """Boolean [queries, keys], or None where everything is seen."""
        if all(len(seen) == len(chunks) for seen in visible):
            return None
        owner = torch.repeat_interleave(torch.tensor([chunk.key.shape[2] for chunk in chunks]))
        table = torch.zeros(len(visible), len(chunks), dtype=torch.bool)
        for index, seen in enumerate(visible):
            table[index, list(seen)] = True
        queries = owner[owner >= past] - past
        return table[queries][:, owner].to(chunks[0].key.device)

    def attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float
    ) -> Tensor:
        """Softmax attention on [b, heads, n, head_dim]."""
        dtype = query.dtype
        if self.numerics.bf16_softmax:
            query, key, value = query.bfloat16(), key.bfloat16(), value.bfloat16()
        if query.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # These products run in bfloat16, which torch's fused kernel does not: 2.4 times faster.
            scores = (query * scale) @ key.transpose(-1, -2)
            if mask is not None:
                scores = scores.masked_fill(~mask, -torch.inf)
            return (scores.softmax(-1) @ value).to(dtype)
        return F.scaled_dot_product_attention(query, key, value, mask, scale=scale).to(dtype)


def key_inflation(moved: Tensor, before: Tensor) -> Tensor:
    """Squared growth of each key by the ray transform, float32 [b, f, s, heads]."""
    after, earlier = (v.float().pow(2).sum(-1).clamp(min=1e-12) for v in (moved, before))
    return after / earlier


def bounded(beta: Tensor, key: Tensor) -> Tensor:
    """Write gates [b, heads, f, s] discounted so that no frame's sum of beta |key|^2 exceeds 1.

    That sum is the trace of P, which bounds its norm: I - P then never amplifies a memory. Keys
    are [b, f, s, heads, d].
    """
    energy = beta * key.float().pow(2).sum(-1).permute(0, 3, 1, 2)
    return beta / energy.sum(-1, keepdim=True).clamp(min=1.0)


def by_head(x: Tensor) -> Tensor:
    """[b, f, s, heads, d] to float32 [b, heads, f, s, d]."""
    return x.float().permute(0, 3, 1, 2, 4)


def flat(x: Tensor) -> Tensor:
    """[b, f, s, heads, d] to [b, heads, f * s, d]."""
    return x.flatten(1, 2).transpose(1, 2)


def unflat(x: Tensor, tokens: int) -> Tensor:
    """[b, heads, f * s, d] to [b, f, s, heads, d]."""
    return x.transpose(1, 2).unflatten(1, (-1, tokens))
