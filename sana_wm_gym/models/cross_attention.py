"""Attention of video tokens to the caption."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.models.kernels import RMSNorm

CROSS_NORM_EPS = 1e-6
MASKED_TEXT_BIAS = -10000.0


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
