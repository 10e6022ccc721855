"""A folder has one owner at a time, and a killed owner keeps nobody out."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sana_wm_gym.ownership import FolderInUseError, owned

HOLD = """
import sys, time
from sana_wm_gym.ownership import owned
with owned(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None and child.stdout.readline() == "held\n"
    return child


def test_the_second_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    child = holder(folder)
    with (
        pytest.raises(FolderInUseError, match=f"process {child.pid} on .*, started 20"),
        owned(folder),
    ):
        pass
    assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    with owned(folder) as mine:
        assert mine == folder
    assert [path.name for path in folder.iterdir() if path.name != ".owner.lock"] == []


def test_within_one_process_too(tmp_path: Path) -> None:
    with owned(tmp_path), pytest.raises(FolderInUseError, match=str(os.getpid())), owned(tmp_path):
        pass


def test_a_damaged_owner_file_still_refuses(tmp_path: Path) -> None:
    with owned(tmp_path):
        (tmp_path / ".owner.json").write_text("{")
        with pytest.raises(FolderInUseError, match="by another process"), owned(tmp_path):
            pass


def test_file_systems_without_locks_warn_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError("no flock here")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    with pytest.warns(UserWarning, match="has no locks") as warned, owned(tmp_path):
        pass
    assert len(warned) == 1
