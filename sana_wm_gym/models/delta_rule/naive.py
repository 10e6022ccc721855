"""The frame-wise gated delta rule, written as its definition: one frame, one update.

For each head, with the keys and values of frame t stacked as rows k_t [s, key], v_t [s, value],
write gates beta_t [s] and decay g_t:

    decayed = g_t M_{t-1}
    M_t     = decayed + k_t^T diag(beta_t) (v_t - k_t decayed)

All tokens of a frame correct the same decayed state at once. The reverse pass is exclusive: frame
t reads what comes after it, inside its own chunk only.

Source: SANA-WM (arXiv 2605.15178), frame-wise GDN; the reverse pass as in its public code.
"""

from __future__ import annotations

import torch
from torch import Tensor


def update(memory: Tensor, key: Tensor, value: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Memory after one frame.

    Args:
        memory: M before the frame, [b, heads, key, value].
        key: [b, heads, s, key].
        value: [b, heads, s, value].
        beta: Write gates in (0, 1), [b, heads, s].
        decay: Decay in (0, 1), [b, heads].
    """
    decayed = decay[..., None, None] * memory
    error = value - key @ decayed
    return decayed + key.transpose(-1, -2) @ (beta[..., None] * error)


def delta_rule_naive(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    beta: Tensor,
    decay: Tensor,
    spans: tuple[tuple[int, int], ...],
    memory: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read a clip through the delta rule in both directions.

    Args:
        query: [b, heads, f, s, key].
        key: [b, heads, f, s, key].
        value: [b, heads, f, s, value].
        beta: [b, heads, f, s].
        decay: [b, heads, f].
        spans: (start, end) of each chunk; the reverse pass stays inside them.
        memory: M from earlier calls, [b, heads, key, value], or None for an empty past.

    Returns:
        Forward reading and reverse reading, [b, heads, f, s, value] each, and M after the clip.
    """
    empty = key.new_zeros((*key.shape[:2], key.shape[-1], value.shape[-1]))
    state = empty if memory is None else memory
    forward: list[Tensor] = []
    reverse: list[Tensor] = []
    for t in range(key.shape[2]):
        state = update(state, key[:, :, t], value[:, :, t], beta[:, :, t], decay[:, :, t])
        forward.append(query[:, :, t] @ state)
    for start, end in spans:
        future, readings = empty, list[Tensor]()
        for t in reversed(range(start, end)):
            readings.append(query[:, :, t] @ future)
            future = update(future, key[:, :, t], value[:, :, t], beta[:, :, t], decay[:, :, t])
        reverse.extend(reversed(readings))
    return torch.stack(forward, dim=2), torch.stack(reverse, dim=2), state
