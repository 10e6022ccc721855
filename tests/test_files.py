"""Files are whole or as before, whatever happens to the process that writes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sana_wm_gym.files import (
    atomic_path,
    remove_leftovers,
    sha256,
    write_bytes,
    write_json,
    write_text,
)

ROOT = Path(__file__).parents[1]
# Writes half a file, prints a line and waits to be killed.
WRITER = """
import sys, time
from sana_wm_gym.files import atomic_path
with atomic_path(sys.argv[1]) as partial:
    partial.write_text("half")
    print(flush=True)
    time.sleep(600)
"""


def test_what_is_written_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "made" / "on the way" / "a.npz"
    with atomic_path(path) as partial:
        assert partial.name == path.name  # writers look at suffixes, or store the name
        partial.write_bytes(b"\x00\r\n")
        assert not path.exists() and not list(path.parent.glob("*.npz"))
    assert path.read_bytes() == b"\x00\r\n"
    assert list(path.parent.iterdir()) == [path]
    with atomic_path(str(path)) as partial:
        partial.write_bytes(b"new")
        assert path.read_bytes() == b"\x00\r\n"
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_writer_that_fails_leaves_the_old_file(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")

    def fail(partial: Path) -> None:
        partial.write_text("half")
        raise error

    with pytest.raises(error), atomic_path(path) as partial:
        fail(partial)
    with pytest.raises(FileNotFoundError), atomic_path(path):
        pass  # writes nothing
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_is_put_in_place_whole(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    with atomic_path(path) as partial:
        (partial / "sub").mkdir(parents=True)
        (partial / "sub" / "a").write_text("a")
        assert not path.exists()
    assert (path / "sub" / "a").read_text() == "a"
    with pytest.raises(OSError, match="not empty"), atomic_path(path) as partial:
        partial.mkdir()
    assert (path / "sub" / "a").read_text() == "a" and list(tmp_path.iterdir()) == [path]


def test_a_writer_that_outlives_a_call(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    kept, dropped = atomic_path(path), atomic_path(path)
    kept.partial.write_text("kept")
    dropped.partial.write_text("dropped")
    kept.commit()
    dropped.discard()
    kept.discard()
    assert path.read_text() == "kept" and list(tmp_path.iterdir()) == [path]


def test_threads_that_write_the_same_file_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    threads = [
        threading.Thread(target=write_text, args=(path, digit * 100_000)) for digit in "0123"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    text = path.read_text()
    assert text == text[0] * 100_000 and list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_removed_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "below" / "a.txt"
    write_text(path, "old")
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stdout is not None and process.stdout.readline()
        [theirs] = path.parent.glob(".partial-*")
        elsewhere = tmp_path / f".partial-{process.pid}-another.host-abc_1"
        elsewhere.mkdir()
        with atomic_path(path) as partial:
            partial.write_text("new")
            remove_leftovers(tmp_path)
            assert theirs.exists()
        process.kill()
    assert path.read_text() == "new" and theirs.exists()
    remove_leftovers(tmp_path)
    assert not theirs.exists() and elsewhere.exists()
    assert path.read_text() == "new"
    remove_leftovers(tmp_path / "never made")


def test_files_keep_the_usual_permissions(tmp_path: Path) -> None:
    plain, ours = tmp_path / "plain", tmp_path / "ours"
    plain.write_bytes(b"a")
    write_bytes(ours, b"a")
    assert os.stat(plain).st_mode == os.stat(ours).st_mode


def test_json_has_no_nan_and_its_error_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json(path, {"a": 1.0, "b": "ä"})
    with pytest.raises(ValueError, match=r"numbers\.json would hold a number that is not finite"):
        write_json(path, {"a": float("nan")})
    assert json.loads(path.read_text()) == {"a": 1.0, "b": "ä"}
    assert path.read_text().endswith("}\n")


def test_sha256_of_known_content(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(tmp_path / "a") == expected
