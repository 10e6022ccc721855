"""What tests of environments share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from hypothesis import HealthCheck, settings

from sana_wm_gym.camera import Controls
from sana_wm_gym.envs import Episode, SanaWMVectorEnv
from sana_wm_gym.envs.tasks import StepResult, Task

Env = TypeVar("Env")

FIXTURES = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
"""Of hypothesis tests with fixtures that examples may share."""

EVERYTHING = ("frame", "frames", "latent", "pose")


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit and type for type, through dicts, sequences and object arrays."""
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "detach"):
        return same(a.numpy(), np.asarray(b))
    if isinstance(a, np.ndarray) and a.dtype == object:
        return b.dtype == object and a.shape == b.shape and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(type(a) is type(b) and a == b)


def started(env: Env, seed: int = 0) -> Env:
    """The environment after a reset."""
    env.reset(seed=seed)  # type: ignore[attr-defined]
    return env


@dataclass(frozen=True)
class Left:
    steps: int


@dataclass(frozen=True)
class Countdown(Task):
    """A task with all that a task can have: ends after a number of steps drawn at the start."""

    name: ClassVar[str] = "countdown"
    State: ClassVar[type[Any]] = Left
    max_episode_steps: int = 4

    def spaces(self, setting: Any) -> dict[str, spaces.Space[Any]]:
        return {"left": spaces.Box(-10, 10, (1,), np.float32)}

    def begin(self, setting: Any, episodes: Any, rngs: Any) -> list[Left]:
        return [Left(int(rng.integers(1, 7))) for rng in rngs]

    def disturb(self, state: Left, chunk: int, controls: Controls) -> Controls:
        return replace(controls, forward=controls.forward + 0.001 * state.steps)

    def evaluate(self, setting: Any, before: Episode, after: Episode) -> tuple[Left, StepResult]:
        left = before.task.steps - 1
        gone = float(np.linalg.norm(after.c2w[-1, :3, 3]))
        return Left(left), StepResult(gone, left == 0)

    def info(self, setting: Any, episode: Episode) -> dict[str, float]:
        return {"left": float(episode.task.steps), "is_success": episode.task.steps == 0}

    def observe(self, state: Left) -> dict[str, npt.NDArray[Any]]:
        return {"left": np.array([state.steps], np.float32)}


def at(batch: Any, row: int) -> Any:
    """One row of a batch of observations."""
    return (
        {name: part[row] for name, part in batch.items()} if isinstance(batch, dict) else batch[row]
    )


def state_of(batch: SanaWMVectorEnv, row: int) -> tuple[Any, Any]:
    snapshot = batch.snapshot(row)
    return snapshot.episode, dict(snapshot.rng)
