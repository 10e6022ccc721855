"""Checks that tasks share: settings that are numbers, states that come back from a file."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sana_wm_gym.envs.tasks.task import Arrays


def require_whole(name: str, value: int, low: int) -> None:
    """Raise unless `value` is an integer >= low.

    Raises:
        ValueError: Says what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} is {value!r}, expected an integer >= {low}")


def require_range(name: str, values: tuple[float, float], low: float, high: float) -> None:
    """Raise unless low <= values[0] <= values[1] <= high.

    Raises:
        ValueError: Says what was given.
    """
    if len(values) != 2 or not (low <= values[0] <= values[1] <= high):
        raise ValueError(f"{name} is {values}, expected two rising numbers in [{low:g}, {high:g}]")


def require_number(
    name: str, value: float, low: float = 0.0, high: float = math.inf, *, above: bool = False
) -> None:
    """Raise unless `value` is finite and in [low, high], or above `low` where `above`.

    Raises:
        ValueError: Says what was given.
    """
    if not (math.isfinite(value) and low <= value <= high and not (above and value == low)):
        bracket = "(" if above else "["
        raise ValueError(
            f"{name} is {value}, expected a finite number in {bracket}{low:g}, {high:g}]"
        )


def require_arrays(arrays: Arrays, shapes: Mapping[str, tuple[int | None, ...] | None]) -> None:
    """Check the arrays that a task's state is unpacked from.

    Args:
        arrays: By name.
        shapes: Expected shape by name; None stands for any length, or for any shape.

    Raises:
        ValueError: An array is missing, unknown or of another shape.
    """
    if arrays.keys() != shapes.keys():
        raise ValueError(f"given task arrays {sorted(arrays)}, expected {sorted(shapes)}")
    for name, shape in shapes.items():
        given = arrays[name].shape
        if shape is not None and (
            len(given) != len(shape)
            or any(n not in (None, m) for n, m in zip(shape, given, strict=True))
        ):
            raise ValueError(f"task array {name!r} has shape {given}, expected {shape}")
