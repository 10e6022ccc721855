"""Everything the generator remembers between calls, one frozen dataclass per memory.

States are values: `SanaWM.forward` returns the next one and never writes into the one it was
given, so keeping an old state *is* a snapshot. `None` stands for an empty past.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, TypeVar

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
    camera_key: Tensor | None
    camera_value: Tensor | None


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
    return _map(function, values)


def _map(function: Callable[..., Tensor], values: tuple[Any, ...]) -> Any:
    first: Any = values[0]
    kind: Any = type(first)
    if len({type(value) for value in values}) > 1:
        raise ValueError("given states that differ in structure, such as with and without cameras")
    if isinstance(first, Tensor):
        return function(*values)
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        parts = {name: tuple(getattr(value, name) for value in values) for name in names}
        return kind(**{name: _map(function, part) for name, part in parts.items()})
    if isinstance(first, tuple):
        if len({len(value) for value in values}) > 1:
            raise ValueError("given states with unequal numbers of remembered chunks")
        return tuple(_map(function, part) for part in zip(*values, strict=True))
    return first


def shapes(value: Any) -> tuple[Any, ...]:
    """Nested tuple of the state's tensor shapes; equal for states that may share a batch."""
    if isinstance(value, Tensor):
        return tuple(value.shape[1:])
    if is_dataclass(value):
        return tuple(shapes(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple):
        return tuple(shapes(part) for part in value)
    return (value,)


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
