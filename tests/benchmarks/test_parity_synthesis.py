"""The parity check of trajectory synthesis notices what changes and names what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks import parity

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "metrics"
STEM = "trajectory_synthesis"


@pytest.fixture
def copied(tmp_path):
    (tmp_path / "metrics").mkdir()
    for suffix in (".json", ".npz"):
        shutil.copyfile(GOLDEN / f"{STEM}{suffix}", tmp_path / "metrics" / f"{STEM}{suffix}")
    return tmp_path


def run(capsys, directory):
    return parity.main([str(directory)]), capsys.readouterr().out


def test_agrees(copied, capsys):
    status, output = run(capsys, copied)
    assert status == 0
    assert output.count("  ok ") == 15
    assert "skipped, " not in output


@pytest.mark.parametrize(
    "name", ["catmull_rom", "squad_matrix", "clamped_matrix", "laplacian", "arclength_97"]
)
def test_a_changed_number_is_the_only_miss(copied, capsys, name):
    path = copied / "metrics" / f"{STEM}.npz"
    arrays = dict(np.load(path))
    arrays[f"waypoints15__{name}"][5] += 1e-6
    np.savez(path, **arrays)
    status, output = run(capsys, copied)
    assert status == 1
    assert [line.split()[-1] for line in output.splitlines() if "MISS" in line] == [
        f"waypoints15__{name}"
    ]


def test_parameters_come_from_the_file(copied, capsys):
    path = copied / "metrics" / f"{STEM}.json"
    content = json.loads(path.read_text())
    content["cases"]["waypoints11"]["laplacian"]["iterations"] = 9
    content["cases"]["waypoints15"]["clamp"]["deg_per_s"] = 11.0
    path.write_text(json.dumps(content))
    _, output = run(capsys, copied)
    missed = {line.split()[-1] for line in output.splitlines() if "MISS" in line}
    assert missed == {"waypoints11__laplacian", "waypoints15__clamped_matrix"}


def test_absent_waypoints_are_named(copied, capsys):
    path = copied / "metrics" / f"{STEM}.npz"
    arrays = dict(np.load(path))
    del arrays["two_points__points"]
    np.savez(path, **arrays)
    status, output = run(capsys, copied)
    assert status == 0
    assert "waypoints is absent" in output or "its waypoints are absent" in output
