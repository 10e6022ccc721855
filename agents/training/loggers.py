"""Output formats for the `Logger` of stable-baselines3: csv always, tensorboard or wandb if asked.

`time/*` goes to timings.csv, everything else to metrics.csv, which is then the same bytes for the
same settings and seed.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import KVWriter, TensorBoardOutputFormat

from sana_wm_gym.checks import require_choice
from sana_wm_gym.files import write_bytes

Row = dict[str, Any]


class LoggerConfig(Protocol):
    """Settings of a log next to metrics.csv."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """Open the log of the run in `folder`.

        Args:
            folder: The run's folder; the log is kept below it.
            settings: Of the run, as JSON values.
            step: Environment steps at which the run starts or resumes.

        Raises:
            ImportError: The log's package is missing; says what to install.
        """
        ...


@dataclass(frozen=True)
class Tensorboard:
    """Event files in FOLDER/tensorboard; look at them with `tensorboard --logdir FOLDER`."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """Open, dropping what was logged after `step` by a run that was stopped.

        Raises:
            ImportError: tensorboard is missing.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "logger=tensorboard needs tensorboard: pip install sana_wm_gym[agents]"
            ) from error
        path = str(folder / "tensorboard")
        output = TensorBoardOutputFormat(path)
        output.writer.close()
        output.writer = SummaryWriter(path, purge_step=step)
        return output


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases; offline by default, so nothing leaves the machine.

    Attributes:
        mode: "offline" (send later with `wandb sync`), "online" or "disabled".
        project: Project name.
        group: Group of runs, or None.
        name: Of the run; None takes the folder's.
    """

    mode: str = "offline"
    project: str = "sana_wm_gym"
    group: str | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        require_choice("logger.mode", self.mode, ("offline", "online", "disabled"))

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """Start the run or resume it: the same folder and settings are the same wandb run.

        Raises:
            ImportError: wandb is missing.
        """
        try:
            import wandb
        except ImportError as error:
            raise ImportError(
                "logger=wandb needs wandb: pip install sana_wm_gym[agents]"
            ) from error
        identity = json.dumps([str(folder.resolve()), settings], sort_keys=True)
        run = wandb.init(
            project=self.project,
            group=self.group,
            name=self.name or folder.name,
            id=hashlib.sha256(identity.encode()).hexdigest()[:16],
            resume="allow",
            mode=self.mode,  # type: ignore[arg-type, unused-ignore]
            dir=str(folder),
            config=dict(settings),
            settings=wandb.Settings(console="off", silent=True),
        )
        return _WandbOutputFormat(run)


class _WandbOutputFormat(KVWriter):
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        self._run.log(dict(key_values), step=step)

    def close(self) -> None:
        self._run.finish()


class CsvOutputFormat(KVWriter):
    """metrics.csv and timings.csv of a run.

    Args:
        folder: The run's folder.
        state: Where to resume, from `state` of an earlier one; None starts anew.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any] | None = None) -> None:
        self.tables = {
            name: CsvTable(folder / f"{name}.csv", *(state[name] if state else ((), 0)))
            for name in ("metrics", "timings")
        }

    @property
    def state(self) -> dict[str, tuple[tuple[str, ...], int]]:
        """Columns and number of rows of both tables."""
        return {name: table.state for name, table in self.tables.items()}

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        """Append a row to both."""
        seconds = {name for name in key_values if name.startswith("time/")}
        row = {name: value for name, value in key_values.items() if name not in seconds}
        self.tables["metrics"].write({"timesteps": step, **row})
        times = {
            name.removeprefix("time/"): key_values[name] for name in key_values if name in seconds
        }
        self.tables["timings"].write({"timesteps": step, **times})

    def close(self) -> None:
        """Nothing is open between rows."""


class CsvTable:
    """A csv of numbers that gains a column when it first appears, and can be cut back.

    Args:
        path: File to write.
        columns: First columns to keep of an existing file.
        rows: First rows to keep of it; with 0 it is written anew.

    Raises:
        ValueError: The file has fewer rows.
    """

    def __init__(self, path: Path, columns: Sequence[str] = (), rows: int = 0) -> None:
        self._path, self._columns = path, list(columns)
        self._rows: list[list[str]] = []
        if rows:
            with path.open(newline="", encoding="utf-8") as file:
                self._rows = [row[: len(columns)] for row in list(csv.reader(file))[1 : rows + 1]]
            if len(self._rows) < rows:
                raise ValueError(f"{path} has {len(self._rows)} rows, expected at least {rows}")
            self._write_all()

    @property
    def state(self) -> tuple[tuple[str, ...], int]:
        """Columns and number of rows so far."""
        return tuple(self._columns), len(self._rows)

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Append a row. Columns that it lacks stay empty."""
        new = [name for name in row if name not in self._columns]
        self._columns += new
        self._rows.append([_text(row.get(name)) for name in self._columns])
        if new:
            self._write_all()
            return
        with self._path.open("ab") as file:
            file.write(_lines(self._rows[-1:]))
            file.flush()
            os.fsync(file.fileno())

    def _write_all(self) -> None:
        width = len(self._columns)
        rows = [row + [""] * (width - len(row)) for row in self._rows]
        write_bytes(self._path, _lines([self._columns, *rows]))


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Rows of a csv of numbers; empty cells are None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: float(cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _text(value: float | int | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    # Twelve digits tell floats of one run from another's; more would be noise to a reader.
    return str(int(value)) if isinstance(value, int) else f"{float(value):.12g}"
