"""A run's folder: which run it holds, and its settings and policy, read without running them.

config.yaml       every setting, resolved
run.json          the settings that results depend on
metrics.csv       one row per rollout; the same bytes for the same settings and seed
metrics.json      the same rows, with command, commit, device and date
timings.csv       seconds spent, row by row
evaluation.json   the last evaluation, episode by episode; there once the run is finished
policy.zip        the learner as stable-baselines3 saves it
videos/           evaluation episodes, every frame
checkpoints/      the newest checkpoint
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm_gym.files import remove_leftovers, write_json, write_text
from sana_wm_gym.hydra_settings import conf_folder, instantiated

from .checkpoint import latest_checkpoint
from .config import TrainAgentConfig


def claim(folder: Path, settings: Mapping[str, Any], config: str) -> None:
    """Make a folder this run's, or check that it is.

    Args:
        folder: The folder.
        settings: What the run's results depend on, as JSON values.
        config: Text of `config.yaml`.

    Raises:
        ValueError: It holds another run; lists the settings that differ.
    """
    remove_leftovers(folder)
    identity = folder / "run.json"
    if not identity.is_file():
        write_text(folder / "config.yaml", config)
        write_json(identity, settings)
        return
    changed = differences(json.loads(identity.read_text(encoding="utf-8")), settings)
    if changed:
        raise ValueError(
            f"{folder} holds another run ({'; '.join(changed)}): "
            "give another folder, or remove this one"
        )


def differences(old: Mapping[str, Any], new: Mapping[str, Any], within: str = "") -> list[str]:
    """Settings, by dotted name, in which two runs differ, with both values."""
    found: list[str] = []
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found += differences(was, now, f"{within}{key}.")
        elif was != now:
            found.append(f"{within}{key} was {json.dumps(was)}, now {json.dumps(now)}")
    return found


@dataclass(frozen=True)
class SavedRun:
    """A run's folder, opened.

    Attributes:
        folder: The folder.
        config: Its settings.
        settings: What its results depend on, as JSON values.
        checkpoint: The checkpoint that is meant; None where a run has none.
    """

    folder: Path
    config: TrainAgentConfig
    settings: dict[str, Any]
    checkpoint: Path | None


def open_run(path: Path, trust: bool = False) -> SavedRun:
    """Open a run by its folder, or by one of its checkpoints.

    Args:
        path: The folder of a run, whose newest checkpoint is meant, or of a checkpoint.
        trust: Run settings that name code outside of this project. Settings are instructions: a
            unknownr's may do anything.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: Its settings are invalid, or name code that no file in conf/ names.
    """
    from omegaconf import OmegaConf

    folder = next((p for p in (path, *path.parents[:2]) if (p / "run.json").is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"no run at {path}: expected a folder of `sana-wm train`")
    settings = OmegaConf.load(folder / "config.yaml")
    unknown = sorted(set(_targets(OmegaConf.to_container(settings))) - known_targets())
    if unknown and not trust:
        raise ValueError(
            f"the settings of {folder} name {', '.join(unknown)}, which no file in conf/ does; "
            "trust=true runs them all the same"
        )
    config = instantiated(settings)
    if not isinstance(config, TrainAgentConfig):
        raise ValueError(f"{folder} holds a {type(config).__name__}, expected a training run")
    return SavedRun(
        folder,
        config,
        json.loads((folder / "run.json").read_text(encoding="utf-8")),
        path
        if path.parent == folder / "checkpoints"
        else latest_checkpoint(folder / "checkpoints"),
    )


def known_targets() -> set[str]:
    """Everything that the settings in conf/ name as code to call or to look up."""
    from omegaconf import OmegaConf

    return {
        target
        for path in conf_folder().rglob("*.yaml")
        for target in _targets(OmegaConf.to_container(OmegaConf.load(path)))
    }


def _targets(settings: Any) -> Iterator[str]:
    if isinstance(settings, dict):
        target = str(settings.get("_target_", ""))
        if target:
            yield target
        if target.startswith("hydra.utils.get_"):  # a look-up imports what it names
            yield str(settings.get("path"))
        if target.endswith(".load_world") and ":" in str(settings.get("name")):
            yield str(settings["name"])  # "package.module:object"
        for value in settings.values():
            yield from _targets(value)
    elif isinstance(settings, list):
        for value in settings:
            yield from _targets(value)
