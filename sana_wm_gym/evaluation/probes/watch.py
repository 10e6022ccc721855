"""Watching a network's delta-rule memory from outside, and taking its safeguards away.

The model itself has no flags for either: hooks and a wrapped delta rule see what it does, and an
ablation is a copy of the network with other blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn

from sana_wm_gym.evaluation.probes.rollouts import Array
from sana_wm_gym.models import attention
from sana_wm_gym.models.attention import DeltaRuleAttention
from sana_wm_gym.models.delta_rule import delta_rule
from sana_wm_gym.models.kernels import RMSNorm
from sana_wm_gym.models.state import DeltaRuleMemory
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.world.learned.sana_world import SanaWorld

STREAMS = ("numerator", "denominator", "camera")
"""In the order in which a block runs them."""


@dataclass(frozen=True)
class Variant:
    """A network with one or both of its safeguards removed.

    Attributes:
        key_scaling: Keys are scaled by (head_dim * tokens)^-1/2.
        bounded_writes: Write gates are discounted where a frame's write energy exceeds 1.
    """

    key_scaling: bool
    bounded_writes: bool

    def __str__(self) -> str:
        words = {True: "on", False: "off"}
        return f"key scale {words[self.key_scaling]}, bound {words[self.bounded_writes]}"


class UnscaledKeys(DeltaRuleAttention):
    """The delta rule with keys at their full length."""

    def features(
        self, query: Tensor, key: Tensor, q_norm: RMSNorm, k_norm: RMSNorm
    ) -> tuple[Tensor, Tensor]:
        """As `DeltaRuleAttention.features`, its scale taken out again."""
        tokens = key.shape[2]
        query, key = super().features(query, key, q_norm, k_norm)
        return query, key * (self.head_dim * tokens) ** 0.5


def own_variant(world: SanaWorld) -> Variant:
    """The network as it is."""
    _, first = delta_rule_blocks(world.model)[0]
    return Variant(key_scaling=True, bounded_writes=first.numerics.bounded_writes)


def ablations(world: SanaWorld) -> tuple[Variant, ...]:
    """Every other combination of the two safeguards."""
    both = [Variant(scale, bound) for scale in (True, False) for bound in (True, False)]
    return tuple(variant for variant in both if variant != own_variant(world))


def altered(world: SanaWorld, variant: Variant) -> SanaWorld:
    """A copy of the world whose network is built as `variant` says."""
    world = deepcopy(world)
    for _, block in delta_rule_blocks(world.model):
        block.numerics = replace(block.numerics, bounded_writes=variant.bounded_writes)
        if not variant.key_scaling:
            block.__class__ = UnscaledKeys
    return world


def delta_rule_blocks(model: SanaWM) -> list[tuple[int, DeltaRuleAttention]]:
    """Blocks with a delta-rule memory, by index.

    Raises:
        ValueError: There are none.
    """
    found = []
    for index, block in enumerate(model.blocks):
        if isinstance(block.attn, DeltaRuleAttention):
            found.append((index, block.attn))
    if not found:
        raise ValueError("given a network without delta-rule blocks; it has no gates to watch")
    return found


@dataclass(frozen=True)
class Transition:
    """What one stream of one block did to its memory in one chunk.

    Attributes:
        row: Which delta-rule block, counted from 0.
        stream: Which of `STREAMS`, counted from 0.
        norm: Spectral norm of T, [heads, f].
        energy: Trace of K^T diag(beta) K, [heads, f].
    """

    row: int
    stream: int
    norm: Array
    energy: Array


@dataclass(frozen=True)
class Gates:
    """Gates of one block in one chunk: decay [heads, f] and write gates [heads, f * s]."""

    row: int
    decay: Array
    write: Array


@dataclass(frozen=True)
class Memory:
    """Frobenius norms [heads, streams] of one block's memory after one chunk."""

    row: int
    norm: Array


Seen = Transition | Gates | Memory


@contextmanager
def watched(model: SanaWM, see: Callable[[Seen], None]) -> Iterator[None]:
    """Tell `see` of every gate, transition and memory of clean passes on one rollout.

    Hooks say which block runs; the delta rule itself is wrapped, so that what is seen is what was
    used, whatever the block did to its keys and gates before.
    """
    clean, row, stream, asked = False, 0, 0, np.zeros((0, 0))

    def enter_model(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        nonlocal clean
        clean = not bool(arguments[1].any())

    def entering(number: int) -> Callable[[nn.Module, object], None]:
        def enter(_: nn.Module, arguments: object) -> None:
            nonlocal row, stream
            row, stream = number, 0

        return enter

    def ask(_: nn.Module, arguments: object, logits: Tensor) -> None:
        nonlocal asked
        asked = logits[0].double().sigmoid().flatten(0, 1).T.numpy()

    def leave(_: nn.Module, arguments: object, result: tuple[Tensor, DeltaRuleMemory]) -> None:
        if clean:
            memory = result[1]
            parts = (memory.numerator, memory.denominator, memory.camera)
            norms = [part[0].double().flatten(1).norm(dim=1) for part in parts if part is not None]
            see(Memory(row, torch.stack(norms, 1).numpy()))

    def record(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        beta: Tensor,
        decay: Tensor,
        spans: tuple[tuple[int, int], ...],
        memory: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        nonlocal stream
        if clean:
            if stream == 0:
                see(Gates(row, decay[0].double().numpy(), asked))
            see(Transition(row, stream, *transition_norms(key[0], beta[0], decay[0])))
        stream += 1
        return delta_rule(query, key, value, beta, decay, spans, memory)

    with ExitStack() as stack:
        handles = [model.register_forward_pre_hook(enter_model)]
        for number, (_, block) in enumerate(delta_rule_blocks(model)):
            handles.append(block.register_forward_pre_hook(entering(number)))
            handles.append(block.beta_proj.register_forward_hook(ask))
            handles.append(block.register_forward_hook(leave))
        for handle in handles:
            stack.callback(handle.remove)
        stack.enter_context(patch.object(attention, "delta_rule", record))
        yield


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
