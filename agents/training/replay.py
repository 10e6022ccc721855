"""A replay memory on disk: each step is written once, and each checkpoint holds all of it.

A checkpoint's `replay/` folder has segments such as `000000000064-000000000128.safetensors`: the
64th to 127th slot since the run began, a slot being one step of every environment. Segments never
change. A checkpoint writes the slots that are new since the one before it and links to that one's
files for the others that are still remembered, so removing older checkpoints takes nothing from
newer ones. What hindsight replay knows of episodes is rewritten later, so it is stored whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.buffers import ReplayBuffer

_EPISODES = "episodes.safetensors"

Array = npt.NDArray[Any]


def save_replay(memory: ReplayBuffer, added: int, folder: Path, earlier: Path | None) -> None:
    """Write a replay memory to a new folder.

    Args:
        memory: With or without hindsight.
        added: Slots filled since the run began, those forgotten since included.
        folder: Made here.
        earlier: An earlier folder of the same run, whose files are linked to.
    """
    folder.mkdir()
    written = max(0, added - memory.buffer_size)
    for begin, end, path in [] if earlier is None else _segments(earlier):
        if begin <= written < end <= added:
            _link(path, folder / path.name)
            written = end
    if written < added:
        slots = np.arange(written, added) % memory.buffer_size
        path = folder / f"{written:012d}-{added:012d}.safetensors"
        save_file({name: array[slots] for name, array in _arrays(memory).items()}, path)
    episodes = _episodes(memory)
    if episodes:
        save_file(episodes, folder / _EPISODES)


def load_replay(memory: ReplayBuffer, added: int, folder: Path) -> None:
    """Fill a new replay memory with what `save_replay` wrote of one of the same kind and size.

    Raises:
        ValueError: A file is missing, damaged, or of another memory.
    """
    first = at = max(0, added - memory.buffer_size)
    arrays = _arrays(memory)
    for begin, end, path in _segments(folder):
        if not begin <= at < end:
            break
        stored = _read(path, arrays, end - begin)
        slots = np.arange(at, end) % memory.buffer_size
        for name, array in arrays.items():
            array[slots] = stored[name][at - begin :]
        at = end
    if at != added:
        raise ValueError(
            f"replay memory {folder} lacks a file: found slots {first} to {at}, "
            f"expected {first} to {added}"
        )
    memory.pos, memory.full = added % memory.buffer_size, added >= memory.buffer_size
    episodes = _episodes(memory)
    if episodes:
        stored = _read(folder / _EPISODES, episodes, None)
        for name, array in episodes.items():
            array[...] = stored[name]


def _arrays(memory: ReplayBuffer) -> dict[str, Array]:
    """What a slot is made of, by name: arrays [slots, environments, ...]."""
    found = {name: getattr(memory, name) for name in ("actions", "rewards", "dones", "timeouts")}
    for name in ("observations", "next_observations"):
        views = getattr(memory, name)
        parts = views if isinstance(views, dict) else {"": views}
        found |= {f"{name}.{part}": array for part, array in parts.items()}
    return found


def _episodes(memory: ReplayBuffer) -> dict[str, Array]:
    """Where episodes begin and how long they are, for hindsight; else nothing."""
    names = ("ep_start", "ep_length", "_current_ep_start")
    hindsight = isinstance(memory, HerReplayBuffer)
    return {name: getattr(memory, name) for name in names} if hindsight else {}


def _segments(folder: Path) -> list[tuple[int, int, Path]]:
    """First slot, slot after the last, and file of every segment, in order."""
    found = []
    for path in sorted(folder.glob("*-*.safetensors")):
        begin, _, end = path.stem.partition("-")
        found.append((int(begin), int(end), path))
    return found


def _read(path: Path, like: Mapping[str, Array], slots: int | None) -> dict[str, Array]:
    """Arrays of a file, of the names, types and shapes of `like`, but for a number of slots."""
    try:
        stored: dict[str, Array] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"replay memory {path} is missing or damaged: {error}") from error
    given = {name: f"{array.dtype} {array.shape}" for name, array in sorted(stored.items())}
    expected = {
        name: f"{array.dtype} {array.shape if slots is None else (slots, *array.shape[1:])}"
        for name, array in sorted(like.items())
    }
    if given != expected:
        raise ValueError(f"replay memory {path} holds {given}, expected {expected}")
    return stored


def _link(path: Path, other: Path) -> None:
    """A second name for a file, or a copy where the disk knows no such thing."""
    try:
        os.link(path, other)
    except OSError:
        shutil.copyfile(path, other)
