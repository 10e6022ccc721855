"""Files of a bench; an error names the file at fault and has a code."""

from __future__ import annotations

import io
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from sana_wm_gym import files
from sana_wm_gym.camera import picture_files
from sana_wm_gym.checks import require_number

Picture = npt.NDArray[np.uint8]
Row = Mapping[str, Any]
Fault = Literal[
    "missing_file", "corrupt_file", "missing_key", "missing_scene", "bad_value", "bad_poses",
    "inconsistent",
]  # fmt: skip


LARGEST_ARRAY = 2**24
"""Bytes of an array of a camera; a hundred minutes of poses have fewer."""
_PLAIN_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    EOFError,
    MemoryError,
    OSError,
    OverflowError,
    SyntaxError,
    ValueError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class BenchDataError(ValueError):
    """Bench data that cannot be used.

    Attributes:
        code: What kind of fault, for tables of failures.
        path: The file at fault.
        message: What is wrong with it.
    """

    def __init__(self, code: Fault, path: Path, message: str) -> None:
        self.code = code
        self.path = path
        self.message = message
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
            return Record(files.parse_json(text, where), path, where)
        except ValueError as error:
            raise BenchDataError("corrupt_file", path, str(error)) from error

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
        """A whole number, from `least` to 2^63 - 1."""
        value = self.number(key)
        whole = value == int(value) and least <= value < 2**63
        self._checked(key, whole, f"a whole number >= {least}")
        return int(value)

    def text(self, key: str) -> str:
        """A string."""
        self.need(key)
        self._checked(key, isinstance(self.row[key], str), "a string")
        return str(self.row[key])

    def file(self, key: str, root: Path) -> Path:
        """The file under `root` that a relative path names; it need not exist."""
        relative = PurePosixPath(self.text(key).replace("\\", "/"))  # of Windows
        inside = not relative.is_absolute() and ".." not in relative.parts and bool(relative.parts)
        self._checked(key, inside, "a path inside the bench")
        return root / relative


def read_text(path: Path) -> str:
    """A UTF-8 text file; `BenchDataError` where it is missing, too large or no UTF-8."""
    with _bench_errors(path):
        return files.read_text(path)


def read_arrays(path: Path, keys: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an npz file, without unpickling; others in it are ignored. `BenchDataError` where
    the file is missing or damaged, lacks an array, or one is larger than `LARGEST_ARRAY`.
    """
    with _bench_errors(path):
        arrays = _npz(files.require_file(path, "an npz file"), keys)
    if missing := [key for key, array in arrays.items() if array is None]:
        raise BenchDataError("missing_key", path, f"lacks array {', '.join(missing)}")
    return {key: array for key, array in arrays.items() if array is not None}


def _npz(path: Path, keys: Iterable[str]) -> dict[str, npt.NDArray[Any] | None]:
    arrays: dict[str, npt.NDArray[Any] | None] = dict.fromkeys(keys)
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if (key := info.filename.removesuffix(".npy")) not in arrays:
                    continue
                if info.flag_bits & 1 or info.compress_type not in _PLAIN_ZIP:
                    raise ValueError(f"{key} is compressed in another way than NumPy does")
                if info.file_size > LARGEST_ARRAY:
                    size = f"{info.file_size} bytes, expected at most {LARGEST_ARRAY}"
                    raise ValueError(f"{key} has {size}")
                content = io.BytesIO(archive.read(info))
                arrays[key] = np.lib.format.read_array(content, allow_pickle=False)
    except _DAMAGE as error:
        raise ValueError(str(error) or type(error).__name__) from error
    return arrays


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """An image file, opened; a missing or damaged one is a `BenchDataError`, also in the block."""
    with _bench_errors(path), picture_files.open_picture(path) as image:
        yield image


@contextmanager
def _bench_errors(path: Path) -> Iterator[None]:
    """What reading a file raises, with a code."""
    try:
        yield
    except FileNotFoundError as error:
        raise BenchDataError("missing_file", path, "no such file") from error
    except (OSError, ValueError) as error:
        reason = str(error).removeprefix(f"{path}")
        raise BenchDataError("corrupt_file", path, f"cannot be read: {reason}") from error
