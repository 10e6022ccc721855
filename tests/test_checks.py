"""Checks name what was given and what is expected."""

from __future__ import annotations

import numpy as np
import pytest

from sana_wm_gym.checks import (
    require_choice,
    require_device,
    require_integer,
    require_number,
    require_range,
    require_shapes,
)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, 0, 9])
def test_integers(value: object) -> None:
    assert require_integer("n", np.int64(3), 1, 8) == 3
    with pytest.raises(ValueError, match=r"n is .*, expected an integer in \[1, 8\]"):
        require_integer("n", value, 1, 8)


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), "1", None, -1, 2.0])
def test_numbers(value: object) -> None:
    assert require_number("x", np.float32(0.5), 0, 2, ends="[)") == 0.5
    with pytest.raises(ValueError, match=r"x is .*, expected a finite number in \[0, 2\)"):
        require_number("x", value, 0, 2, ends="[)")


def test_ranges_and_choices() -> None:
    require_range("r", (1, 2), 0, 2)
    with pytest.raises(ValueError, match="two rising numbers"):
        require_range("r", (2, 1), 0, 2)
    require_choice("c", "a", ("a", "b"))
    with pytest.raises(ValueError, match="c is 'z', expected one of a, b"):
        require_choice("c", "z", ("a", "b"))


def test_devices() -> None:
    for device in ("cpu", "cuda", "cuda:1"):
        require_device("device", device)
    for device in ("mps", "mps:0", "xpu", None, ""):
        with pytest.raises(ValueError, match=r"device is .* not supported; expected cpu, cuda$"):
            require_device("device", device)


def test_shapes() -> None:
    arrays = {"a": np.zeros((2, 3))}
    require_shapes("task", arrays, {"a": (2, None)})
    require_shapes("task", arrays, {"a": None})
    with pytest.raises(ValueError, match=r"task array 'a' has shape \(2, 3\), expected \(2, 4\)"):
        require_shapes("task", arrays, {"a": (2, 4)})
    with pytest.raises(ValueError, match=r"given task arrays \['a'\], expected \['b'\]"):
        require_shapes("task", arrays, {"b": None})
