"""The frame-wise gated delta rule: its definition, and the same as matrix products.

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
from torch import Tensor, nn

from sana_wm_gym.models.plan import Spans


class DeltaRule(nn.Module):
    """`delta_rule_naive` as matrix products; a module, whose hooks can read what a block gives it.

    A frame acts on the memory as an affine map, M -> g (I - P) M + A with P = k^T diag(beta) k and
    A = k^T diag(beta) v. The maps of all frames are built in two batched products and used by both
    directions; only their short composition runs frame by frame, on head-sized matrices.
    """

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        beta: Tensor,
        decay: Tensor,
        spans: Spans,
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """Sum of forward and reverse reading; arguments as in `delta_rule_naive`.

        Returns:
            Reading [b, heads, f, s, value] and the memory after the clip, [b, heads, key, value].
        """
        # Transitions lie close to the identity: bfloat16 would round the forgetting away.
        with torch.autocast(key.device.type, enabled=False):
            weighted = (beta[..., None] * key).transpose(-1, -2)
            identity = torch.eye(key.shape[-1], dtype=key.dtype, device=key.device)
            transition = decay[..., None, None] * (identity - weighted @ key)
            transitions = transition.flatten(0, 1).unbind(1)
            writes = (weighted @ value).flatten(0, 1).unbind(1)

            state = torch.zeros_like(writes[0]) if memory is None else memory.flatten(0, 1)
            past: list[Tensor] = []
            for transition_t, write_t in zip(transitions, writes, strict=True):
                state = torch.baddbmm(write_t, transition_t, state)
                past.append(state)
            both = list(past)
            for start, end in spans:
                future = writes[end - 1]
                for t in reversed(range(start, end - 1)):
                    both[t] = past[t] + future
                    if t > start:
                        future = torch.baddbmm(writes[t], transitions[t], future)
            seen = torch.stack(both, dim=1).unflatten(0, key.shape[:2])
            return query @ seen, state.unflatten(0, key.shape[:2])


def off_zero(denominator: Tensor, floor: float) -> Tensor:
    """Denominators that are at least `floor` away from zero, on their own side of it.

    Transitions subtract, so a denominator may come close to zero or change its sign; what is
    divided by it, and the gradient, would be larger than all others by orders of magnitude.
    A floor of 0 adds 1e-8 alone, as upstream does.
    """
    if floor == 0:
        return denominator + 1e-8
    return torch.where(denominator < 0, denominator.clamp(max=-floor), denominator.clamp(min=floor))


def update(memory: Tensor, key: Tensor, value: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """Memory [b, heads, key, value] after one frame, whose `key` and `value` are [b, heads, s, .],
    write gates [b, heads, s] and decay [b, heads]."""
    decayed = decay[..., None, None] * memory
    error = value - key @ decayed
    return decayed + key.transpose(-1, -2) @ (beta[..., None] * error)


def delta_rule_naive(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    beta: Tensor,
    decay: Tensor,
    spans: Spans,
    memory: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Read a clip through the delta rule in both directions, one frame and one update at a time.

    Args:
        query: [b, heads, f, s, key].
        key: [b, heads, f, s, key].
        value: [b, heads, f, s, value].
        beta: Write gates in (0, 1), [b, heads, f, s].
        decay: Decays in (0, 1), [b, heads, f].
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
