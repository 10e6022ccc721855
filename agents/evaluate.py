"""Evaluate a trained policy, in the world it was trained in or another.

    python -m agents.evaluate checkpoint=outputs/agents/RUN
    python -m agents.evaluate checkpoint=outputs/agents/RUN world=twin episodes=200
    python -m agents.evaluate --help

Episode i begins where the run's own world draws its start, and has the same goal, in every world.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agents.command import instantiated, run_command


def evaluate(settings: Any) -> int:
    """Evaluate as hydra's settings say; returns the exit status.

    Raises:
        ValueError: A setting is invalid, or the checkpoint is damaged.
        ImportError: A package is missing.
        FileNotFoundError: There is no run, checkpoint or world of that name.
    """
    from rich.console import Console

    from agents.training.config import EvaluateAgentConfig
    from agents.training.learning import trained_policy
    from agents.training.run_folder import open_run
    from sana_wm_gym.files import write_json
    from sana_wm_gym.provenance import provenance

    wanted = instantiated(settings)
    assert isinstance(wanted, EvaluateAgentConfig)
    run = open_run(Path(wanted.checkpoint), wanted.trust)
    policy, simulation = trained_policy(run, wanted.world)
    # A world given by its name or file has that name; None is the world of the run.
    place = simulation.world.spec.name if wanted.place == "named" else wanted.place or "own"
    out = Path(wanted.folder) if wanted.folder else run.folder / "evaluations" / place
    console = Console()
    with console.status(f"{wanted.episodes} episodes"):
        evaluation = wanted.run(policy, simulation, run.config.world, out / "videos")
    write_json(
        out / "evaluation.json",
        {
            **provenance("agents.evaluate"),
            "run": run.settings,
            "checkpoint": None if run.checkpoint is None else run.checkpoint.name,
            "starts_from": run.config.world.spec.name,
            "seed": wanted.seed,
            "deterministic": wanted.deterministic,
            **evaluation.document(),
        },
    )
    evaluation.table(f"{run.folder}: {evaluation.task} in {place}").print(console)
    console.print(f"written to {out}", soft_wrap=True)
    return 0


def main() -> None:
    """Command line; ends the process with 0, or 2 if a setting is wrong."""
    run_command("evaluate", evaluate)


if __name__ == "__main__":
    main()
