"""Files of a bench; an error names the file at fault and has a code."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sana_wm_gym.checks import require_number

Picture = npt.NDArray[np.uint8]
Row = Mapping[str, Any]
Fault = Literal[
    "missing_file", "corrupt_file", "missing_key", "missing_scene", "bad_value", "bad_poses",
    "inconsistent",
]  # fmt: skip


class BenchDataError(ValueError):
    """Bench data that cannot be used.

    Attributes:
        code: What kind of fault, for tables of failures.
        path: The file at fault.
    """

    def __init__(self, code: Fault, path: Path, message: str) -> None:
        self.code = code
        self.path = path
        super().__init__(f"{path}: {message}")


@dataclass(frozen=True)
class Record:
    """A json object in a file; methods raise `BenchDataError` where a value is not as expected.

    Attributes:
        row: The object.
        path: The file.
        where: The place in it, such as "line 3".
    """

    row: Row
    path: Path
    where: str = "the document"

    @staticmethod
    def read(path: Path) -> Record:
        """The json object that a file holds."""
        return Record.parse(read_text(path), path)

    @staticmethod
    def parse(text: str, path: Path, where: str = "the document") -> Record:
        """The json object in a text."""
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BenchDataError("corrupt_file", path, f"{where}: not json: {error}") from error
        return Record.of(value, path, where)

    @staticmethod
    def of(value: Any, path: Path, where: str) -> Record:
        """A parsed value, if it is an object."""
        if not isinstance(value, dict):
            found = type(value).__name__
            raise BenchDataError("bad_value", path, f"{where}: a {found}, expected a json object")
        return Record(value, path, where)

    def error(self, code: Fault, message: str) -> BenchDataError:
        """An error at this place."""
        return BenchDataError(code, self.path, f"{self.where}: {message}")

    def need(self, *keys: str) -> None:
        """Check that all keys are there."""
        missing = [key for key in keys if key not in self.row]
        if missing:
            lacks = f"{self.where} lacks {', '.join(missing)}"
            raise BenchDataError("missing_key", self.path, lacks)

    def _checked(self, key: str, right: bool, expected: str) -> None:
        if not right:
            raise self.error("bad_value", f"{key} is {self.row[key]!r}, expected {expected}")

    def number(self, key: str) -> float:
        """A finite number."""
        self.need(key)
        try:
            return require_number(key, self.row[key])
        except ValueError as error:
            raise self.error("bad_value", str(error)) from error

    def count(self, key: str, least: int = 0) -> int:
        """A whole number, at least `least`."""
        value = self.number(key)
        whole = value == int(value) and value >= least
        self._checked(key, whole, f"a whole number >= {least}")
        return int(value)

    def text(self, key: str) -> str:
        """A string."""
        self.need(key)
        self._checked(key, isinstance(self.row[key], str), "a string")
        return str(self.row[key])

    def file(self, key: str, root: Path) -> Path:
        """The file under `root` that a relative path names; it need not exist."""
        relative = PurePosixPath(self.text(key))
        inside = not relative.is_absolute() and ".." not in relative.parts and bool(relative.parts)
        self._checked(key, inside, "a path inside the bench")
        return root / relative


def read_text(path: Path) -> str:
    """A UTF-8 text file; `BenchDataError` where it is missing or no UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BenchDataError("corrupt_file", path, f"not UTF-8 text: {error}") from error
    except OSError as error:
        raise BenchDataError("missing_file", path, f"cannot be read: {error.strerror}") from error


def read_arrays(path: Path, keys: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an npz file, without unpickling; others in it are ignored. `BenchDataError` where
    the file is missing or damaged, or lacks an array.
    """
    if not path.is_file():
        raise BenchDataError("missing_file", path, "no such file, expected an npz with the camera")
    try:
        with np.load(path, allow_pickle=False) as archive:
            missing = [key for key in keys if key not in archive.files]
            arrays = {key: archive[key] for key in keys if key in archive.files}
    # Damaged archives fail in every way there is: zip, zlib, header, memory, pickle.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BenchDataError("corrupt_file", path, f"not a readable npz: {reason}") from error
    if missing:
        raise BenchDataError("missing_key", path, f"lacks array {', '.join(missing)}")
    return arrays


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """An image file, opened; a missing or damaged one is a `BenchDataError`, also in the block."""
    if not path.is_file():
        raise BenchDataError("missing_file", path, "no such file, expected an image")
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BenchDataError("corrupt_file", path, f"not a readable image: {error}") from error
