"""Files written whole or not at all, and their hashes.

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

_PREFIX = ".partial-"


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

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.discard() if error else self.commit()

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
