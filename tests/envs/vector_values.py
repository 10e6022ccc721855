"""What tests of batched environments share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera import Controls
from sana_wm_gym.envs import Episode, SanaWMVectorEnv, Simulation
from sana_wm_gym.envs.tasks.task import StepResult


@dataclass(frozen=True)
class Countdown:
    """A task with all that a task can have: ends after a number of steps drawn at the start."""

    max_episode_steps: int = 4
    name: str = "countdown"

    def spaces(self, simulation: Simulation) -> dict[str, spaces.Space[Any]]:
        return {"left": spaces.Box(-10, 10, (1,), np.float32)}

    def begin(
        self,
        simulation: Simulation,
        episodes: Sequence[Episode],
        rngs: Sequence[np.random.Generator],
    ) -> list[int]:
        return [int(rng.integers(1, 7)) for rng in rngs]

    def disturb(self, state: int, chunk: int, controls: Controls) -> Controls:
        return replace(controls, forward=controls.forward + 0.001 * state)

    def evaluate(
        self, simulation: Simulation, before: Episode, after: Episode
    ) -> tuple[int, StepResult]:
        left = before.task - 1
        gone = float(np.linalg.norm(after.c2w[-1, :3, 3]))
        return left, StepResult(gone, left == 0)

    def info(self, simulation: Simulation, episode: Episode) -> dict[str, float]:
        return {"left": float(episode.task), "is_success": episode.task == 0}

    def observe(self, state: int) -> dict[str, npt.NDArray[Any]]:
        return {"left": np.array([state], np.float32)}

    def pack(self, state: int) -> dict[str, npt.NDArray[Any]]:
        return {"left": np.array(state)}

    def unpack(self, arrays: dict[str, npt.NDArray[Any]]) -> int:
        return int(arrays["left"])


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit and type for type, through dicts, sequences and object arrays."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray) and a.dtype == object:
        return b.dtype == object and a.shape == b.shape and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(type(a) is type(b) and a == b)


def at(batch: Any, row: int) -> Any:
    """One row of a batch of observations."""
    return (
        {name: part[row] for name, part in batch.items()} if isinstance(batch, dict) else batch[row]
    )


def state_of(batch: SanaWMVectorEnv, row: int) -> tuple[Any, Any]:
    snapshot = batch.snapshot(row)
    return snapshot.episode, dict(snapshot.rng)
