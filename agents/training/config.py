"""Settings of a training run and of an evaluation, checked before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from agents.training.loggers import LoggerConfig
from sana_wm_gym.checks import require_integer
from sana_wm_gym.envs.tasks import ImageGoal, Task
from sana_wm_gym.evaluation.episodes import Evaluation, Policy, evaluate_policy
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluations of a policy on episodes of fixed seeds.

    Attributes:
        episodes: Of every evaluation during training; episode i has seed `seed + i`.
        last_episodes: Of the evaluation at the end.
        every: Environment steps between evaluations; they fall on ends of rollouts.
        seed: First seed.
        batch_size: Episodes played in one batch.
        videos: Number of episodes that are recorded as videos.
        deterministic: Take the policy's most likely action rather than a sample.
    """

    episodes: int = 32
    last_episodes: int = 100
    every: int = 2_560
    seed: int = 10_000
    batch_size: int = 16
    videos: int = 2
    deterministic: bool = True

    def __post_init__(self) -> None:
        low = {"episodes": 1, "last_episodes": 1, "every": 1, "seed": 0, "batch_size": 1}
        for name, least in {**low, "videos": 0}.items():
            require_integer(f"evaluation.{name}", getattr(self, name), least)

    def evaluate(
        self,
        policy: Policy,
        simulation: Any,
        episodes: int,
        starts_from: WorldModel[Any],
        videos: Path | None = None,
    ) -> Evaluation:
        """`evaluate_policy` with these settings; `videos` is a folder."""
        return evaluate_policy(
            policy,
            simulation,
            range(self.seed, self.seed + episodes),
            starts_from,
            batch_size=self.batch_size,
            deterministic=self.deterministic,
            videos=videos,
            num_videos=self.videos,
        )


@dataclass(frozen=True)
class EnvSettings:
    """An agent's observations and actions, and the length of an episode.

    Attributes:
        action_mode: "continuous", "planar", "discrete" or "keys".
        observation: Parts of the observation next to the task's: "frame", "frames", "latent",
            "pose".
        size: (height, width) of "frame"; null takes the world's.
        horizon: Chunks of an episode; null takes the task's.
    """

    action_mode: str = "continuous"
    observation: Sequence[str] = ("frame",)
    size: Sequence[int] | None = None
    horizon: int | None = None

    def __post_init__(self) -> None:
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"env.size is {list(self.size)}, expected [height, width]")

    @property
    def keywords(self) -> dict[str, Any]:
        """As keyword arguments of the environments."""
        return {
            "action_mode": self.action_mode,
            "observation": tuple(self.observation),
            "observation_size": None if self.size is None else tuple(self.size),
            "horizon": self.horizon,
        }


@dataclass(frozen=True)
class TrainAgentConfig:
    """One training run.

    Attributes:
        world: Where the agent acts.
        folder: Where everything goes.
        agent: An algorithm of stable-baselines3 with some of its own arguments, or RandomPolicy.
        task: Its goal and reward.
        logger: A log next to metrics.csv; None for none.
        evaluation: Episodes and intervals of evaluations.
        env: Observations and actions.
        num_envs: Sub-environments that share a batch.
        steps: Environment steps of the whole run; a step is a chunk of frames.
        log_every: Least number of steps between rows of metrics, and so between checkpoints; they
            fall on ends of rollouts.
        seed: Source of everything random.
        device: Where the policy learns: "cpu", "cuda" or "auto".
        threads: Of torch; 1 gives the same numbers on any machine of a kind.
    """

    world: WorldModel[Any]
    folder: str
    agent: partial[Any]
    task: Task = field(default_factory=ImageGoal)
    logger: LoggerConfig | None = None
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    env: EnvSettings = field(default_factory=lambda: EnvSettings("planar"))
    num_envs: int = 16
    steps: int = 10_240
    log_every: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        for name, low in {"num_envs": 1, "steps": 1, "log_every": 1, "seed": 0}.items():
            require_integer(name, getattr(self, name), low)
        require_integer("threads", self.threads, 1)

    @property
    def root(self) -> Path:
        """The run's folder."""
        return Path(self.folder)


@dataclass(frozen=True)
class EvaluateAgentConfig:
    """One evaluation of a trained policy.

    Attributes:
        checkpoint: A run's folder, or a checkpoint in it.
        world: Where to play; None for the world of the run.
        episodes: Number of episodes.
        seed: Of the first; the others follow.
        batch_size: Episodes played in one batch.
        videos: Number of episodes that are recorded as videos.
        deterministic: Take the policy's most likely action rather than a sample.
        folder: Where everything goes; None for a folder of the run's.
        place: Name of that folder; None for "own".
        trust: Run settings that name code outside of this project.
    """

    checkpoint: str
    world: WorldModel[Any] | None = None
    episodes: int = 100
    seed: int = 10_000
    batch_size: int = 16
    videos: int = 2
    deterministic: bool = True
    folder: str | None = None
    place: str | None = None
    trust: bool = False

    def __post_init__(self) -> None:
        self.evaluation  # noqa: B018 (checks the settings)

    @property
    def evaluation(self) -> EvaluationConfig:
        """As evaluations during training have them."""
        return EvaluationConfig(
            last_episodes=self.episodes,
            seed=self.seed,
            batch_size=self.batch_size,
            videos=self.videos,
            deterministic=self.deterministic,
        )
