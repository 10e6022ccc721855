"""Range and shape checks of values that people give, each with one message: given and expected."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from numbers import Integral, Real
from typing import Any


def require_integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """The value as an int, if it is a whole number in [low, high]; bools are none.

    Raises:
        ValueError: It is not.
    """
    whole = not isinstance(value, bool) and isinstance(value, Integral)
    if not whole or value < low or (high is not None and value > high):
        expected = f">= {low}" if high is None else f"in [{low}, {high}]"
        raise ValueError(f"{name} is {value!r}, expected an integer {expected}")
    return int(value)


def require_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, ends: str = "[]"
) -> float:
    """The value as a float, if it is finite and between `low` and `high`.

    Args:
        name: What the value is, for the message.
        value: What was given; bools are no numbers.
        low: Lower end.
        high: Upper end.
        ends: Whether the ends belong to the range: "[]", "(]", "[)" or "()".

    Raises:
        ValueError: It is not a finite number in the range.
    """
    number = not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)
    above = number and (value >= low if ends[0] == "[" else value > low)
    below = number and (value <= high if ends[1] == "]" else value < high)
    if not (above and below):
        raise ValueError(
            f"{name} is {value!r}, expected a finite number in {ends[0]}{low:g}, {high:g}{ends[1]}"
        )
    return float(value)


def require_range(name: str, values: Sequence[float], low: float, high: float) -> None:
    """Raise unless low <= values[0] <= values[1] <= high.

    Raises:
        ValueError: There are not two numbers, or they are not in this order.
    """
    if len(values) != 2 or not (low <= values[0] <= values[1] <= high):
        raise ValueError(f"{name} is {values}, expected two rising numbers in [{low:g}, {high:g}]")


def require_choice(name: str, value: Any, choices: Collection[Any]) -> None:
    """Raise unless the value is one of `choices`.

    Raises:
        ValueError: It is not; the message lists them.
    """
    if value not in choices:
        expected = ", ".join(map(str, choices))
        raise ValueError(f"{name} is {value!r}, expected one of {expected}")


DEVICES = ("cpu", "cuda")
"""Kinds of torch device that worlds and training run on. MPS has no float64, which they need."""


def require_device(name: str, value: Any, choices: Collection[str] = DEVICES) -> None:
    """Raise unless a torch device, such as "cuda:1", is of a supported kind.

    Raises:
        ValueError: It is not; the message lists them.
    """
    if str(value).partition(":")[0] not in choices:
        expected = ", ".join(choices)
        raise ValueError(f"{name} is {str(value)!r}, which is not supported; expected {expected}")


def require_shapes(
    what: str, arrays: Mapping[str, Any], shapes: Mapping[str, tuple[int | None, ...] | None]
) -> None:
    """Check named arrays (anything with a `shape`), as they come back from a file.

    Args:
        what: What they are, for the message, such as "task".
        arrays: By name.
        shapes: Expected shape by name; None stands for any length, or for any shape.

    Raises:
        ValueError: An array is missing, unknown or of another shape.
    """
    if arrays.keys() != shapes.keys():
        raise ValueError(f"given {what} arrays {sorted(arrays)}, expected {sorted(shapes)}")
    for name, shape in shapes.items():
        given = tuple(arrays[name].shape)
        if shape is not None and (
            len(given) != len(shape)
            or any(n not in (None, m) for n, m in zip(shape, given, strict=True))
        ):
            raise ValueError(f"{what} array {name!r} has shape {given}, expected {shape}")
