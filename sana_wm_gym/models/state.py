"""The generator's state between calls, one frozen dataclass per memory.

`SanaWM.forward` returns the next state and never writes into the given one, so keeping an old state
*is* a snapshot. `None` stands for an empty past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor


@dataclass(frozen=True)
class DeltaRuleMemory:
    """Past of a delta-rule block; its size does not depend on how long the past is.

    Attributes:
        numerator: M, float32 [b, heads, key, value]: rotated keys to values.
        denominator: z, float32 [b, heads, key, 1]: unrotated keys to ones.
        camera: Camera-branch M, float32 [b, heads, key, value], or None without cameras.
        key_tail: Last raw keys before the short convolution, [b, conv_kernel - 1, tokens, width].
        camera_key_tail: The same for the camera branch, or None where it keeps no context.
    """

    numerator: Tensor
    denominator: Tensor
    camera: Tensor | None
    key_tail: Tensor
    camera_key_tail: Tensor | None


@dataclass(frozen=True)
class KeyValueChunk:
    """Keys and values of one latent chunk in a softmax block, [b, heads, tokens, head_dim].

    Keys are stored as attended to: after RoPE (`key`), after the ray transform (`camera_key`).
    """

    key: Tensor
    value: Tensor
    camera_key: Tensor | None = None
    camera_value: Tensor | None = None


@dataclass(frozen=True)
class KeyValueMemory:
    """Past of a softmax block: the chunks still in view, oldest first."""

    chunks: tuple[KeyValueChunk, ...]


@dataclass(frozen=True)
class BlockMemory:
    """Past of one block.

    Attributes:
        attention: Memory of the block's self-attention, by kind.
        ffn_tail: Last frames before the FFN's temporal convolution,
            [b, temporal_kernel // 2, tokens, width].
    """

    attention: DeltaRuleMemory | KeyValueMemory
    ffn_tail: Tensor


@dataclass(frozen=True)
class GeneratorState:
    """Past of the whole generator.

    Attributes:
        frames: Latent frames seen so far, int64 [b]; the next frame's RoPE position.
        blocks: One memory per block.
    """

    frames: Tensor
    blocks: tuple[BlockMemory, ...]


ValueT = TypeVar("ValueT")


def map_tensors(function: Callable[..., Tensor], *values: ValueT) -> ValueT:
    """Apply `function` to matching tensors of equally built states; other leaves stay as they are.

    Raises:
        ValueError: The states differ in structure.
    """
    first: Any = values[0]
    kind: Any = type(first)
    if len({(type(value), len(value) if isinstance(value, tuple) else 0) for value in values}) > 1:
        raise ValueError(
            "given states that differ in structure, such as with and without cameras or with "
            "unequal numbers of remembered chunks"
        )
    if isinstance(first, Tensor):
        return cast(ValueT, function(*values))
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        parts = {n: map_tensors(function, *(getattr(value, n) for value in values)) for n in names}
        return cast(ValueT, kind(**parts))
    if isinstance(first, tuple):
        several: Any = values
        return cast(ValueT, tuple(map_tensors(function, *p) for p in zip(*several, strict=True)))
    return values[0]


def shapes(value: Any) -> tuple[tuple[str, torch.Size], ...]:
    """Names and shapes, but for the batch, of a state's tensors; equal for states that may share a
    batch."""
    return tuple((name, tensor.shape[1:]) for name, tensor in named_tensors(value).items())


def stack(states: Sequence[ValueT]) -> ValueT:
    """Join single-world states (batch axis of 1) along the batch axis."""
    return map_tensors(lambda *parts: torch.cat(parts), *states)


def row(state: ValueT, index: int) -> ValueT:
    """One world of a batch, as an owned copy with a batch axis of 1."""
    return map_tensors(lambda part: part[index : index + 1].clone(), state)


def detach(state: ValueT) -> ValueT:
    """The same state outside the autograd graph."""
    return map_tensors(lambda part: part.detach(), state)


def named_tensors(value: Any, name: str = "") -> dict[str, Tensor]:
    """All tensors of a state of this module's or another kind, by dotted name."""
    if isinstance(value, Tensor):
        return {name: value}
    parts: dict[str, Any] = {}
    if is_dataclass(value):
        parts = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, tuple):
        parts = {str(index): part for index, part in enumerate(value)}
    named: dict[str, Tensor] = {}
    for key, part in parts.items():
        named |= named_tensors(part, f"{name}.{key}" if name else key)
    return named
