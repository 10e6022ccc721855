"""Train an agent in a world.

    sana-wm train agent=ppo task=image_goal world=tiny num_envs=16
    sana-wm train --help

Stop it whenever you like, in any way: the same command resumes it exactly, and metrics.csv ends up
the same bytes as without a stop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sana_wm_gym.hydra_settings import run_command

if TYPE_CHECKING:
    from .training.config import TrainAgentConfig


def train(config: TrainAgentConfig, console: Console, settings: Any) -> None:
    """Train as `config` describes; `settings` are what hydra made it of."""
    from omegaconf import OmegaConf

    from .training.learning import learn

    plain = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(plain, dict)
    identity = {str(k): v for k, v in plain.items() if k not in ("folder", "logger")}
    evaluation = learn(config, identity, OmegaConf.to_yaml(settings, resolve=True), console)
    evaluation.table(f"{config.folder}: {evaluation.task} in {evaluation.world}").print(console)


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("agents", train, arguments)
