"""Record episodes of a planner as a Minari dataset.

sana-wm record env.id=SanaWM/ImageGoal-v0 planner=expert dataset=image_goal/expert-v0
sana-wm record --help
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from rich.console import Console

from sana_wm_gym import ENV_IDS
from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import (
    DatasetRecorder,
    dataset_path,
    open_dataset,
    read_episodes,
    video_path,
)
from sana_wm_gym.envs.sana_wm_env import simulation_in
from sana_wm_gym.evaluation.episodes import EpisodeStatistics, play_episode
from sana_wm_gym.hydra_settings import run_command
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.video import probe, read_frames, write_video

from .episode_clip import EpisodeClip, pages
from .planners import Planner, PlannerActor, ScriptedExpert
from .planners.planner import require_planner


@dataclass(frozen=True)
class RecordConfig:
    """One recording. `conf/record.yaml` holds the defaults.

    Attributes:
        dataset: Name with a version, such as "image_goal/expert-v0".
        folder: Where datasets are; None takes MINARI_DATASETS_PATH, else Minari's own place.
        env: Keyword arguments of `gym.make` as plain values, so that the dataset can recover the
            environment: `id` of a registered one with continuous actions, `world` by its name.
        planner: Chooses the actions.
        episodes: Number of episodes; episode i has seed `seed + i`.
        seed: First seed.
        jpeg: False stores images exactly.
        videos: Record every frame of every chunk.
        clip: A video of the first episode with its goal and path; None for none.
        threads: Of torch.
    """

    dataset: str
    folder: str | None = None
    env: Mapping[str, Any] = field(
        default_factory=lambda: {"id": "SanaWM/ImageGoal-v0", "world": "tiny"}
    )
    planner: Planner = field(default_factory=ScriptedExpert)
    episodes: int = 50
    seed: int = 0
    jpeg: bool = True
    videos: bool = True
    clip: str | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"episodes": 1, "seed": 0, "threads": 1}.items():
            require_integer(name, getattr(self, name), low)
        if self.clip is not None and not self.videos:
            raise ValueError(f"clip is {self.clip!r} and videos false, expected videos=true")
        require_planner(self.planner)
        require_choice("env.id", self.env["id"], tuple(ENV_IDS))


def record(config: RecordConfig, console: Console, settings: Any = None) -> Path:
    """Play and record; returns the dataset's place.

    Raises:
        ValueError: A setting is invalid.
        FileExistsError: There is such a dataset.
        ImportError: Minari is not installed.
    """
    import torch

    torch.set_num_threads(config.threads)
    place = dataset_path(config.dataset, config.folder)
    if place.exists():
        raise FileExistsError(f"there is a dataset at {place}, expected a new name or version")
    notes = {
        "algorithm_name": repr(config.planner),
        "description": f"{config.env['id']} in world {config.env['world']}",
        "provenance": str(provenance("sana-wm record")),
    }
    env = gym.make(**config.env, render_mode="rgb_array_list" if config.videos else None)
    recorder = DatasetRecorder(env, config.dataset, config.folder, jpeg=config.jpeg, notes=notes)
    with recorder, progress(console) as bars:
        for index in bars.track(range(config.episodes), description="recording"):
            play_planner(recorder, config.planner, config.seed + index)
    dataset = open_dataset(config.dataset, config.folder)
    if config.clip is not None:
        write_clip(dataset, 0, config.clip)
    megabytes = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
    console.print(
        f"{dataset.total_episodes} episodes, {dataset.total_steps} steps, {megabytes:.1f} MB "
        f"at {place}",
        highlight=False,
        soft_wrap=True,
    )
    return place


def play_planner(env: gym.Env[Any, Any], planner: Planner, seed: int) -> EpisodeStatistics:
    """One episode of a `SanaWMEnv`, wrapped or not, with continuous actions.

    Seed and planner decide everything, the draws of the search included.
    """
    inner = env.unwrapped
    assert isinstance(inner, SanaWMEnv)
    actor = PlannerActor(planner, simulation_in(env), seed)
    return play_episode(env, lambda _: actor.act(inner.snapshot().episode), seed)


def write_clip(dataset: Any, episode: int, path: str | Path) -> None:
    """A video of a recorded episode: view, goal image where one was observed, path from above.

    Args:
        dataset: A `minari.MinariDataset` that `DatasetRecorder` wrote.
        episode: Its number.
        path: File to write, ending in ".mp4".

    Raises:
        FileNotFoundError: The episode has no video.
        ValueError: No camera was recorded, or the path has another ending.
    """
    video = video_path(dataset, episode)
    [found] = read_episodes(dataset, [episode])
    if found.infos is None or "c2w" not in found.infos:
        raise ValueError(f"episode {episode} of {dataset.id} has no 'c2w' in its infos")
    poses = found.infos["c2w"]
    goal = found.observations.get("goal") if isinstance(found.observations, dict) else None
    # The first frame's pose is recorded as often as a chunk has frames.
    c2w = np.concatenate([poses[0, :1], *poses[1:]])
    clip = EpisodeClip(
        frames=read_frames(video, len(c2w))[0],
        c2w=c2w,
        captions=[
            f"step {step + 1}: reward {reward:.2f}" for step, reward in enumerate(found.rewards)
        ],
        goal=goal[0] if goal is not None and goal.ndim == 4 else None,
        frames_per_chunk=poses.shape[1],
    )
    write_video(path, pages(clip), probe(video).rate)


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("record", record, arguments)
