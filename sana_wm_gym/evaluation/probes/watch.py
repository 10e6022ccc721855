"""Observing a network's delta-rule memory with torch hooks; ablating its safeguards in a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sana_wm_gym.evaluation.held_out import Array
from sana_wm_gym.models.attention import DeltaRuleAttention
from sana_wm_gym.models.kernels import RMSNorm
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.world.learned.sana_world import SanaWorld

STREAMS = ("numerator", "denominator", "camera")
"""In the order in which a block runs them."""


@dataclass(frozen=True)
class Safeguards:
    """Which safeguards a network has.

    Attributes:
        key_scaling: Keys are scaled by (head_dim * tokens)^-1/2.
        bounded_writes: Write gates are discounted where a frame's write energy exceeds 1.
    """

    key_scaling: bool
    bounded_writes: bool

    def __str__(self) -> str:
        scale, bound = ("on" if on else "off" for on in (self.key_scaling, self.bounded_writes))
        return f"key scale {scale}, bound {bound}"


class UnscaledKeys(DeltaRuleAttention):
    """The delta rule with keys at their full length."""

    def features(
        self, query: Tensor, key: Tensor, q_norm: RMSNorm, k_norm: RMSNorm
    ) -> tuple[Tensor, Tensor]:
        """As `DeltaRuleAttention.features`, its scale taken out again."""
        tokens = key.shape[2]
        query, key = super().features(query, key, q_norm, k_norm)
        return query, key * (self.head_dim * tokens) ** 0.5


def own_safeguards(world: SanaWorld) -> Safeguards:
    """The network as it is."""
    _, first = delta_rule_blocks(world.model)[0]
    return Safeguards(key_scaling=True, bounded_writes=first.numerics.bounded_writes)


def ablations(world: SanaWorld) -> tuple[Safeguards, ...]:
    """Every other combination of the two safeguards."""
    both = [Safeguards(scale, bound) for scale in (True, False) for bound in (True, False)]
    return tuple(one for one in both if one != own_safeguards(world))


def altered(world: SanaWorld, safeguards: Safeguards) -> SanaWorld:
    """The world with a copy of its network that has these safeguards."""
    model = deepcopy(world.model)
    for _, block in delta_rule_blocks(model):
        block.numerics = replace(block.numerics, bounded_writes=safeguards.bounded_writes)
        if not safeguards.key_scaling:
            block.__class__ = UnscaledKeys
    return replace(world, model=model)


def delta_rule_blocks(model: SanaWM) -> list[tuple[int, DeltaRuleAttention]]:
    """Blocks with a delta-rule memory, with their index; `ValueError` where there are none."""
    found = [
        (index, block.attn)
        for index, block in enumerate(model.blocks)
        if isinstance(block.attn, DeltaRuleAttention)
    ]
    if not found:
        raise ValueError("given a network without delta-rule blocks; it has no gates to observe")
    return found


@dataclass
class BlockPass:
    """One delta-rule block in one call of the network, for the first of its batch.

    Attributes:
        block: Its index.
        decay: [heads, f].
        write: Write gates as the network predicts them, [heads, f * s].
        memory: Frobenius norms of the memory afterwards, [heads, streams].
        rules: Keys [heads, f, s, key], write gates as used [heads, f, s] and decays [heads, f] of
            each stream that the block has, in the order of `STREAMS`.
    """

    block: int
    decay: Array = field(init=False)
    write: Array = field(init=False)
    memory: Array = field(init=False)
    rules: list[tuple[Tensor, Tensor, Tensor]] = field(default_factory=list)

    def transitions(self) -> list[tuple[Array, Array]]:
        """`transition_norms` of each stream."""
        return [transition_norms(*rule) for rule in self.rules]


@contextmanager
def observed(model: SanaWM) -> Iterator[list[BlockPass]]:
    """The network's last call, one `BlockPass` per delta-rule block; every call refills the list.

    The memory of a chunk's last call is kept: of the clean pass, or of the last denoising step.
    """
    blocks = delta_rule_blocks(model)
    passes: list[BlockPass] = []

    def begin(*_: object) -> None:
        passes[:] = [BlockPass(index) for index, _ in blocks]

    def hooks(row: int, block: DeltaRuleAttention) -> list[Any]:
        def write(_: object, arguments: object, logits: Tensor) -> None:
            passes[row].write = logits[0].double().sigmoid().flatten(0, 1).T.numpy()

        def rule(_: object, arguments: tuple[Any, ...]) -> None:
            _, key, _, beta, decay, *_ = arguments
            passes[row].decay = decay[0].double().numpy()
            passes[row].rules.append((key[0], beta[0], decay[0]))

        def memory(_: object, arguments: object, result: tuple[Tensor, Any]) -> None:
            parts = [getattr(result[1], stream) for stream in STREAMS]
            norms = [part[0].double().flatten(1).norm(dim=1) for part in parts if part is not None]
            passes[row].memory = torch.stack(norms, 1).numpy()

        return [
            block.beta_proj.register_forward_hook(write),
            block.rule.register_forward_pre_hook(rule),
            block.register_forward_hook(memory),
        ]

    handles = [model.register_forward_pre_hook(begin)]
    for row, (_, block) in enumerate(blocks):
        handles += hooks(row, block)
    try:
        yield passes
    finally:
        for handle in handles:
            handle.remove()


def transition_norms(key: Tensor, beta: Tensor, decay: Tensor) -> tuple[Array, Array]:
    """Spectral norm of every frame's transition, and its write energy.

    Args:
        key: [heads, f, s, key].
        beta: [heads, f, s].
        decay: [heads, f].

    Returns:
        Norms of g (I - K^T diag(beta) K) and traces of K^T diag(beta) K, float64 [heads, f];
        NaN where keys or gates are not finite.
    """
    key, beta, decay = key.double(), beta.double(), decay.double()
    written = key.transpose(-1, -2) @ (beta[..., None] * key)
    energy = written.diagonal(dim1=-2, dim2=-1).sum(-1)
    if not bool(torch.isfinite(written).all()):
        nothing = np.full(tuple(decay.shape), np.nan)
        return nothing, nothing
    # T is symmetric, so its norm is its largest eigenvalue by size.
    eigenvalues = torch.linalg.eigvalsh(torch.eye(key.shape[-1]).to(written) - written)
    return (decay * eigenvalues.abs().amax(-1)).numpy(), energy.numpy()
