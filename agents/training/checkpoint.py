"""Everything a run needs to go on exactly where it stood, written whole or not at all.

A checkpoint is a folder, `checkpoints/step-0000016384`, with the learner and its books in
`learner.pt`, the state of every environment in `rows/` and, for agents that have one, the replay
memory in `replay/`. It gets its name in one step, so a run that is killed at any moment finds the
last whole one.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sana_wm_gym.files import atomic_path

_PREFIX, _LEARNER = "step-", "learner.pt"


def save_checkpoint(
    folder: Path, step: int, values: Mapping[str, Any], write: Callable[[Path, Path | None], None]
) -> Path:
    """Write a checkpoint, then remove older ones.

    Args:
        folder: Of checkpoints.
        step: Environment steps so far.
        values: Tensors, numbers, strings, and lists, tuples and dicts of them.
        write: Writes whatever else there is into a checkpoint, given its folder and that of the
            one before, None for the first.

    Returns:
        The checkpoint's folder.
    """
    final = folder / f"{_PREFIX}{step:010d}"
    with atomic_path(final) as partial:
        partial.mkdir()
        write(partial, latest_checkpoint(folder))
        torch.save(dict(values), partial / _LEARNER)
    for other in folder.glob(f"{_PREFIX}*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a folder of them; None where there is none."""
    return max(folder.glob(f"{_PREFIX}*"), key=lambda path: path.name, default=None)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The values of a checkpoint. Nothing in the file is run.

    Raises:
        FileNotFoundError: There is none here.
        ValueError: The file is damaged or holds more than plain values.
    """
    file = path / _LEARNER
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}: there is no {_LEARNER} in it")
    try:
        values: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"checkpoint {file} is damaged: {str(error).splitlines()[0]}") from error
    return values


def rows_of(path: Path) -> Path:
    """Folder of the environments' states in a checkpoint."""
    return path / "rows"


def replay_of(path: Path) -> Path:
    """Folder of the replay memory in a checkpoint; not there where nothing is replayed."""
    return path / "replay"


def random_state() -> dict[str, Any]:
    """State of the process's random generators, as plain values."""
    # The old generator, because that is what stable-baselines3 draws from.
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002
    words = np.asarray(keys).tolist()
    return {
        "torch": torch.get_rng_state(),
        "numpy": (str(name), words, int(position), int(has_gauss), float(gauss)),
        "python": random.getstate(),
    }


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Set the process's random generators to what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def to_plain(value: Any) -> Any:
    """Arrays as tensors, at any depth of dicts and tuples, so that they can be stored safely."""
    if isinstance(value, np.ndarray):
        # Axes keep their order in memory: convolutions round differently on another one.
        return torch.from_numpy(np.array(value, order="K"))
    if isinstance(value, Mapping):
        return {name: to_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(to_plain, value))
    return value


def to_arrays(value: Any) -> Any:
    """Inverse of `to_plain`."""
    if isinstance(value, torch.Tensor):
        return np.array(value.numpy(), order="K")
    if isinstance(value, Mapping):
        return {name: to_arrays(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return tuple(map(to_arrays, value))
    return value
