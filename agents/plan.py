"""Plan by branching the world: try futures, take the first action of the best one, plan again.

sana-wm plan planner=cem task=image_goal world=tiny episodes=20
sana-wm plan --help
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sana_wm_gym.checks import require_integer
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks.image_goal import GoalState, ImageGoal
from sana_wm_gym.envs.tasks.task import Task
from sana_wm_gym.evaluation.episodes import EpisodeStatistics, Evaluation, play_episodes
from sana_wm_gym.files import write_json
from sana_wm_gym.hydra_settings import run_command
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.video import write_video
from sana_wm_gym.world.world_model import WorldModel

from .episode_clip import EpisodeClip, pages
from .planners import CEM, Plan, Planner, PlannerActor
from .planners.planner import require_planner


@dataclass(frozen=True)
class PlanConfig:
    """One run of a planner. `conf/plan.yaml` holds the defaults.

    Attributes:
        world: Where the planner acts and tries futures.
        folder: Where everything goes.
        task: Its goal and reward.
        planner: The planner.
        env: Keyword arguments of `SanaWMEnv`, such as `observation` and `max_episode_steps`.
        episodes: Number of episodes; episode i has seed `seed + i`, as in `sana-wm evaluate`.
        seed: First seed.
        videos: Number of episodes that are recorded as videos.
        threads: Of torch.
    """

    world: WorldModel[Any]
    folder: str
    task: Task = field(default_factory=ImageGoal)
    planner: Planner = field(default_factory=CEM)
    env: Mapping[str, Any] = field(default_factory=dict)
    episodes: int = 20
    seed: int = 10_000
    videos: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"episodes": 1, "seed": 0, "videos": 0, "threads": 1}.items():
            require_integer(name, getattr(self, name), low)
        require_planner(self.planner)


def plan(
    config: PlanConfig, console: Console, settings: Any = None
) -> tuple[Evaluation, dict[str, Any]]:
    """Plan through all episodes and write videos and `plan.json`, whose content is returned too.

    Raises:
        ValueError: World, task, view and planner do not go together.
    """
    import torch

    torch.set_num_threads(config.threads)
    simulation = SanaWMEnv(config.world, task=config.task, **config.env).simulation
    folder = Path(config.folder)
    results: list[EpisodeStatistics] = []
    actors: list[PlannerActor] = []
    with progress(console) as bars:
        bar = bars.add_task("planning", total=config.episodes)
        for index in range(config.episodes):
            seed = config.seed + index
            actor = PlannerActor(config.planner, simulation, seed)
            passed: list[Episode] = []  # worlds' states are large: kept only for a video
            keep = partial(_keep, passed) if index < config.videos else None
            results += play_episodes(simulation, actor, [seed], config.world, keep)
            actors.append(actor)
            if passed:
                clip = episode_clip(simulation, passed, actor.plans)
                path = folder / f"episode-{seed}.mp4"
                write_video(path, pages(clip), simulation.world.spec.fps)
            returned = f"planning, last return {results[-1].episode_return:.2f}"
            bars.update(bar, advance=1, description=returned)
    evaluation = Evaluation(simulation.world.spec.name, simulation.task.name, tuple(results))
    document = _document(config, evaluation, actors)
    write_json(folder / "plan.json", document)
    name = type(config.planner).__name__
    evaluation.table(f"{name}: {evaluation.task} in {evaluation.world}").print(console)
    console.print(
        f"{document['env_steps_per_decision']:.0f} env steps and "
        f"{document['seconds_per_decision']:.2f} s per decision; wrote {config.folder}",
        highlight=False,
        soft_wrap=True,
    )
    return evaluation, document


def episode_clip(
    simulation: Simulation, episodes: Sequence[Episode], plans: Sequence[Plan]
) -> EpisodeClip:
    """Every frame of an episode, given its value at the start and after each step, with what each
    decision expected."""
    task, goal, goal_c2w = episodes[0].task, None, None
    if isinstance(task, GoalState):
        goal_c2w = task.c2w
        goal = task.picture if task.picture.ndim == 3 else None
    captions = [
        f"step {chunk + 1}: tried {plan.env_steps}"
        + ("" if plan.expected_return is None else f", expects {plan.expected_return:.2f}")
        for chunk, plan in enumerate(plans)
    ]
    return EpisodeClip(
        frames=np.concatenate(simulation.frames(episodes)),
        c2w=np.concatenate([episode.c2w for episode in episodes]),
        captions=captions,
        goal=goal,
        goal_c2w=goal_c2w,
        frames_per_chunk=simulation.world.spec.frames_per_chunk,
    )


def _keep(episodes: list[Episode], index: int, episode: Episode) -> None:
    episodes.append(episode)


def _document(
    config: PlanConfig, evaluation: Evaluation, actors: Sequence[PlannerActor]
) -> dict[str, Any]:
    steps = [[plan.env_steps for plan in actor.plans] for actor in actors]
    decisions, imagined = sum(map(len, steps)), sum(map(sum, steps))
    seconds = sum(actor.seconds for actor in actors)
    return {
        **provenance("sana-wm plan"),
        "planner": repr(config.planner),
        "threads": config.threads,
        "env_steps_per_decision": imagined / decisions,
        "env_steps_per_episode": imagined / len(actors),
        "seconds_per_decision": seconds / decisions,
        "env_steps_per_second": imagined / seconds if imagined else None,
        **evaluation.document(),
        "decisions": [
            {
                "seed": one.seed,
                "actions": [plan.action.tolist() for plan in actor.plans],
                "expected_returns": [plan.expected_return for plan in actor.plans],
                "env_steps": [plan.env_steps for plan in actor.plans],
            }
            for one, actor in zip(evaluation.episodes, actors, strict=True)
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("plan", plan, arguments)
