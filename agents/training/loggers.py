"""Where a run's rows go: always to csv, and to tensorboard or wandb if asked."""

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

Row = Mapping[str, float | int | None]


class Sink(Protocol):
    """An open log."""

    def write(self, row: Row, step: int) -> None:
        """Log a row's numbers at `step` environment steps; None is left out."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


class Logger(Protocol):
    """Settings of a log beside metrics.csv."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> Sink:
        """Open the log of the run in `folder`.

        Args:
            folder: The run's folder; what the log keeps goes below it.
            settings: Of the run, as JSON values.
            step: Environment steps that the run goes on from.

        Raises:
            ImportError: The log's package is missing; says what to install.
        """
        ...


@dataclass(frozen=True)
class CsvOnly:
    """Nothing beside metrics.csv."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> Sink:
        """A log that keeps nothing."""
        return _Nothing()


@dataclass(frozen=True)
class Tensorboard:
    """Event files in FOLDER/tensorboard; look at them with `tensorboard --logdir FOLDER`."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> Sink:
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
        return _Events(SummaryWriter(str(folder / "tensorboard"), purge_step=step))


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases; offline unless asked, so nothing leaves the machine.

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
        modes = ("offline", "online", "disabled")
        if self.mode not in modes:
            raise ValueError(f"given logger.mode={self.mode!r}, expected one of {modes}")

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> Sink:
        """Open the run, or go on with it: the same folder and settings are the same wandb run.

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
        return _WandbRun(run)


class CsvTable:
    """A csv that can be cut back to an earlier length.

    Args:
        path: File to write.
        columns: Its columns; None takes those of the file, which then has to exist.
        length: Bytes to keep of an existing file; 0 starts anew.
    """

    def __init__(self, path: Path, columns: Sequence[str] | None, length: int = 0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("r+b" if length else "w+b")
        self._file.truncate(length)
        if length:
            header = self._file.readline().decode()
            self.columns = tuple(next(csv.reader([header])))
            self._file.seek(0, os.SEEK_END)
        else:
            assert columns is not None
            self.columns = tuple(columns)
            self._put(self.columns)

    def write(self, row: Mapping[str, float | int | None]) -> None:
        """Append a row. Columns it lacks stay empty; what has no column is left out."""
        self._put([_text(row.get(name)) for name in self.columns])

    @property
    def length(self) -> int:
        """Bytes so far."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _put(self, values: Sequence[str]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(values)
        self._file.write(line.getvalue().encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def read_rows(path: Path) -> list[dict[str, float | None]]:
    """Rows of a csv of numbers; empty cells are None."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: float(cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(file)
        ]


def _text(value: float | int | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    # Twelve digits tell floats of one run from another's; more would be noise to a reader.
    return str(value) if isinstance(value, int) else f"{value:.12g}"


class _Nothing:
    def write(self, row: Row, step: int) -> None: ...

    def close(self) -> None: ...


class _Events:
    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def write(self, row: Row, step: int) -> None:
        for name, value in row.items():
            if value is not None:
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandbRun:
    def __init__(self, run: Any) -> None:
        self._run = run

    def write(self, row: Row, step: int) -> None:
        self._run.log({name: value for name, value in row.items() if value is not None}, step=step)

    def close(self) -> None:
        self._run.finish()
