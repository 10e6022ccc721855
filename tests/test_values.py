"""Dataclasses survive as named arrays, and what does not fit is refused by name."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from sana_wm_gym.values import equal, pack, unpack


@dataclass(frozen=True)
class Point:
    place: npt.NDArray[np.float64]
    weight: float = 1.0


@dataclass(frozen=True)
class Chunks:
    chunks: tuple[Point, ...]


@dataclass(frozen=True)
class Memory:
    bits: Tensor
    tail: Tensor | None = None


@dataclass(frozen=True)
class State:
    image: npt.NDArray[np.uint8]
    prompt: str
    seed: int
    over: bool
    intrinsics: tuple[float, float, float, float]
    appearance: tuple[int, ...]
    held: frozenset[str]
    start: Point | None
    past: tuple[Memory, ...] | None
    either: Point | Chunks
    other: Any = None
    cache: dict[str, int] = field(default_factory=dict, metadata={"packed": False})


def state(**changes: Any) -> State:
    values: dict[str, Any] = {
        "image": np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        "prompt": "a red door",
        "seed": 2**40,
        "over": False,
        "intrinsics": (1.0, 2.0, 3.0, 4.5),
        "appearance": (),
        "held": frozenset({"forward", "yaw_left"}),
        "start": Point(np.arange(3.0)),
        "past": (
            Memory(torch.ones(2, dtype=torch.bfloat16)),
            Memory(torch.arange(3), torch.ones(1)),
        ),
        "either": Chunks((Point(np.zeros(3), 2.0),)),
        "cache": {"not": 1},
    }
    return State(**values | changes)


def same(a: Any, b: Any) -> None:
    arrays, others = pack(a), pack(b)
    assert arrays.keys() == others.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(array, others[name], strict=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"start": None, "past": None, "held": frozenset(), "appearance": (3, 1)},
        {"past": (), "either": Point(np.ones(3), 0.0)},
        {"either": Chunks(())},
        {"other": Memory(torch.zeros(1))},
    ],
)
def test_what_is_packed_comes_back(changes: dict[str, Any]) -> None:
    before = state(**changes)
    after = unpack(State, pack(before), kinds={"other": Memory | None})
    same(before, after)
    for name in ("prompt", "seed", "over", "intrinsics", "appearance", "held"):
        assert getattr(after, name) == getattr(before, name)
        assert type(getattr(after, name)) is type(getattr(before, name))
    assert (after.start is None, after.past is None) == (before.start is None, before.past is None)
    assert type(after.either) is type(before.either) and after.cache == {}
    if before.past:
        assert after.past is not None
        assert [m.bits.dtype for m in after.past] == [m.bits.dtype for m in before.past]
    assert after.image.dtype == np.uint8


def test_names_are_dotted() -> None:
    assert pack(state()).keys() >= {"start.place", "past.0.bits@bfloat16", "past.1.tail"}
    assert "cache" not in pack(state())


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda a: a.pop("image"), "no array 'image'"),
        (lambda a: a.pop("start.weight"), "no array 'start.weight'"),
        (lambda a: a.pop("past.0.bits@bfloat16"), "no array 'past.0.bits'"),
        (lambda a: a.update(extra=np.zeros(1)), "unknown arrays .'extra'"),
        (lambda a: a.update({"either.extra": np.zeros(1)}), "either.*extra"),
        (lambda a: a.update({"past.7.bits": np.zeros(1)}), "no array 'past.2.bits'"),
        (lambda a: a.update(image=np.zeros((3, 2, 3), np.uint8)), "'image' has shape"),
        (lambda a: a.update(image=np.zeros((2, 2, 3))), "'image' is float64"),
        (lambda a: a.update({"start.place": np.zeros(4)}), "'start.place' has shape"),
        (lambda a: a.update(intrinsics=np.zeros(3)), "'intrinsics' has shape"),
        (lambda a: a.update(seed=np.zeros(1, np.int64)), "'seed' has shape"),
        (lambda a: a.update(seed=np.array(1.5)), "'seed' is float64"),
        (lambda a: a.update(prompt=np.array(1)), "'prompt' is int64"),
    ],
)
def test_what_does_not_fit_is_refused(spoil: Any, fault: str) -> None:
    arrays = pack(state())
    spoil(arrays)
    with pytest.raises(ValueError, match=fault):
        unpack(
            State,
            arrays,
            shapes={"image": (2, None, 3), "start.place": (3,)},
            kinds={"other": None | Point},
        )


@pytest.mark.parametrize(
    "change",
    [
        {"image": np.zeros((2, 2, 3), np.uint8)},
        {"image": state().image.astype(np.float32)},
        {"prompt": "a green door"},
        {"start": None},
        {"start": Point(np.array([1.0, 2.0, np.nan]), 0.25)},
        {"appearance": (1,)},
        {"past": (Memory(torch.ones(2)),)},
        {"either": Chunks(())},
    ],
)
def test_equal_compares_contents(change: dict[str, Any]) -> None:
    read = unpack(State, pack(state()), kinds={"other": None | Point})
    assert equal(state(cache={}), read)
    assert equal(state(**change), state(**change))
    assert not equal(state(), state(**change))


def test_what_has_no_arrays_is_refused() -> None:
    with pytest.raises(TypeError, match="other is a list"):
        pack(state(other=[1]))
    with pytest.raises(TypeError, match="other is annotated"):
        unpack(State, pack(state()) | {"other": np.zeros(1)})


def test_torch_is_not_loaded() -> None:
    code = "import sys, sana_wm_gym.values; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
