"""Training runs of seconds, in a small exact world."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from stable_baselines3 import PPO

from sana_wm_gym.agents.extractors import CoarseViews
from sana_wm_gym.agents.training.config import EvaluationConfig, TrainAgentConfig
from sana_wm_gym.agents.training.learning import learn
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(16, 16), scenes=(8,), start_radius=0.7)
TASK = ImageGoal(max_episode_steps=2, chunks=(1,))
NETWORK = {
    "net_arch": [8],
    "features_extractor_class": CoarseViews,
    "features_extractor_kwargs": {"features_dim": 8},
}
SMALL = partial(PPO, n_steps=4, batch_size=8, n_epochs=1, policy_kwargs=NETWORK)
EVALUATION = EvaluationConfig(episodes=2, batch_size=2, videos=0)
QUIET = Console(quiet=True)


def config(folder: Path, **changes: Any) -> TrainAgentConfig:
    values: dict[str, Any] = {
        "agent": SMALL,
        "task": TASK,
        "num_envs": 2,
        "steps": 32,
        "evaluation": EVALUATION,
    }
    values |= {"eval_episodes": 2, "eval_every": 16, **changes}
    return TrainAgentConfig(WORLD, str(folder), **values)


def run(folder: Path, **changes: Any) -> bytes:
    """Metrics of a run of the small world, from where it stands to its end."""
    settings = config(folder, **changes)
    learn(settings, {"run": "small", "steps": settings.steps}, "", QUIET)
    return (folder / "metrics.csv").read_bytes()
