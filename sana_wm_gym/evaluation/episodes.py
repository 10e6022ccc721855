"""Episodes of a policy on fixed seeds: the same starts and tasks for every policy and world."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
from gymnasium.utils import seeding

from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.evaluation.intervals import Estimate, estimate
from sana_wm_gym.files import read_json
from sana_wm_gym.tables import Table
from sana_wm_gym.values import from_json
from sana_wm_gym.video import VideoWriter
from sana_wm_gym.world.world_model import Start, WorldModel

Observations = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]

Act = Callable[[Sequence[Episode], Sequence[int]], Sequence[Any] | npt.NDArray[Any]]
"""(all episodes, indices of those still running) -> actions, one per episode."""

OnChunk = Callable[[int, Episode], None]
"""Called with the index of an episode at its start and after each of its steps."""


class Policy(Protocol):
    """Anything with the `predict` of stable-baselines3."""

    def predict(
        self,
        observation: Observations,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], tuple[npt.NDArray[Any], ...] | None]:
        """Actions for a batch of observations, and the policy's memory after them."""
        ...


@dataclass(frozen=True)
class EpisodeStatistics:
    """The result of one episode: undiscounted return, number of steps, and the task's numbers at
    the last step."""

    seed: int
    episode_return: float
    length: int
    info: Mapping[str, float | bool]


@dataclass(frozen=True)
class Evaluation:
    """A policy's episodes, in the order of their seeds, in the world and task of these names."""

    world: str
    task: str
    episodes: tuple[EpisodeStatistics, ...]

    def summary(self) -> dict[str, Estimate]:
        """Means and 95 % intervals of "return", "length" and the task's numbers."""
        rows = [
            {"return": one.episode_return, "length": float(one.length), **one.info}
            for one in self.episodes
        ]
        return {name: estimate([row[name] for row in rows]) for name in rows[0]}

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "world": self.world,
            "task": self.task,
            "summary": {name: asdict(value) for name, value in self.summary().items()},
            "episodes": [
                {"seed": one.seed, "return": one.episode_return, "length": one.length, **one.info}
                for one in self.episodes
            ],
        }

    def table(self, title: str) -> Table:
        """The summary as a table."""
        rows = []
        for name, value in self.summary().items():
            interval = "" if value.low is None else f"{value.low:.3f} to {value.high:.3f}"
            rows.append((name, f"{value.mean:.3f}", interval))
        return Table(title, ("", "mean", "95 % interval"), tuple(rows))


def read_evaluation(path: Path) -> Evaluation:
    """The evaluation whose `document` a JSON file holds, among other facts.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, or holds none.
    """
    document = read_json(path)
    known = {name: document[name] for name in ("world", "task", "episodes") if name in document}
    facts = from_json(_Document, known, str(path))
    episodes = []
    for index, one in enumerate(facts.episodes):
        what = f"{path}: episode {index}"
        if lacks := {"seed", "return", "length"} - one.keys():
            raise ValueError(f"{what} lacks {sorted(lacks)}")
        seed, length = (require_integer(f"{what}: {k}", one.pop(k), 0) for k in ("seed", "length"))
        total = require_number(f"{what}: return", one.pop("return"))
        for name, value in one.items():
            require_number(f"{what}: {name}", float(value) if isinstance(value, bool) else value)
        episodes.append(EpisodeStatistics(seed, total, length, one))
    if not episodes:
        raise ValueError(f"{path} has no episodes")
    return Evaluation(facts.world, facts.task, tuple(episodes))


@dataclass(frozen=True)
class _Document:
    world: str
    task: str
    episodes: tuple[dict[str, Any], ...]


def draw_start(world: WorldModel[Any], seed: int) -> Start | None:
    """The start of `world` for episode `seed`, by its scenes and the seed alone; None where it has
    no scenes."""
    return world.sample_start(np.random.default_rng([seed, 0])) if world.spec.scenes else None


