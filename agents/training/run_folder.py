"""A run's folder: whose it is, and files that are written whole.

config.yaml       every setting, resolved
run.json          what the run is: its settings but for where and how it is logged
metrics.csv       one row per rollout; the same bytes for the same settings and seed
metrics.json      the same rows, with command, commit, device and date
timings.csv       seconds spent, row by row
evaluation.json   the last evaluation, episode by episode
videos/           evaluation episodes, every frame
checkpoints/      what the run goes on from
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sana_wm_gym.files import remove_leftovers, write_json, write_text


@dataclass(frozen=True)
class RunFolder:
    """Where a run keeps its files.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def config(self) -> Path:
        """Resolved settings."""
        return self.path / "config.yaml"

    @property
    def metrics(self) -> Path:
        """Rows of the run."""
        return self.path / "metrics.csv"

    @property
    def timings(self) -> Path:
        """Seconds, kept apart from what is the same on every machine."""
        return self.path / "timings.csv"

    @property
    def evaluation(self) -> Path:
        """The last evaluation; there once a run is finished."""
        return self.path / "evaluation.json"

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do."""
        return self.evaluation.is_file()

    @property
    def checkpoints(self) -> Path:
        """Folder of checkpoints."""
        return self.path / "checkpoints"

    def claim(self, settings: Mapping[str, Any], config: str) -> None:
        """Make the folder this run's, or check that it is.

        Args:
            settings: What the run's results depend on, as JSON values.
            config: Text of `config.yaml`.

        Raises:
            ValueError: It holds another run; says in what they differ.
        """
        remove_leftovers(self.path)
        identity = self.path / "run.json"
        if identity.is_file():
            changed = differences(json.loads(identity.read_text(encoding="utf-8")), settings)
            if changed:
                raise ValueError(
                    f"{self.path} holds another run ({'; '.join(changed)}): "
                    "give another folder, or remove this one"
                )
            return
        write_text(self.config, config)
        write_json(identity, settings)


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
