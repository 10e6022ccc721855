"""Files written whole or not at all, files read with bounds, and hashes.

A file or folder is written in a hidden folder next to its place, `.partial-PID-HOST-...`, under its
own name, because some writers choose a format by it or store it in the file. It is then moved to
its place in one step: readers, and whoever comes after a crash, find the old one or the new one.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LARGEST_TEXT = 2**26
"""Bytes of a text file that is read whole, at most."""
_PREFIX = ".partial-"


def require_file(path: str | os.PathLike[str], expected: str = "a file") -> Path:
    """The path, if a regular file is there; reading a pipe or a device may never end.

    Raises:
        FileNotFoundError: There is nothing.
        ValueError: A folder, a pipe or a device is there.
    """
    path = Path(path)
    if not path.is_file():
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file, expected {expected}")
        found = "a folder" if path.is_dir() else "a pipe or a device"
        raise ValueError(f"{path} is {found}, expected {expected}")
    return path


def read_text(
    path: str | os.PathLike[str], expected: str = "a text file", limit: int = LARGEST_TEXT
) -> str:
    """A UTF-8 text file, with or without a byte order mark.

    Args:
        path: The file.
        expected: What it should be, for errors.
        limit: Bytes, at most.

    Raises:
        FileNotFoundError: There is nothing.
        OSError: It cannot be read.
        ValueError: It is no regular file, no UTF-8, or larger than `limit`.
    """
    path = require_file(path, expected)
    if (size := path.stat().st_size) > limit:
        raise ValueError(f"{path} has {size} bytes, expected {expected} of at most {limit}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text, expected {expected}: {error}") from error


def parse_json(text: str, what: str) -> dict[str, Any]:
    """The JSON object in a text; a ValueError that begins with `what` where there is none."""
    try:
        document = json.loads(text)
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{what} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ValueError(f"{what} is a {type(document).__name__}, expected a JSON object")
    return document


def read_json(path: str | os.PathLike[str], limit: int = LARGEST_TEXT) -> dict[str, Any]:
    """The JSON object in a file; errors as of `read_text`, and a ValueError where there is none."""
    return parse_json(read_text(path, "a JSON file", limit), str(path))


class atomic_path:  # noqa: N801 - reads as a function, like contextlib.suppress
    """A file or folder, moved to its place when it is whole: `with atomic_path(path) as partial`.

    If the block raises, what it wrote is removed and `path` is as before. Processes and threads may
    write the same file at once: the last one stays. Writers that outlive one call use `partial`,
    `commit` and `discard` instead of a block.

    Args:
        path: Its place. Folders above it are made.

    Attributes:
        partial: Where to write it. Nothing is there yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f"{_PREFIX}{os.getpid()}-{platform.node()}-"
        self._folder = Path(tempfile.mkdtemp(prefix=prefix, dir=self._path.parent))
        self.partial = self._folder / self._path.name

    def __enter__(self) -> Path:
        return self.partial

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        if kind is None:
            self.commit()
            return
        self.discard()
        # A full disk is reported without a name, or with one that is gone.
        hidden = str(self._folder)
        if (
            isinstance(error, OSError)
            and error.errno
            and str(error.filename or hidden).startswith(hidden)
        ):
            raise OSError(error.errno, error.strerror, str(self._path)) from error

    def commit(self) -> None:
        """Store what was written on the disk, then move it to its place.

        Raises:
            OSError: Nothing was written, or it is a folder and one with content is in its place.
        """
        try:
            # A rename may reach the disk before the content does.
            for file in (self.partial, *self.partial.rglob("*")):
                if not file.is_dir():
                    with file.open("rb") as stream:
                        os.fsync(stream.fileno())
            os.replace(self.partial, self._path)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what was written. After `commit` there is nothing to remove."""
        shutil.rmtree(self._folder, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file in one step."""
    with atomic_path(path) as partial:
        partial.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file, UTF-8, in one step."""
    write_bytes(path, text.encode())


def write_json(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a JSON file in one step.

    Raises:
        ValueError: A number is NaN or infinite; JSON has neither.
    """
    try:
        text = json.dumps(dict(document), indent=1, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path} would hold a number that is not finite: {error}") from error
    write_text(path, text + "\n")


def sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open(path, "rb") as stream:  # weights may be larger than memory
        return hashlib.file_digest(stream, "sha256").hexdigest()


def remove_leftovers(folder: str | os.PathLike[str]) -> None:
    """Remove, in a folder and those below, what processes left that were killed while they wrote.

    What a running process or another machine is writing stays, and so does what was left under a
    process number that is in use again.
    """
    for path in list(Path(folder).rglob(f"{_PREFIX}*")):
        owner = re.fullmatch(r"(\d+)-(.*)-\w+", path.name.removeprefix(_PREFIX))
        if owner and owner[2] == platform.node() and not _runs(int(owner[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)  # sends nothing
    except OSError as error:
        return isinstance(error, PermissionError)  # somebody else's
    return True
