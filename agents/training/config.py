"""Settings of a training run and of an evaluation, checked before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agents.training.algorithms import PPO, Agent
from agents.training.loggers import CsvOnly, Logger
from sana_wm_gym.envs.tasks import ImageGoal, Task
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class EvaluationSettings:
    """How a policy is judged: on episodes of fixed seeds, the same for every policy and world.

    Attributes:
        episodes: Of every evaluation during training; episode i has seed `seed + i`.
        last_episodes: Of the evaluation at the end.
        every: Environment steps between evaluations; they fall on ends of rollouts.
        seed: First seed.
        rows: Episodes that share a batch.
        videos: First so many episodes are filmed.
        deterministic: Take the policy's best action rather than draw one.
    """

    episodes: int = 32
    last_episodes: int = 100
    every: int = 2_560
    seed: int = 10_000
    rows: int = 16
    videos: int = 2
    deterministic: bool = True

    def __post_init__(self) -> None:
        least = {"episodes": 1, "last_episodes": 1, "every": 1, "seed": 0, "rows": 1, "videos": 0}
        for name, low in least.items():
            require_whole(f"evaluation.{name}", getattr(self, name), low)


@dataclass(frozen=True)
class EnvSettings:
    """What an agent sees and how long.

    Attributes:
        observation: Parts of the observation beside the task's: "frame", "frames", "latent",
            "pose".
        size: (height, width) of "frame"; null takes the world's.
        horizon: Chunks of an episode; null takes the task's.
    """

    observation: Sequence[str] = ("frame",)
    size: Sequence[int] | None = None
    horizon: int | None = None

    @property
    def observation_size(self) -> tuple[int, int] | None:
        """`size` as the environment takes it.

        Raises:
            ValueError: It is not two numbers.
        """
        if self.size is None:
            return None
        if len(self.size) != 2:
            raise ValueError(f"given env.size={list(self.size)}, expected [height, width]")
        return self.size[0], self.size[1]


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    Attributes:
        world: Where the agent acts.
        task: What it is to do there.
        agent: How it learns.
        logger: Where rows go beside metrics.csv.
        evaluation: How it is judged.
        env: What it sees.
        folder: Where everything goes.
        num_envs: Environments that share a batch.
        steps: Environment steps of the whole run; a step is a chunk of 24 frames.
        seed: Source of everything random.
        device: Where the policy learns: "cpu", "cuda" or "auto".
        threads: Of torch; 1 gives the same numbers on any machine of a kind.
    """

    world: WorldModel[Any]
    folder: str
    task: Task = field(default_factory=ImageGoal)
    agent: Agent = field(default_factory=PPO)
    logger: Logger = field(default_factory=CsvOnly)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    env: EnvSettings = field(default_factory=EnvSettings)
    num_envs: int = 16
    steps: int = 10_240
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"num_envs": 1, "steps": 1, "seed": 0, "threads": 1}.items():
            require_whole(name, getattr(self, name), low)
        self.agent.check(self.num_envs)

    @property
    def root(self) -> Path:
        """The run's folder."""
        return Path(self.folder)


@dataclass(frozen=True)
class EvaluateConfig:
    """One evaluation of a trained policy.

    Attributes:
        checkpoint: A run's folder, or a checkpoint in it.
        world: Where to play; None for the world of the run.
        episodes: How many.
        seed: Of the first; the others follow.
        rows: Episodes that share a batch.
        videos: First so many episodes are filmed.
        deterministic: Take the policy's best action rather than draw one.
        folder: Where everything goes; None for a folder of the run's.
        place: What that folder is called; None for "own".
        trust: Run settings that name code outside of this project.
    """

    checkpoint: str
    world: WorldModel[Any] | None = None
    episodes: int = 100
    seed: int = 10_000
    rows: int = 16
    videos: int = 2
    deterministic: bool = True
    folder: str | None = None
    place: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        require_whole("episodes", self.episodes, 1)
        require_whole("seed", self.seed, 0)
        require_whole("rows", self.rows, 1)
        require_whole("videos", self.videos, 0)

    @property
    def settings(self) -> EvaluationSettings:
        """As evaluations during training have them."""
        return EvaluationSettings(
            last_episodes=self.episodes,
            seed=self.seed,
            rows=self.rows,
            videos=self.videos,
            deterministic=self.deterministic,
        )


def require_whole(name: str, value: Any, low: int) -> None:
    """Raise unless `value` is a whole number of at least `low`.

    Raises:
        ValueError: Says what was given.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"given {name}={value!r}; expected a whole number >= {low}")
