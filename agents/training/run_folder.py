"""A run's folder: which run it holds, and its settings and policy, read without running them.

config.yaml       every setting, resolved
run.json          the settings that results depend on, and every extension of the run
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
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm_gym.files import read_json, write_text
from sana_wm_gym.weights.hub import SCHEME, require_address, snapshot

from .checkpoint import LEARNER, latest_checkpoint, step_of
from .config import TrainAgentConfig
from .saved_settings import rebuild

LOGGING = ("log_every", "eval_every", "eval_episodes", "evaluation")
"""Settings that change what a run reports, not what it learns."""

_LARGEST = 1_000_000  # bytes


def claim(folder: Path, settings: Mapping[str, Any], config: str) -> None:
    """Make a folder this run's, or check that it is. `steps` may grow, and `LOGGING` may change.

    Such an extension is added to run.json, and evaluation.json goes: the run is not finished.

    Args:
        folder: The folder.
        settings: What the run's results depend on, as JSON values.
        config: Text of `config.yaml`.

    Raises:
        ValueError: It holds another run; lists the settings that differ.
    """
    identity, extensions = folder / "run.json", []
    if identity.is_file():
        earlier = read_run(folder)
        changed = differences(earlier["settings"], settings)
        refused = [
            f"{name} was {json.dumps(was)}, now {json.dumps(now)}"
            for name, (was, now) in changed.items()
            if name.partition(".")[0] not in LOGGING and not (name == "steps" and was < now)
        ]
        if refused:
            raise ValueError(
                f"{folder} holds another run ({'; '.join(refused)}): "
                "give another folder, or remove this one"
            )
        extensions = earlier["extensions"]
        if changed:
            checkpoint = latest_checkpoint(folder / "checkpoints")
            step = 0 if checkpoint is None else step_of(checkpoint)
            values = {name: {"from": was, "to": now} for name, (was, now) in changed.items()}
            extensions.append({"at_step": step, "changed": values})
            (folder / "evaluation.json").unlink(missing_ok=True)
    _update(folder / "config.yaml", config)
    document = {"settings": settings, "extensions": extensions}
    _update(identity, json.dumps(document, indent=1, allow_nan=False) + "\n")


def _update(path: Path, text: str) -> None:
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)


def read_run(folder: Path) -> dict[str, Any]:
    """The content of run.json: "settings" as JSON values, and a list of "extensions".

    Raises:
        ValueError: The file is damaged.
    """
    path = folder / "run.json"
    document = read_json(path, _LARGEST)
    kinds = {name: type(document.get(name)) for name in ("settings", "extensions")}
    if kinds != {"settings": dict, "extensions": list}:
        raise ValueError(f"{path} holds {kinds}, expected an object and a list")
    return document


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], within: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Old and new values of the settings that differ, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key), new.get(key)
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            found |= differences(was, now, f"{within}{key}.")
        elif was != now:
            found[f"{within}{key}"] = (was, now)
    return found


@dataclass(frozen=True)
class SavedRun:
    """A run's folder, opened: its settings, also as JSON values, and a checkpoint if it has one."""

    folder: Path
    config: TrainAgentConfig
    settings: dict[str, Any]
    checkpoint: Path | None


def open_run(path: str | os.PathLike[str], trust: bool = False) -> SavedRun:
    """Open a run by its folder, by one of its checkpoints, or by its address on the hub.

    Its settings are read from run.json as plain values; see `saved_settings.rebuild`.

    Args:
        path: The folder of a run, whose newest checkpoint is meant, or of a checkpoint; or
            "hf://owner/name@commit", which is fetched into the hub's cache.
        trust: Import classes that the settings name outside of this project's.

    Raises:
        FileNotFoundError: There is no run.
        ValueError: Its settings are damaged or invalid, or name a class outside of this project's.
        ImportError: A run of the hub needs huggingface_hub.
    """
    if (text := os.fspath(path)).startswith(SCHEME):
        files = ["run.json", "evaluation.json", f"checkpoints/*/{LEARNER}"]
        path = snapshot(*require_address(text), files)
    path = Path(path)
    folder = next((p for p in (path, *path.parents[:2]) if (p / "run.json").is_file()), None)
    if folder is None:
        raise FileNotFoundError(f"no run at {path}: expected a folder that agents.train has made")
    settings = read_run(folder)["settings"]
    values = {name: value for name, value in settings.items() if name != "_target_"}
    try:
        config = TrainAgentConfig(folder=str(folder), **rebuild(values, trust))
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"the settings of {folder} are refused: {error}") from error
    checkpoints = folder / "checkpoints"
    checkpoint = path if path.parent == checkpoints else latest_checkpoint(checkpoints)
    return SavedRun(folder, config, settings, checkpoint)
