"""A policy on episodes of fixed seeds: the same starts and tasks for every policy and world."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.utils import seeding
from rich.console import Console
from rich.table import Table

from agents.training.algorithms import Observations, Policy
from agents.training.config import EvaluationSettings
from agents.training.intervals import Estimate, estimate
from agents.training.worlds import draw_start
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.video import VideoWriter
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class EpisodeResult:
    """How one episode went.

    Attributes:
        seed: Of the episode.
        ret: Return, the undiscounted sum of rewards.
        length: Steps taken.
        info: What the task said at the last one.
    """

    seed: int
    ret: float
    length: int
    info: Mapping[str, float | bool]


@dataclass(frozen=True)
class Evaluation:
    """A policy's episodes in one world.

    Attributes:
        world: Name of the world.
        task: Name of the task.
        episodes: In the order of their seeds.
    """

    world: str
    task: str
    episodes: tuple[EpisodeResult, ...]

    @staticmethod
    def of(document: Mapping[str, Any]) -> Evaluation:
        """Inverse of `document`."""
        episodes = []
        for one in document["episodes"]:
            info = {k: v for k, v in one.items() if k not in ("seed", "return", "length")}
            episodes.append(EpisodeResult(one["seed"], one["return"], one["length"], info))
        return Evaluation(document["world"], document["task"], tuple(episodes))

    def summary(self) -> dict[str, Estimate]:
        """Means over episodes with their intervals: "return", "length", and what the task says."""
        values: dict[str, list[float | bool]] = {
            "return": [one.ret for one in self.episodes],
            "length": [float(one.length) for one in self.episodes],
        }
        for name in self.episodes[0].info:
            values[name] = [one.info[name] for one in self.episodes]
        return {name: estimate(found) for name, found in values.items()}

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "world": self.world,
            "task": self.task,
            "summary": {name: asdict(value) for name, value in self.summary().items()},
            "episodes": [
                {"seed": one.seed, "return": one.ret, "length": one.length, **one.info}
                for one in self.episodes
            ],
        }

    def show(self, console: Console, title: str) -> None:
        """Print the summary as a table."""
        console.print(title, soft_wrap=True, highlight=False)
        table = Table()
        for heading, side in (("", "left"), ("mean", "right"), ("95 % interval", "right")):
            table.add_column(heading, justify=side)  # type: ignore[arg-type]
        for name, value in self.summary().items():
            between = "" if value.low is None else f"{value.low:.3f} to {value.high:.3f}"
            table.add_row(name, f"{value.mean:.3f}", between)
        console.print(table)


def evaluate_policy(
    policy: Policy,
    simulation: Simulation,
    settings: EvaluationSettings,
    episodes: int,
    starts_from: WorldModel[Any],
    videos: Path | None = None,
) -> Evaluation:
    """Play `episodes` episodes, `settings.rows` at a time; nothing random is left over from it.

    Episode i begins where `starts_from` draws its start for seed `settings.seed + i`, whatever
    world it then takes place in, and everything else in it is random by that seed.

    Args:
        policy: Acts.
        simulation: World, task and views.
        settings: First seed, batch, number of videos, and whether the policy draws its actions.
        episodes: How many.
        starts_from: The world that draws starts.
        videos: Folder for "episode-<seed>.mp4" of the first `settings.videos` episodes.
    """
    seeds = range(settings.seed, settings.seed + episodes)
    results: list[EpisodeResult] = []
    # A policy that draws its actions must neither disturb training nor depend on it.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        for first in range(0, episodes, settings.rows):
            batch = list(seeds[first : first + settings.rows])
            filmed = 0 if videos is None else max(0, settings.videos - first)
            films = [
                VideoWriter(videos / f"episode-{seed}.mp4", simulation.world.spec.fps)
                for seed in batch[:filmed]
                if videos is not None
            ]
            try:
                results += _play(policy, simulation, batch, settings, starts_from, films)
                for film in films:
                    film.close()
            except BaseException:
                for film in films:
                    film.discard()
                raise
    return Evaluation(simulation.world.spec.name, simulation.task.name, tuple(results))


def _play(
    policy: Policy,
    simulation: Simulation,
    seeds: Sequence[int],
    settings: EvaluationSettings,
    starts_from: WorldModel[Any],
    films: Sequence[VideoWriter],
) -> list[EpisodeResult]:
    starts = [draw_start(starts_from, seed) for seed in seeds]
    episodes = simulation.begin(
        [None if start is None else {"start": start} for start in starts],
        [seeding.np_random(seed)[0] for seed in seeds],
    )
    for film, episode in zip(films, episodes, strict=False):
        film.add(simulation.frames([episode])[0])
    seen = list(simulation.observe(episodes))
    returns, info = [0.0] * len(seeds), [dict[str, float | bool]() for _ in seeds]
    running, memory = list(range(len(seeds))), None
    first = np.ones(len(seeds), bool)
    while running:
        # Rows that are done still fill the policy's batch, so that its memory keeps its shape.
        actions, memory = policy.predict(
            _stack(seen), memory, first, deterministic=settings.deterministic
        )
        first = np.zeros(len(seeds), bool)
        commands = [simulation.decode(episodes[row], actions[row]) for row in running]
        after, verdicts = simulation.play([episodes[row] for row in running], commands)
        views = simulation.observe(after)
        for row, episode, verdict, view in zip(running, after, verdicts, views, strict=True):
            episodes[row], seen[row] = episode, view
            returns[row] += verdict.reward
            info[row] = dict(verdict.info)
            if row < len(films):
                films[row].add(simulation.frames([episode])[0])
        running = [
            row
            for row in running
            if not episodes[row].over and episodes[row].chunk < simulation.horizon
        ]
    return [
        EpisodeResult(seed, ret, episode.chunk, said)
        for seed, ret, episode, said in zip(seeds, returns, episodes, info, strict=True)
    ]


def _stack(views: Sequence[Any]) -> Observations:
    if isinstance(views[0], dict):
        return {name: np.stack([view[name] for view in views]) for name in views[0]}
    return np.stack(views)
