"""Episodes that are planned through: try futures, do the first step of the best, look again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agents.episode_video import Film, pages
from agents.planners import CEM, Plan, Planner
from agents.training.config import EnvSettings, require_whole
from agents.training.evaluation import EpisodeResult, Evaluation
from agents.training.worlds import draw_start
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks.image_goal import GoalState, ImageGoal
from sana_wm_gym.envs.tasks.task import Task
from sana_wm_gym.files import write_json
from sana_wm_gym.provenance import provenance
from sana_wm_gym.video import write_video
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class PlanConfig:
    """One run of a planner. `conf/plan.yaml` holds the defaults.

    Attributes:
        world: Where it acts, and where it tries.
        folder: Where everything goes.
        task: What it is to do.
        planner: How it chooses.
        env: What is observed, and how long an episode is.
        episodes: How many; episode i has seed `seed + i`, as in `agents.evaluate`.
        seed: First seed.
        videos: First so many episodes are filmed.
        threads: Of torch.
    """

    world: WorldModel[Any]
    folder: str
    task: Task = field(default_factory=ImageGoal)
    planner: Planner = field(default_factory=CEM)
    env: EnvSettings = field(default_factory=EnvSettings)
    episodes: int = 20
    seed: int = 10_000
    videos: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"episodes": 1, "seed": 0, "videos": 0, "threads": 1}.items():
            require_whole(name, getattr(self, name), low)
        if not hasattr(self.planner, "plan"):
            kind = type(self.planner).__name__
            raise ValueError(f"given planner {kind}; expected something with .plan()")

    @property
    def simulation(self) -> Simulation:
        """World, task and view.

        Raises:
            ValueError: They do not go together.
        """
        return SanaWMEnv(
            self.world,
            task=self.task,
            observation=tuple(self.env.observation),
            observation_size=self.env.observation_size,
            horizon=self.env.horizon,
        ).simulation


@dataclass(frozen=True, eq=False)
class Played:
    """An episode that was planned through.

    Attributes:
        result: How it went.
        plans: What was decided at each step.
        stands: The episode before the first step and after each.
        seconds: Spent on planning.
    """

    result: EpisodeResult
    plans: tuple[Plan, ...]
    stands: tuple[Episode, ...]
    seconds: float

    @property
    def env_steps(self) -> int:
        """Chunks that were imagined, in all."""
        return sum(plan.env_steps for plan in self.plans)


def play(
    simulation: Simulation, planner: Planner, seed: int, starts_from: WorldModel[Any]
) -> Played:
    """One episode with a receding horizon: after each step the rest is planned anew.

    Args:
        simulation: Where it takes place.
        planner: Decides.
        seed: Of start, goal, noise and search; start and goal are those of `agents.evaluate`.
        starts_from: The world that draws the start.
    """
    start = draw_start(starts_from, seed)
    [episode] = simulation.begin(
        [None if start is None else {"start": start}], [seeding.np_random(seed)[0]]
    )
    rng = np.random.default_rng([seed, 1])
    plans: list[Plan] = []
    stands, earned, seconds = [episode], 0.0, 0.0
    info: dict[str, float | bool] = {}
    while not episode.over and episode.chunk < simulation.horizon:
        began = time.perf_counter()
        plans.append(planner.plan(simulation, episode, rng, plans[-1] if plans else None))
        seconds += time.perf_counter() - began
        command = simulation.decode(episode, plans[-1].action)
        [episode], [verdict] = simulation.play([episode], [command])
        stands.append(episode)
        earned += verdict.reward
        info = dict(verdict.info)
    result = EpisodeResult(seed, earned, episode.chunk, info)
    return Played(result, tuple(plans), tuple(stands), seconds)


def film(simulation: Simulation, played: Played) -> Film:
    """Every frame of an episode with what was expected of each decision."""
    task, goal, goal_c2w = played.stands[0].task, None, None
    if isinstance(task, GoalState):
        goal_c2w = task.c2w
        goal = task.picture if task.picture.ndim == 3 else None
    captions = [
        f"step {chunk + 1}: tried {plan.env_steps}"
        + ("" if plan.expected_return is None else f", hopes for {plan.expected_return:.2f}")
        for chunk, plan in enumerate(played.plans)
    ]
    return Film(
        frames=np.concatenate(simulation.frames(played.stands)),
        c2w=np.concatenate([episode.c2w for episode in played.stands]),
        captions=captions,
        goal=goal,
        goal_c2w=goal_c2w,
    )


def run(config: PlanConfig, console: Console) -> tuple[Evaluation, dict[str, Any]]:
    """Plan through all episodes and write results and films.

    Returns:
        How the episodes went, and what `plan.json` holds.

    Raises:
        ValueError: World, task, view and planner do not go together.
    """
    import torch

    torch.set_num_threads(config.threads)
    simulation, folder = config.simulation, Path(config.folder)
    episodes: list[Played] = []
    with _progress(console) as progress:
        bar = progress.add_task("planning", total=config.episodes)
        for index in range(config.episodes):
            played = play(simulation, config.planner, config.seed + index, config.world)
            if index < config.videos:
                path = folder / f"episode-{played.result.seed}.mp4"
                write_video(path, pages(film(simulation, played)), simulation.world.spec.fps)
            # Worlds' states are large, and no longer needed.
            episodes.append(Played(played.result, played.plans, (), played.seconds))
            progress.update(bar, advance=1, description=_so_far(episodes))
    evaluation = Evaluation(
        simulation.world.spec.name, simulation.task.name, tuple(one.result for one in episodes)
    )
    document = _document(config, evaluation, episodes)
    write_json(folder / "plan.json", document)
    return evaluation, document


def _document(
    config: PlanConfig, evaluation: Evaluation, episodes: Sequence[Played]
) -> dict[str, Any]:
    decisions = [plan.env_steps for one in episodes for plan in one.plans]
    imagined, seconds = sum(decisions), sum(one.seconds for one in episodes)
    return {
        **provenance("agents.plan"),
        "planner": repr(config.planner),
        "threads": config.threads,
        "env_steps_per_decision": imagined / len(decisions),
        "env_steps_per_episode": imagined / len(episodes),
        "seconds_per_decision": seconds / len(decisions),
        "env_steps_per_second": imagined / seconds if imagined else None,
        **evaluation.document(),
        "decisions": [
            {
                "seed": one.result.seed,
                "actions": [plan.action.tolist() for plan in one.plans],
                "expected_returns": [plan.expected_return for plan in one.plans],
                "env_steps": [plan.env_steps for plan in one.plans],
            }
            for one in episodes
        ],
    }


def _so_far(episodes: Sequence[Played]) -> str:
    last = episodes[-1].result
    if "is_success" not in last.info:
        return f"planning, last return {last.ret:.2f}"
    return f"planning, {sum(bool(one.result.info['is_success']) for one in episodes)} succeeded"


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
