"""Plan by branching the world.

python -m agents.plan planner=cem task=image_goal world=tiny episodes=20
python -m agents.plan --help
"""

from __future__ import annotations

from typing import Any

from agents.training.command import instantiated, run_command


def plan(settings: Any) -> int:
    """Plan as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting makes no sense.
        FileNotFoundError: A world's file is missing.
    """
    from rich.console import Console

    from agents.planning import PlanConfig, run

    config = instantiated(settings)
    assert isinstance(config, PlanConfig)
    console = Console()
    evaluation, document = run(config, console)
    name = type(config.planner).__name__
    evaluation.show(console, f"{name}: {evaluation.task} in {evaluation.world}")
    console.print(
        f"{document['env_steps_per_decision']:.0f} env steps and "
        f"{document['seconds_per_decision']:.2f} s per decision; wrote {config.folder}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("plan", plan)


if __name__ == "__main__":
    main()
