"""Demonstrations: episodes of a registered environment, played by a planner and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console
from rich.progress import track

from agents.episode_video import Film, pages
from agents.planners import Plan, Planner, ScriptedExpert
from agents.training.config import require_whole
from sana_wm_gym import ENV_IDS
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import DatasetRecorder, dataset_path, open_dataset, video_path
from sana_wm_gym.provenance import provenance
from sana_wm_gym.video import probe, read_frames, write_video


@dataclass(frozen=True)
class RecordedEnv:
    """What is recorded, as plain values, so that the dataset can make its environment again.

    Attributes:
        id: A registered environment with continuous actions.
        world: A name of the catalogue.
        observation: Parts of the observation beside the task's.
        size: (height, width) of "frame"; None takes the world's.
        horizon: Chunks of an episode; None takes the task's.
    """

    id: str = "SanaWM/ImageGoal-v0"
    world: str = "tiny"
    observation: Sequence[str] = ("frame",)
    size: Sequence[int] | None = None
    horizon: int | None = None

    def make(self, videos: bool) -> gym.Env[Any, Any]:
        """The environment; with `videos` it renders every frame.

        Raises:
            ValueError: There is no such environment or world, or they do not go together.
        """
        if self.id not in (known := tuple(ENV_IDS)):
            raise ValueError(f"given env.id={self.id!r}, expected one of {', '.join(known)}")
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"given env.size={list(self.size)}, expected [height, width]")
        return gym.make(
            self.id,
            world=self.world,
            observation=list(self.observation),
            observation_size=None if self.size is None else list(self.size),
            horizon=self.horizon,
            render_mode="rgb_array_list" if videos else None,
        )


@dataclass(frozen=True)
class RecordConfig:
    """One recording. `conf/record.yaml` holds the defaults.

    Attributes:
        dataset: Name with a version, such as "image_goal/expert-v0".
        folder: Where datasets are; None takes MINARI_DATASETS_PATH, else Minari's own place.
        env: What is recorded.
        planner: Who acts.
        episodes: How many; episode i has seed `seed + i`.
        seed: First seed.
        jpeg: False stores images exactly.
        videos: Film every frame of every chunk.
        film: Also make this film of the first episode, to look at; None for none.
        threads: Of torch.
    """

    dataset: str
    folder: str | None = None
    env: RecordedEnv = field(default_factory=RecordedEnv)
    planner: Planner = field(default_factory=ScriptedExpert)
    episodes: int = 50
    seed: int = 0
    jpeg: bool = True
    videos: bool = True
    film: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"episodes": 1, "seed": 0, "threads": 1}.items():
            require_whole(name, getattr(self, name), low)
        if self.film is not None and not self.videos:
            raise ValueError("given film without videos; a film is made of a video")
        if not hasattr(self.planner, "plan"):
            kind = type(self.planner).__name__
            raise ValueError(f"given planner {kind}; expected something with .plan()")


def record(config: RecordConfig, console: Console) -> Path:
    """Play and record; returns the dataset's place.

    Raises:
        ValueError: A setting makes no sense.
        FileExistsError: There is such a dataset.
        ImportError: Minari is not installed.
    """
    import torch

    torch.set_num_threads(config.threads)
    place = dataset_path(config.dataset, config.folder)
    if place.exists():
        raise FileExistsError(f"there is a dataset at {place}, expected a new name or version")
    recorder = DatasetRecorder(
        config.env.make(config.videos),
        config.dataset,
        config.folder,
        jpeg=config.jpeg,
        notes={
            "algorithm_name": repr(config.planner),
            "description": f"{config.env.id} in world {config.env.world}",
            "provenance": str(provenance("agents.record")),
        },
    )
    try:
        for index in track(
            range(config.episodes),
            "recording",
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ):
            play(recorder, config.planner, config.seed + index)
    except BaseException:
        recorder.discard()
        raise
    recorder.close()
    if config.film is not None:
        film_episode(open_dataset(config.dataset, config.folder), 0, config.film)
    return place


def play(env: gym.Env[Any, Any], planner: Planner, seed: int) -> float:
    """One episode of a `SanaWMEnv`, wrapped or not, with continuous actions; returns its return.

    Seed and planner decide everything, also what the search draws.
    """
    inner = env.unwrapped
    assert isinstance(inner, SanaWMEnv)
    rng = np.random.default_rng([seed, 1])
    env.reset(seed=seed)
    plan: Plan | None = None
    earned, ended = 0.0, False
    while not ended:
        plan = planner.plan(inner.simulation, inner.snapshot().episode, rng, plan)
        _, reward, terminated, truncated, _ = env.step(plan.action)
        earned += float(reward)
        ended = terminated or truncated
    return earned


def film_episode(dataset: Any, episode: int, path: str | Path) -> None:
    """A film of a recorded episode: view, goal picture where one was observed, path from above.

    Args:
        dataset: A `minari.MinariDataset` that `DatasetRecorder` wrote.
        episode: Its number.
        path: File to write, ending in ".mp4".

    Raises:
        FileNotFoundError: The episode was not filmed.
        ValueError: No camera was recorded, or the path has another ending.
    """
    video = video_path(dataset, episode)
    found = dataset[episode]
    if found.infos is None or "c2w" not in found.infos:
        raise ValueError(f"episode {episode} of {dataset.id} has no 'c2w' in its infos")
    poses = found.infos["c2w"]
    goal = found.observations.get("goal") if isinstance(found.observations, dict) else None
    film = Film(
        frames=read_frames(video)[0],
        # The first frame's pose is recorded as often as a chunk has frames.
        c2w=np.concatenate([poses[0, :1], *poses[1:]]),
        captions=[
            f"step {step + 1}: reward {reward:.2f}" for step, reward in enumerate(found.rewards)
        ],
        goal=goal[0] if goal is not None and goal.ndim == 4 else None,
    )
    write_video(path, pages(film), probe(video).rate)
