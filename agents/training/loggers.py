"""Output formats for the `Logger` of stable-baselines3: csv; tensorboard or wandb on request.

`time/*` goes to timings.csv, everything else to metrics.csv, which is then the same bytes for the
same settings and seed.
"""

from __future__ import annotations

import csv
import importlib
import io
import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from stable_baselines3.common.logger import KVWriter, TensorBoardOutputFormat

from sana_wm_gym.checks import require_choice
from sana_wm_gym.files import read_text, write_bytes, write_text


class LoggerConfig(Protocol):
    """Settings of a log next to metrics.csv."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """Open the log of the run in `folder`.

        Args:
            folder: The run's folder; the log is kept below it.
            settings: Of the run, as JSON values.
            step: Environment steps at which the run starts or resumes.

        Raises:
            ImportError: The log's package is missing.
        """
        ...


@dataclass(frozen=True)
class Tensorboard:
    """Event files in FOLDER/tensorboard; view them with `tensorboard --logdir FOLDER`."""

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """As `LoggerConfig.open`; drops what a stopped run logged after `step`."""
        writer = _package("torch.utils.tensorboard", "tensorboard").SummaryWriter
        output = TensorBoardOutputFormat(str(folder / "tensorboard"))
        output.writer.close()
        output.writer = writer(str(folder / "tensorboard"), purge_step=step)
        return output


@dataclass(frozen=True)
class Wandb:
    """Weights & Biases; offline by default, so nothing leaves the machine.

    A run's folder is one wandb run, whose id is in FOLDER/wandb_id. It gets metrics, the videos of
    evaluations and, when the run is finished, its policy as an artifact that `load_policy` reads.

    Attributes:
        mode: "offline" (send later with `wandb sync`), "online" or "disabled".
        project: Project name.
        group: Group of runs, or None.
        job_type: Kind of run within the group.
        name: Of the run; None takes the folder's.
    """

    mode: str = "offline"
    project: str = "sana_wm_gym"
    group: str | None = None
    job_type: str = "train"
    name: str | None = None

    def __post_init__(self) -> None:
        require_choice("logger.mode", self.mode, ("offline", "online", "disabled"))

    def open(self, folder: Path, settings: Mapping[str, Any], step: int) -> KVWriter:
        """As `LoggerConfig.open`; resumes the folder's wandb run if it has one."""
        wandb = _package("wandb", "wandb")
        identity = folder / "wandb_id"
        if not identity.is_file():
            write_text(identity, secrets.token_hex(8))
        run = wandb.init(
            project=self.project,
            group=self.group,
            job_type=self.job_type,
            name=self.name or folder.name,
            id=identity.read_text(encoding="utf-8"),
            resume="allow",
            mode=self.mode,
            dir=str(folder),
            config=dict(settings),
            allow_val_change=True,  # an extended run has more steps
            settings=wandb.Settings(console="off", silent=True),
        )
        return _WandbOutputFormat(wandb, run, folder)


class _WandbOutputFormat(KVWriter):
    def __init__(self, wandb: Any, run: Any, folder: Path) -> None:
        self._wandb, self._run, self._folder = wandb, run, folder

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0
    ) -> None:
        self._run.log({**key_values, **self._videos(f"step-{step:010d}")}, step=step)

    def close(self) -> None:
        if (self._folder / "evaluation.json").is_file():
            self._run.log(self._videos("last"))
            self._log_policy()
        self._run.finish()

    def _videos(self, evaluation: str) -> dict[str, Any]:
        paths = sorted((self._folder / "videos" / evaluation).glob("*.mp4"))
        return {f"eval/{p.stem}": self._wandb.Video(str(p), format="mp4") for p in paths}

    def _log_policy(self) -> None:
        """What `load_policy` needs of the run's folder, and stable-baselines3's export."""
        name = re.sub(r"[^\w.-]", "_", self._folder.name)
        artifact = self._wandb.Artifact(f"{name}-policy", type="model")
        for path in (
            self._folder / "run.json",
            *self._folder.glob("policy.zip"),
            *self._folder.glob("checkpoints/step-*/learner.safetensors"),
        ):
            artifact.add_file(str(path), name=path.relative_to(self._folder).as_posix())
        self._run.log_artifact(artifact)


def _package(module: str, package: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"logger={package} needs {package}: pip install sana_wm_gym[agents]"
        ) from error


class CsvOutputFormat(KVWriter):
    """metrics.csv and timings.csv of a run.

    Args:
        folder: The run's folder.
        state: Where to resume, from `state` of an earlier one; None starts anew.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any] | None = None) -> None:
        self.tables = {
            name: CsvTable(folder / f"{name}.csv", *(state[name] if state else ()))
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
        rows: dict[str, dict[str, Any]] = {name: {"timesteps": step} for name in self.tables}
        for name, value in key_values.items():
            table = "timings" if name.startswith("time/") else "metrics"
            rows[table][name.removeprefix("time/")] = value
        for name, row in rows.items():
            self.tables[name].write(row)

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
            lines = csv.reader(io.StringIO(read_text(path), newline=""))
            try:
                cells = [row[: len(columns)] for row in lines][: rows + 1]
            except csv.Error as error:
                raise ValueError(f"{path} is no table: {error}") from error
            whole = [row for row in cells if len(row) == len(columns)]
            if len(whole) <= rows or whole[0] != list(columns):
                raise ValueError(
                    f"{path} has {max(0, len(whole) - 1)} whole rows, its checkpoint {rows}: put "
                    "the file back, or train in another folder"
                )
            self._rows = whole[1:]
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
    """Rows of a csv of numbers; empty cells are None. A ValueError names a damaged file."""
    try:
        return [
            {name: float(cell) if cell else None for name, cell in row.items()}
            for row in csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        ]
    except (TypeError, ValueError, csv.Error) as error:  # None names the cells beyond a row's
        raise ValueError(f"{path} is no table of numbers: {error}") from error


def _lines(rows: Sequence[Sequence[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def _text(value: float | int | None) -> str:
    if value is None or not math.isfinite(value):
        return ""
    # Twelve digits distinguish the floats of two runs; more are not needed.
    return str(int(value)) if isinstance(value, int) else f"{float(value):.12g}"
