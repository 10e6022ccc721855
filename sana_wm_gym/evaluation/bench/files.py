"""Files of a bench: read with one clear error naming the file."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

Picture = npt.NDArray[np.uint8]
Row = Mapping[str, Any]
Fault = Literal[
    "missing_file",
    "corrupt_file",
    "missing_key",
    "missing_scene",
    "bad_value",
    "bad_poses",
    "inconsistent",
]


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


def read_text(path: Path) -> str:
    """A text file.

    Raises:
        BenchDataError: The file is missing or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BenchDataError("corrupt_file", path, f"not UTF-8 text: {error}") from error
    except OSError as error:
        raise BenchDataError("missing_file", path, f"cannot be read: {error.strerror}") from error


def parse_object(text: str, path: Path, where: str = "") -> Row:
    """A json object. `where` names the place in the file, as in "line 3".

    Raises:
        BenchDataError: The text is no json, or not an object.
    """
    place = f"{where}: " if where else ""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BenchDataError("corrupt_file", path, f"{place}not json: {error}") from error
    if not isinstance(value, dict):
        found = type(value).__name__
        raise BenchDataError("bad_value", path, f"{place}a {found}, expected a json object")
    return value


def need(row: Row, keys: Iterable[str], path: Path, where: str) -> None:
    """Check that a row has all keys.

    Raises:
        BenchDataError: Names every missing one.
    """
    missing = [key for key in keys if key not in row]
    if missing:
        raise BenchDataError("missing_key", path, f"{where} lacks {', '.join(missing)}")


def number(row: Row, key: str, path: Path, where: str) -> float:
    """A finite number in a row.

    Raises:
        BenchDataError: The value is something else.
    """
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BenchDataError(
            "bad_value", path, f"{where}: {key} is {value!r}, expected a finite number"
        )
    return float(value)


def count(row: Row, key: str, path: Path, where: str, least: int = 0) -> int:
    """A whole number in a row, at least `least`.

    Raises:
        BenchDataError: The value is something else.
    """
    value = number(row, key, path, where)
    if value != int(value) or value < least:
        raise BenchDataError(
            "bad_value", path, f"{where}: {key} is {row[key]!r}, expected a whole number >= {least}"
        )
    return int(value)


def text(row: Row, key: str, path: Path, where: str) -> str:
    """A string in a row.

    Raises:
        BenchDataError: The value is something else.
    """
    value = row[key]
    if not isinstance(value, str):
        raise BenchDataError("bad_value", path, f"{where}: {key} is {value!r}, expected a string")
    return value


def inside(root: Path, row: Row, key: str, path: Path, where: str) -> Path:
    """The file under `root` that a row names by a relative path.

    Raises:
        BenchDataError: The path is absolute or climbs out of `root`.
    """
    relative = PurePosixPath(text(row, key, path, where))
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise BenchDataError(
            "bad_value", path, f"{where}: {key} is {row[key]!r}, expected a path inside the bench"
        )
    return root / relative


def read_arrays(path: Path, keys: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    """Arrays of an npz file; others in it are passed over. Nothing in it is executed.

    Raises:
        BenchDataError: The file is missing or damaged, or an array is missing.
    """
    if not path.is_file():
        raise BenchDataError("missing_file", path, "no such file, expected an npz with the camera")
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = set(archive.files)
            wanted = list(keys)
            missing = [key for key in wanted if key not in names]
            arrays = {key: archive[key] for key in wanted if key in names}
    # Damaged archives fail in every way there is: zip, zlib, header, memory, pickle.
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise BenchDataError("corrupt_file", path, f"not a readable npz: {reason}") from error
    if missing:
        raise BenchDataError("missing_key", path, f"lacks array {', '.join(missing)}")
    return arrays


def read_picture(path: Path) -> Picture:
    """An image file as uint8 [height, width, 3] RGB.

    Raises:
        BenchDataError: The file is missing or damaged.
    """
    with _opened(path) as image:
        return np.asarray(image.convert("RGB"))


def picture_size(path: Path) -> tuple[int, int]:
    """(height, width) of an image file, from its header.

    Raises:
        BenchDataError: The file is missing or no image.
    """
    with _opened(path) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    if not path.is_file():
        raise BenchDataError("missing_file", path, "no such file, expected an image")
    try:
        with Image.open(path) as image:
            yield image
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise BenchDataError("corrupt_file", path, f"not a readable image: {error}") from error
