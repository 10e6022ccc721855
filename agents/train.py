"""Train an agent in a world.

    python -m agents.train agent=ppo task=image_goal world=tiny num_envs=16
    python -m agents.train --help

Stop it whenever you like, in any way: the same command resumes it exactly, and metrics.csv ends up
the same bytes as without a stop.
"""

from __future__ import annotations

from typing import Any

from agents.command import instantiated, run_command


def train(settings: Any) -> int:
    """Train as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting is invalid, or the folder holds another run.
        ImportError: A package is missing.
        FileNotFoundError: A world's file is missing.
    """
    from omegaconf import OmegaConf
    from rich.console import Console

    from agents.training.config import TrainAgentConfig
    from agents.training.learning import learn

    config = instantiated(settings)
    assert isinstance(config, TrainAgentConfig)
    console = Console()
    plain = OmegaConf.to_container(settings, resolve=True)
    assert isinstance(plain, dict)
    identity = {str(k): v for k, v in plain.items() if k not in ("folder", "logger")}
    evaluation = learn(config, identity, OmegaConf.to_yaml(settings, resolve=True), console)
    evaluation.table(f"{config.folder}: {evaluation.task} in {evaluation.world}").print(console)
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("agents", train)


if __name__ == "__main__":
    main()
