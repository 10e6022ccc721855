"""Two small operations that flash-linear-attention fuses on CUDA devices, and the same in torch.

Only this module chooses between them, by the tensor's device and what is installed. Both compute
the same numbers up to the order of additions, and have gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Fused:
    """Functions of flash-linear-attention.

    Attributes:
        causal_conv1d: x [n, t, d], weight [d, kernel] to (y [n, t, d], final state or None).
        rms_norm: x [..., d], weight [d], bias, eps to [..., d].

    Source: `fla.modules.convolution` and `fla.modules.layernorm`, versions 0.4 to 0.6.
    """

    causal_conv1d: Any
    rms_norm: Any


@cache
def fused() -> Fused | None:
    """The fused functions, or None where flash-linear-attention is not installed."""
    try:
        from fla.modules.convolution import causal_conv1d
        from fla.modules.layernorm import rms_norm
    except ImportError:
        return None
    return Fused(causal_conv1d, rms_norm)


def causal_convolution(x: Tensor, weight: Tensor, tail: Tensor | None) -> Tensor:
    """Depthwise causal convolution over frames, each grid cell on its own.

    Args:
        x: [b, f, s, d].
        weight: [d, 1, kernel]; the last tap multiplies the present frame.
        tail: The kernel - 1 frames before x, [b, kernel - 1, s, d]; None for zeros.
    """
    functions = fused() if x.is_cuda else None
    if functions is None:
        return plain_causal_convolution(x, weight, tail)
    return fused_causal_convolution(functions, x, weight, tail)


def plain_causal_convolution(x: Tensor, weight: Tensor, tail: Tensor | None) -> Tensor:
    """`causal_convolution` as a 2D depthwise convolution over (frame, cell): in memory, tokens are
    such an image with its channels last."""
    taps = weight.shape[-1]
    past = x.new_zeros((x.shape[0], taps - 1, *x.shape[2:])) if tail is None else tail
    images = torch.cat([past, x], dim=1).permute(0, 3, 1, 2)
    return F.conv2d(images, weight[..., None], groups=x.shape[-1]).permute(0, 2, 3, 1)


def fused_causal_convolution(
    functions: Fused, x: Tensor, weight: Tensor, tail: Tensor | None
) -> Tensor:
    """`causal_convolution` in one kernel: every grid cell is a sequence of frames."""
    past = 0 if tail is None else tail.shape[1]
    frames = x if tail is None else torch.cat([tail, x], dim=1)
    lines = frames.transpose(1, 2).flatten(0, 1).contiguous()
    taps = weight[:, 0].to(x.dtype).contiguous()
    result, _ = functions.causal_conv1d(lines, taps)
    return result[:, past:].unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)


class RMSNorm(torch.nn.RMSNorm):
    """Root mean square norm over the last axis with a weight; statistics in float32."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x [..., d]."""
        functions = fused() if x.is_cuda else None
        if functions is None:
            # Weights follow the input: torch has no fused norm of mixed types.
            return F.rms_norm(x, self.normalized_shape, self.weight.to(x.dtype), self.eps)
        return functions.rms_norm(x, self.weight, None, eps=self.eps)
