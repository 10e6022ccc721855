"""A walk as a value: where it began and what was steered, enough to make every frame again."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from sana_wm_gym.camera.controls import TWIST_NAMES
from sana_wm_gym.camera.keys import CONTROL_NAMES
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.files import atomic_path

FORMAT = "sana-wm-walk-1"
_LONGEST = 2**24  # characters of a file that is read
_MOST_FRAMES = 2**20  # of a walk: 18 hours at 16 per second


@dataclass(frozen=True)
class Steering:
    """What is asked for in one frame.

    Attributes:
        held: Controls held as keys, names of `camera.CONTROL_NAMES`.
        twist: Normalised (yaw, pitch, right, down, forward) in [-1, 1] of a stick, in place of
            keys; None without one.

    Raises:
        ValueError: A control is unknown, or the twist is not five numbers in [-1, 1].
    """

    held: frozenset[str] = frozenset()
    twist: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        unknown = sorted(self.held - set(CONTROL_NAMES))
        if unknown:
            raise ValueError(f"controls {unknown} are unknown, expected some of {CONTROL_NAMES}")
        if self.twist is not None:
            if len(self.twist) != len(TWIST_NAMES):
                raise ValueError(f"twist has {len(self.twist)} numbers, expected {TWIST_NAMES}")
            for name, value in zip(TWIST_NAMES, self.twist, strict=True):
                require_number(f"twist {name}", value, -1.0, 1.0)


@dataclass(frozen=True)
class Walk:
    """A walk from its reset on.

    Attributes:
        world: Name of the world.
        task: Name of the task.
        key_map: Name of the key map.
        seed: Of the reset.
        chunks: Steering of each frame of each chunk.
        prompts: Text that applied from a chunk on, by its number.
    """

    world: str
    task: str
    key_map: str
    seed: int
    chunks: tuple[tuple[Steering, ...], ...] = ()
    prompts: Mapping[int, str] = field(default_factory=dict)

    def to_text(self) -> str:
        """JSON; each chunk is a list of runs [frames, held controls, twist or null]."""
        values = {
            "format": FORMAT,
            "world": self.world,
            "task": self.task,
            "key_map": self.key_map,
            "seed": self.seed,
            "prompts": {str(at): text for at, text in self.prompts.items()},
            "chunks": [
                [[len(list(run)), sorted(s.held), s.twist] for s, run in groupby(chunk)]
                for chunk in self.chunks
            ],
        }
        return json.dumps(values)

    @staticmethod
    def from_text(text: str) -> Walk:
        """Inverse of `to_text`.

        Raises:
            ValueError: The text is no walk; says what is wrong with it.
        """
        try:
            values: Any = json.loads(text)
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"expected JSON with format {FORMAT!r}")
            runs = [run for chunk in values["chunks"] for run in chunk]
            frames = sum(require_integer("frames of a run", n, 1, _MOST_FRAMES) for n, _, _ in runs)
            require_integer("frames of a walk", frames, 0, _MOST_FRAMES)
            chunks = tuple(
                tuple(s for n, held, twist in chunk for s in [_steering(held, twist)] * n)
                for chunk in values["chunks"]
            )
            prompts = {int(at): str(text) for at, text in values["prompts"].items()}
            return Walk(
                world=str(values["world"]),
                task=str(values["task"]),
                key_map=str(values["key_map"]),
                seed=require_integer("seed", values["seed"], 0),
                chunks=chunks,
                prompts=prompts,
            )
        except (KeyError, TypeError, AttributeError, RecursionError, ValueError) as error:
            raise ValueError(f"not a walk of format {FORMAT!r}: {error}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file in one step."""
        with atomic_path(path) as partial:
            Path(partial).write_text(self.to_text(), encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Walk:
        """Read a file that `save` wrote.

        Raises:
            OSError: It cannot be read.
            ValueError: It is no walk.
        """
        with Path(path).open(encoding="utf-8", errors="replace") as file:
            text = file.read(_LONGEST + 1)
        if len(text) > _LONGEST:
            raise ValueError(f"{path} is longer than {_LONGEST} characters, expected a walk")
        try:
            return Walk.from_text(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _steering(held: Any, twist: Any) -> Steering:
    if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
        raise ValueError(f"held controls are {held!r}, expected a list of names")
    if twist is not None:
        twist = tuple(require_number("twist", value, -1.0, 1.0) for value in twist)
    return Steering(frozenset(held), twist)
