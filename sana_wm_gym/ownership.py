"""One process per folder: whoever works in a folder holds its lock until the process ends.

    with owned(folder):
        ...

The operating system drops the lock with the process, so a killed run leaves nothing to clean up.
"""

from __future__ import annotations

import json
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

_LOCK, _OWNER = ".owner.lock", ".owner.json"


class FolderInUseError(BlockingIOError):
    """Another process works in a folder. Commands print it and exit with status 3.

    Attributes:
        folder: The folder.
    """

    exit_status = 3

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder = folder
        super().__init__(f"{folder} is in use by {owner}: wait for it, or give another folder")


@contextmanager
def owned(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Hold a folder, made if it is not there, as long as the block runs.

    Where the file system has no locks there is one warning, and the block runs all the same.

    Args:
        folder: To work in.

    Raises:
        FolderInUseError: Another process holds it; names its number, host and start.
        OSError: The folder cannot be made or written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise FolderInUseError(folder, _owner(folder)) from error
    except NotImplementedError:
        warnings.warn(
            f"the file system of {folder} has no locks: nothing keeps a second process out",
            stacklevel=3,
        )
        yield folder
        return
    try:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        me = {"pid": os.getpid(), "host": platform.node(), "started": started}
        (folder / _OWNER).write_text(json.dumps(me), encoding="utf-8")
        yield folder
    finally:
        (folder / _OWNER).unlink(missing_ok=True)
        lock.release()


def _owner(folder: Path) -> str:
    try:
        me = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return f"process {me['pid']} on {me['host']}, started {me['started']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
