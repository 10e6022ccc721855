"""The frame-wise gated delta rule as matrix products over all frames at once.

A frame acts on the memory as an affine map, M -> g (I - P) M + A with P = k^T diag(beta) k and
A = k^T diag(beta) v. The maps of all frames are built in two batched products and used by both
directions; only their short composition runs frame by frame, on head-sized matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor


def delta_rule(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    beta: Tensor,
    decay: Tensor,
    spans: tuple[tuple[int, int], ...],
    memory: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Sum of forward and reverse reading; arguments as in `naive.delta_rule_naive`.

    Returns:
        Reading [b, heads, f, s, value] and the memory after the clip, [b, heads, key, value].
    """
    # Transitions lie close to the identity: bfloat16 would round the forgetting away.
    with torch.autocast(key.device.type, enabled=False):
        return _scan(query, key, value, beta, decay, spans, memory)


def _scan(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    beta: Tensor,
    decay: Tensor,
    spans: tuple[tuple[int, int], ...],
    memory: Tensor | None,
) -> tuple[Tensor, Tensor]:
    batch, heads, _, _, width = key.shape
    weighted = (beta[..., None] * key).transpose(-1, -2)
    identity = torch.eye(width, dtype=key.dtype, device=key.device)
    transition = decay[..., None, None] * (identity - weighted @ key)
    written = weighted @ value
    transitions = transition.flatten(0, 1).unbind(1)
    writes = written.flatten(0, 1).unbind(1)

    state = torch.zeros_like(writes[0]) if memory is None else memory.flatten(0, 1)
    past: list[Tensor] = []
    for transition_t, write_t in zip(transitions, writes, strict=True):
        state = torch.baddbmm(write_t, transition_t, state)
        past.append(state)
    both: list[Tensor] = []
    for start, end in spans:
        future: Tensor | None = None
        readable: list[Tensor] = []
        for t in reversed(range(start, end)):
            readable.append(past[t] if future is None else past[t] + future)
            if t > start:
                future = (
                    writes[t]
                    if future is None
                    else torch.baddbmm(writes[t], transitions[t], future)
                )
        both.extend(reversed(readable))
    seen = torch.stack(both, dim=1).unflatten(0, (batch, heads))
    return query @ seen, state.unflatten(0, (batch, heads))


def off_zero(denominator: Tensor, floor: float) -> Tensor:
    """Denominators that are at least `floor` away from zero, on their own side of it.

    Transitions subtract, so a denominator may come close to zero or change its sign; what is
    divided by it, and the gradient, would be larger than all others by orders of magnitude.
    A floor of 0 adds 1e-8 alone, as upstream does.
    """
    if floor == 0:
        return denominator + 1e-8
    return torch.where(denominator < 0, denominator.clamp(max=-floor), denominator.clamp(min=floor))
