"""Between rollouts: a row of metrics, now and then an evaluation, and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from agents.training.evaluation import Evaluation

TIMING_COLUMNS = ("timesteps", "rollout_s", "update_s", "evaluation_s", "checkpoint_s")


@dataclass
class Books:
    """What a run has counted so far; goes into checkpoints.

    Attributes:
        returns: Rewards so far of the running episode of each environment.
        lengths: Its steps so far.
        episodes: Episodes finished in the whole run.
        row: Timesteps at the last row of metrics, -1 before any.
        evaluated: Timesteps at the last evaluation, -1 before any.
    """

    returns: list[float]
    lengths: list[int]
    episodes: int = 0
    row: int = -1
    evaluated: int = -1


@dataclass
class Finished:
    """Episodes that ended since the last row."""

    returns: list[float] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)
    infos: list[Mapping[str, float]] = field(default_factory=list)

    def row(self) -> dict[str, float | None]:
        """Means of the episodes, and of what the task said at the end of each; nothing where no
        episode ended."""
        if not self.returns:
            return {}
        said = {name: [info[name] for info in self.infos] for name in self.infos[0]}
        means = {name: fmean(values) for name, values in said.items()}
        return {**means, "return": fmean(self.returns), "length": fmean(self.lengths)}


def evaluation_row(evaluation: Evaluation | None) -> dict[str, float | None]:
    """Means and interval ends of an evaluation, as columns of a row."""
    row: dict[str, float | None] = {}
    for name, value in ({} if evaluation is None else evaluation.summary()).items():
        row[f"eval/{name}"] = value.mean
        row[f"eval/{name}_low"] = value.low
        row[f"eval/{name}_high"] = value.high
    return row


def columns(evaluation: Evaluation, learning: Sequence[str]) -> list[str]:
    """Columns of metrics.csv, from the first evaluation of a run."""
    said = list(evaluation.episodes[0].info)
    heads = ["timesteps", "episodes", "return", "length", *said, *learning]
    return [*heads, *evaluation_row(evaluation)]


class Watch(BaseCallback):
    """Books episodes at every step, and calls `boundary` between rollouts.

    A boundary is where nothing of a rollout is left over: the last one has been learned from, the
    next has not begun.

    Args:
        books: Continued.
        every: Least number of timesteps between boundaries.
        boundary: Called with this callback, at the start of training, between rollouts and at
            the end.
    """

    def __init__(self, books: Books, every: int, boundary: Callable[[Watch], None]) -> None:
        super().__init__()
        self.books = books
        self.finished = Finished()
        self.seconds = dict.fromkeys(TIMING_COLUMNS[1:], 0.0)
        self._every, self._boundary = every, boundary
        self._began = self._collected = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self.books.row < 0 or self.num_timesteps - self.books.row >= self._every:
            self._at_boundary()

    def _on_training_end(self) -> None:
        if self.num_timesteps > self.books.row:
            self._at_boundary()

    def _on_rollout_end(self) -> None:
        self._collected = time.perf_counter()

    def _at_boundary(self) -> None:
        now = time.perf_counter()
        self.seconds["rollout_s"] = max(0.0, self._collected - self._began)
        self.seconds["update_s"] = now - max(self._collected, self._began)
        self.books.row = self.num_timesteps
        self._boundary(self)
        self.finished = Finished()
        self._began = self._collected = time.perf_counter()

    def _on_step(self) -> bool:
        books, rewards, dones = self.books, self.locals["rewards"], self.locals["dones"]
        for row, (reward, done) in enumerate(zip(rewards, dones, strict=True)):
            books.returns[row] += float(reward)
            books.lengths[row] += 1
            if not done:
                continue
            self.finished.returns.append(books.returns[row])
            self.finished.lengths.append(books.lengths[row])
            self.finished.infos.append(_numbers(self.locals["infos"][row]))
            books.episodes += 1
            books.returns[row], books.lengths[row] = 0.0, 0
        return True


def _numbers(info: Mapping[str, Any]) -> dict[str, float]:
    """What of a step's `info` is one number."""
    return {
        name: float(value)
        for name, value in info.items()
        if isinstance(value, bool | int | float | np.number | np.bool_)
    }
