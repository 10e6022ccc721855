"""Learn a policy from a recorded dataset by behaviour cloning, and try it.

python -m agents.clone dataset=image_goal/expert-v0
python -m agents.clone --help
"""

from __future__ import annotations

from typing import Any

from agents.training.command import instantiated, run_command


def clone(settings: Any) -> int:
    """Clone as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting makes no sense.
        FileNotFoundError: There is no such dataset.
        ImportError: A package is missing.
    """
    from rich.console import Console

    from agents.cloning import CloneConfig
    from agents.cloning import clone as run

    config = instantiated(settings)
    assert isinstance(config, CloneConfig)
    console = Console()
    losses, evaluation = run(config, console)
    for name in ("loss", "held_out"):
        console.print(
            f"{name}: {losses[0][name]:.4f} before, {losses[-1][name]:.4f} after "
            f"{config.epochs} epochs",
            highlight=False,
        )
    if evaluation is not None:
        evaluation.show(console, f"clone: {evaluation.task} in {evaluation.world}")
    console.print(f"wrote {config.folder}", highlight=False, soft_wrap=True)
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("clone", clone)


if __name__ == "__main__":
    main()
