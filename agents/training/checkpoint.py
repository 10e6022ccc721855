"""Checkpoints: everything a run needs to resume exactly, written whole or not at all.

A checkpoint is a folder, `checkpoints/step-0000016384`, with the learner and the run's counters in
`learner.safetensors`, a snapshot of every sub-environment in `environments/` and, for agents that
have one, the replay buffer in `replay/`. It gets its name in one step, so a run that is killed at
any moment finds the last whole one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.files import atomic_path
from sana_wm_gym.tensor_files import read_values, write_values

FORMAT = "sana_wm_gym/learner/1"
LEARNER = "learner.safetensors"
_PREFIX = "step-"


def save_checkpoint(
    folder: Path, step: int, values: Mapping[str, Any], write: Callable[[Path, Path | None], None]
) -> Path:
    """Write a checkpoint after so many environment steps, then remove older ones.

    Args:
        folder: Of checkpoints.
        step: Environment steps so far.
        values: Tensors, numbers, strings, and lists, tuples and dicts of them.
        write: Writes all else, given the checkpoint's folder and that of the one before or None.

    Raises:
        OSError: It cannot be written.
    """
    final = folder / f"{_PREFIX}{step:010d}"
    try:
        with atomic_path(final) as partial:
            partial.mkdir()
            write(partial, latest_checkpoint(folder))
            write_values(partial / LEARNER, FORMAT, values)
    except OSError as error:
        raise OSError(f"checkpoint {final} was not written: {error}") from error
    for other in folder.glob(f"{_PREFIX}*"):
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a folder of them; None where there is none."""
    return max(folder.glob(f"{_PREFIX}*"), key=lambda path: path.name, default=None)


def step_of(checkpoint: Path) -> int:
    """Environment steps at which a checkpoint was written, from its name."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The values of a checkpoint. Nothing in the file is run.

    Raises:
        FileNotFoundError: There is none here.
        ValueError: The file is damaged or holds more than plain values.
    """
    return read_values(path / LEARNER, FORMAT)


def replay_of(path: Path) -> Path:
    """Folder of the replay buffer in a checkpoint; absent where the agent has none."""
    return path / "replay"


def save_environments(env: SanaWMVecEnv, checkpoint: Path) -> None:
    """Write a snapshot of every sub-environment into a checkpoint."""
    vector, folder = env.vector_env, checkpoint / "environments"
    folder.mkdir()
    for index in range(env.num_envs):
        path = folder / f"{index:04d}.safetensors"
        vector.snapshot(index).save(path, vector.simulation.world, vector.simulation.task)


def restore_environments(env: SanaWMVecEnv, checkpoint: Path) -> None:
    """Restore what `save_environments` wrote.

    Raises:
        FileNotFoundError: A snapshot is missing.
        ValueError: A file is damaged, or of another world or task.
    """
    env.reset()  # an environment has to be begun before it is restored
    simulation = env.vector_env.simulation
    for index in range(env.num_envs):
        path = checkpoint / "environments" / f"{index:04d}.safetensors"
        snapshot = Snapshot.load(path, simulation.world, simulation.task)
        env.vector_env.restore(index, snapshot)
