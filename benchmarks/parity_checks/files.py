"""Read reference files; whatever is wrong with one becomes a single `GoldenError`."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import safetensors

from benchmarks.parity_checks.check import Array, GoldenError

T = TypeVar("T")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        GoldenError: Missing, unreadable, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise GoldenError(f"{path.name}: cannot be read as JSON ({error})") from None
    if not isinstance(content, dict):
        raise GoldenError(f"{path.name}: expected a JSON object, got {type(content).__name__}")
    return content


def entry(record: Mapping[str, Any], key: str, kind: type[T], where: str) -> T:
    """`record[key]`, which must be present and of a type.

    Raises:
        GoldenError: The key is missing or holds something else.
    """
    if key not in record:
        raise GoldenError(f"{where}: missing entry {key!r}")
    value = record[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind):
        raise GoldenError(
            f"{where}: expected {key!r} to be {kind.__name__}, got {type(value).__name__}"
        )
    return value


def read_npz(path: Path) -> dict[str, Array]:
    """All arrays of an npz file.

    Raises:
        GoldenError: Missing, truncated, or not an npz of plain arrays.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
        raise GoldenError(f"{path.name}: cannot be read as npz ({error})") from None


class Tensors(Mapping[str, Array]):
    """The tensors of a safetensors file, read one at a time, in the order of their names."""

    def __init__(self, file: Any, names: Mapping[str, str]) -> None:
        self._file = file
        self._names = names

    @staticmethod
    def open(path: Path) -> Tensors:
        """Open a file; tensors are read on access.

        Raises:
            GoldenError: Missing, truncated, or not safetensors.
        """
        try:
            file: Any = safetensors.safe_open(str(path), framework="np")
            names = sorted(file.keys())
        except (OSError, safetensors.SafetensorError) as error:
            raise GoldenError(f"{path.name}: cannot be read as safetensors ({error})") from None
        return Tensors(file, {name: name for name in names})

    def under(self, prefix: str) -> Tensors:
        """The tensors whose names start with `prefix`, by the rest of their names."""
        inside = {n[len(prefix) :]: full for n, full in self._names.items() if n.startswith(prefix)}
        return Tensors(self._file, inside)

    def without(self, *prefixes: str) -> Tensors:
        """The tensors whose names start with none of `prefixes`."""
        outside = {n: full for n, full in self._names.items() if not n.startswith(prefixes)}
        return Tensors(self._file, outside)

    def __getitem__(self, name: str) -> Array:
        tensor: Array = self._file.get_tensor(self._names[name])
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