def play_episodes(
    simulation: Simulation,
    act: Act,
    seeds: Sequence[int],
    starts_from: WorldModel[Any],
    on_chunk: OnChunk | None = None,
) -> list[EpisodeStatistics]:
    """Play one episode per seed, all in one batch. A seed decides all that is random in its
    episode; the world `starts_from` draws the starts."""
    on_chunk = on_chunk or (lambda index, episode: None)
    starts = [draw_start(starts_from, seed) for seed in seeds]
    episodes = simulation.begin(
        [None if start is None else {"start": start} for start in starts],
        [seeding.np_random(seed)[0] for seed in seeds],
    )
    for index, episode in enumerate(episodes):
        on_chunk(index, episode)
    returns, infos = [0.0] * len(seeds), [dict[str, float | bool]() for _ in seeds]
    running = list(range(len(seeds)))
    while running:
        actions = act(episodes, running)
        commands = [simulation.decode(episodes[index], actions[index]) for index in running]
        after, results = simulation.play([episodes[index] for index in running], commands)
        for index, episode, result in zip(running, after, results, strict=True):
            episodes[index] = episode
            returns[index] += result.reward
            infos[index] = dict(simulation.task.info(simulation, episode))
            on_chunk(index, episode)
        running = [
            index
            for index in running
            if not episodes[index].over and episodes[index].chunk < simulation.max_episode_steps
        ]
    lengths = [episode.chunk for episode in episodes]
    return list(map(EpisodeStatistics, seeds, returns, lengths, infos))


def evaluate_policy(
    policy: Policy,
    simulation: Simulation,
    seeds: Sequence[int],
    starts_from: WorldModel[Any],
    *,
    batch_size: int = 16,
    deterministic: bool = True,
    videos: Path | None = None,
    num_videos: int = 0,
) -> Evaluation:
    """Play one episode per seed. Neither reads nor changes torch's global generator.

    Args:
        policy: Chooses the actions.
        simulation: World, task and views.
        seeds: An episode has the same start and task in every world with the scenes of
            `starts_from`.
        starts_from: The world that draws the starts.
        batch_size: Episodes played in one batch.
        deterministic: Take the policy's most likely action rather than a sample.
        videos: Folder for "episode-SEED.mp4" of the first `num_videos` episodes.
        num_videos: How many.
    """
    results: list[EpisodeStatistics] = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        for first in range(0, len(seeds), batch_size):
            batch = seeds[first : first + batch_size]
            act = _PolicyActor(policy, simulation, deterministic)
            with ExitStack() as stack:
                writers: list[VideoWriter] = []
                for seed in batch[: max(0, num_videos - first)]:
                    if videos is not None:
                        path, fps = videos / f"episode-{seed}.mp4", simulation.world.spec.fps
                        writers.append(stack.enter_context(VideoWriter(path, fps)))

                def record(
                    index: int, episode: Episode, writers: list[VideoWriter] = writers
                ) -> None:
                    if index < len(writers):
                        writers[index].add(simulation.frames([episode])[0])

                results += play_episodes(simulation, act, batch, starts_from, record)
    return Evaluation(simulation.world.spec.name, simulation.task.name, tuple(results))


@dataclass
class _PolicyActor:
    """A policy's actions for a batch of episodes."""

    policy: Policy
    simulation: Simulation
    deterministic: bool
    seen: list[Any] = field(default_factory=list)
    memory: tuple[npt.NDArray[Any], ...] | None = None

    def __call__(self, episodes: Sequence[Episode], running: Sequence[int]) -> npt.NDArray[Any]:
        first = np.full(len(episodes), not self.seen)
        self.seen = self.seen or [None] * len(episodes)
        views = self.simulation.observe([episodes[index] for index in running])
        # Episodes that are over keep their place, so that the policy's memory keeps its shape.
        for index, view in zip(running, views, strict=True):
            self.seen[index] = view
        actions, self.memory = self.policy.predict(
            _stack(self.seen), self.memory, first, deterministic=self.deterministic
        )
        return actions


def play_episode(
    env: gym.Env[Any, Any],
    act: Callable[[Any], Any],
    seed: int,
    options: dict[str, Any] | None = None,
) -> EpisodeStatistics:
    """Play one episode of a single Gymnasium environment, wrapped or not; `act` maps observations
    to actions, `seed` and `options` are those of the reset."""
    observation, info = env.reset(seed=seed, options=options)
    total, length, over = 0.0, 0, False
    while not over:
        observation, reward, terminated, truncated, info = env.step(act(observation))
        total, length, over = total + float(reward), length + 1, terminated or truncated
    return EpisodeStatistics(seed, total, length, scalars(info))


def scalars(info: Mapping[str, Any]) -> dict[str, float | bool]:
    """The entries of a step's `info` that are single numbers or booleans."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in info.items()
        if isinstance(value, bool | int | float | np.number | np.bool_)
    }


def _stack(views: Sequence[Any]) -> Observations:
    if isinstance(views[0], dict):
        return {name: np.stack([view[name] for view in views]) for name in views[0]}
    return np.stack(views)
