"""Settings of a training run and of an evaluation, checked before work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sana_wm_gym.checks import DEVICES, require_device, require_integer
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.tasks import ImageGoal, Task
from sana_wm_gym.evaluation.episodes import Evaluation, Policy, evaluate_policy
from sana_wm_gym.world.world_model import WorldModel

from .loggers import LoggerConfig


@dataclass(frozen=True)
class EvaluationConfig:
    """An evaluation of a policy on episodes of fixed seeds.

    Attributes:
        episodes: Number of episodes; episode i has seed `seed + i`.
        seed: First seed.
        batch_size: Episodes played in one batch.
        videos: Number of episodes that are recorded as videos.
        deterministic: Take the policy's most likely action rather than a sample.
    """

    episodes: int = 100
    seed: int = 10_000
    batch_size: int = 16
    videos: int = 2
    deterministic: bool = True

    def __post_init__(self) -> None:
        for name, low in {"episodes": 1, "seed": 0, "batch_size": 1, "videos": 0}.items():
            require_integer(name, getattr(self, name), low)

    def run(
        self,
        policy: Policy,
        simulation: Simulation,
        starts_from: WorldModel[Any],
        folder: Path | None = None,
    ) -> Evaluation:
        """`evaluate_policy` with these settings; `folder` is for videos."""
        return evaluate_policy(
            policy,
            simulation,
            range(self.seed, self.seed + self.episodes),
            starts_from,
            batch_size=self.batch_size,
            deterministic=self.deterministic,
            videos=folder,
            num_videos=self.videos,
        )


@dataclass(frozen=True)
class TrainAgentConfig:
    """One training run.

    Attributes:
        world: Where the agent acts.
        folder: Where everything goes.
        agent: An algorithm of stable-baselines3 with some of its arguments, or `RandomPolicy`.
        task: Its goal and reward.
        logger: A log next to metrics.csv; None for none.
        evaluation: The evaluation at the end.
        eval_episodes: Episodes of each evaluation during training.
        eval_every: Environment steps between those; they fall on ends of rollouts.
        env: Keyword arguments of `SanaWMVectorEnv`, such as `action_mode` and `observation`.
        num_envs: Sub-environments of a batch.
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
    eval_episodes: int = 32
    eval_every: int = 2_560
    env: Mapping[str, Any] = field(default_factory=lambda: {"action_mode": "planar"})
    num_envs: int = 16
    steps: int = 10_240
    log_every: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.folder, str) or not self.folder:
            raise ValueError(f"folder is {self.folder!r}, expected a path")
        for name in ("eval_episodes", "eval_every", "num_envs", "steps", "log_every", "threads"):
            require_integer(name, getattr(self, name), 1)
        require_integer("seed", self.seed, 0)
        require_device("device", self.device, (*DEVICES, "auto"))

    @property
    def root(self) -> Path:
        """The run's folder."""
        return Path(self.folder)


@dataclass(frozen=True, kw_only=True)
class EvaluateAgentConfig(EvaluationConfig):
    """One evaluation of a trained policy.

    Attributes:
        checkpoint: A run's folder, or a checkpoint in it, or "hf://owner/name@commit".
        world: Where to play; None for the world of the run.
        folder: Where everything goes; None for a folder of the run's, where it is on this machine.
        trust: Import classes that the run's settings name outside of this project's.
    """

    checkpoint: str
    world: WorldModel[Any] | None = None
    folder: str | None = None
    trust: bool = False
