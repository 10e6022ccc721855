"""Evaluate a trained policy, in the world it was trained in or another.

    sana-wm evaluate checkpoint=outputs/agents/RUN
    sana-wm evaluate checkpoint=outputs/agents/RUN world=twin episodes=200
    sana-wm evaluate --help

Episode i begins where the run's own world draws its start, and has the same goal, in every world.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sana_wm_gym.files import write_json
from sana_wm_gym.hydra_settings import run_command
from sana_wm_gym.provenance import provenance
from sana_wm_gym.weights.hub import SCHEME

if TYPE_CHECKING:
    from .training.config import EvaluateAgentConfig


def evaluate(config: EvaluateAgentConfig, console: Console, settings: Any = None) -> None:
    """Evaluate as `config` describes.

    Raises:
        ValueError: The checkpoint is damaged, or world and policy do not go together.
        FileNotFoundError: There is no run or checkpoint of that name.
    """
    from .policy import trained_policy
    from .training.run_folder import open_run

    if config.folder is None and config.checkpoint.startswith(SCHEME):
        raise ValueError(
            f"{config.checkpoint} is on the hub, expected folder=PLACE for the results"
        )
    run = open_run(config.checkpoint, config.trust)
    policy, simulation = trained_policy(run, config.world)
    place = "own" if config.world is None else simulation.world.spec.name
    out = Path(config.folder) if config.folder else run.folder / "evaluations" / place
    with console.status(f"{config.episodes} episodes"):
        evaluation = config.run(policy, simulation, run.config.world, out / "videos")
    document = {
        **provenance("sana-wm evaluate"),
        "run": run.settings,
        "checkpoint": None if run.checkpoint is None else run.checkpoint.name,
        "starts_from": run.config.world.spec.name,
        "seed": config.seed,
        "deterministic": config.deterministic,
        **evaluation.document(),
    }
    write_json(out / "evaluation.json", document)
    evaluation.table(f"{run.folder}: {evaluation.task} in {place}").print(console)
    console.print(f"written to {out}", soft_wrap=True)


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    return run_command("evaluate", evaluate, arguments)
