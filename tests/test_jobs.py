"""Jobs give the same results in one process, in several, in shards, and on a Ray cluster."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.jobs import Launcher, shard_of


def square(number):
    return number * number


def refuse(number):
    raise KeyError(number)


def process(number):
    return os.getpid()


def die(folder):
    """Kills its process the first time."""
    if not Path(folder, "died").exists():
        Path(folder, "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return folder


@given(st.integers(0, 30), st.integers(1, 8))
def test_shards_are_a_partition(items, shards):
    parts = [shard_of(range(items), shard, shards) for shard in range(shards)]
    assert sorted(item for part in parts for item in part) == list(range(items))
    with pytest.raises(ValueError, match="shard is"):
        shard_of(range(items), shards, shards)


@pytest.mark.parametrize("workers", [1, 2])
def test_processes_give_every_job_its_result(workers):
    launcher = Launcher(workers=workers)
    assert dict(launcher.run(square, range(5))) == {n: n * n for n in range(5)}
    own = {pid == os.getpid() for _, pid in launcher.run(process, range(2))}
    assert own == {workers == 1}
    with pytest.raises(KeyError):
        list(launcher.run(refuse, range(2)))


def test_a_process_that_dies_ends_the_run(tmp_path):
    with pytest.raises(BrokenExecutor):
        list(Launcher(workers=2).run(die, [str(tmp_path)] * 2))


def test_ray_runs_a_job_again_whose_worker_died(tmp_path):
    pytest.importorskip("ray", reason="needs ray: pip install sana_wm_gym[distributed]")
    launcher = Launcher("ray", workers=2)
    try:
        assert dict(launcher.run(die, [str(tmp_path)])) == {str(tmp_path): str(tmp_path)}
        assert (tmp_path / "died").exists()
        with pytest.raises(KeyError):
            list(launcher.run(refuse, [1]))
    except ConnectionError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray's half minute: {error}")


@pytest.mark.parametrize("launcher", [Launcher("ray", 2), Launcher(workers=2)])
def test_nothing_to_do_starts_nothing(launcher, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert list(launcher.run(square, [])) == []


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[distributed\]"):
        list(Launcher("ray").run(square, [1]))


def test_a_cluster_that_cannot_be_had_is_one_line(monkeypatch):
    def init(**settings):
        raise Exception("nobody answers\nand this is how Ray came to know")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(init=init))
    with pytest.raises(
        ConnectionError, match=r"^Ray cannot be started or reached: nobody answers$"
    ):
        list(Launcher("ray", ray_address="auto").run(square, [1]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "slurm"}, "'slurm', expected one of processes, ray"),
        ({"ray_address": "auto"}, "ray_address is given with launcher=processes, expected ray"),
        ({"workers": 0}, "workers is 0"),
    ],
)
def test_launchers_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        Launcher(**arguments)
