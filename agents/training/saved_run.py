"""A run that somebody made: its settings and its policy, read without running what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.training.checkpoint import latest_checkpoint
from agents.training.command import CONF, instantiated
from agents.training.config import TrainConfig


@dataclass(frozen=True)
class SavedRun:
    """A run's folder, opened.

    Attributes:
        folder: The folder.
        config: Its settings.
        settings: What its results depend on, as JSON values.
        checkpoint: The checkpoint that is meant; None where a run has none, having learned
            nothing.
    """

    folder: Path
    config: TrainConfig
    settings: dict[str, Any]
    checkpoint: Path | None


def open_run(path: Path, trust: bool = False) -> SavedRun:
    """Open a run by its folder, or by one of its checkpoints.

    Args:
        path: The folder of a run, whose newest checkpoint is meant, or of a checkpoint.
        trust: Run settings that name code outside of this project. Settings are instructions: a
            stranger's may do anything.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: Its settings make no sense, or name code that nobody vouches for.
    """
    from omegaconf import OmegaConf

    folder = next((p for p in (path, *path.parents[:2]) if (p / "run.json").is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"no run at {path}: expected a folder that agents.train has made")
    settings = OmegaConf.load(folder / "config.yaml")
    strange = sorted(set(_targets(OmegaConf.to_container(settings))) - known_targets())
    if strange and not trust:
        raise ValueError(
            f"the settings of {folder} name {', '.join(strange)}, which no file in conf/ does; "
            "trust=true runs them all the same"
        )
    config = instantiated(settings)
    if not isinstance(config, TrainConfig):
        raise ValueError(f"{folder} holds a {type(config).__name__}, expected a training run")
    inside = path if path.parent == folder / "checkpoints" else None
    return SavedRun(
        folder,
        config,
        json.loads((folder / "run.json").read_text(encoding="utf-8")),
        inside or latest_checkpoint(folder / "checkpoints"),
    )


def known_targets() -> set[str]:
    """Everything that the settings in conf/ name as `_target_`."""
    from omegaconf import OmegaConf

    return {
        target
        for path in CONF.rglob("*.yaml")
        for target in _targets(OmegaConf.to_container(OmegaConf.load(path)))
    }


def _targets(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        for key, value in settings.items():
            if key == "_target_":
                yield str(value)
            else:
                yield from _targets(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
