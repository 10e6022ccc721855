"""A bench of two scenes per split, and what was generated."""

from __future__ import annotations

import shutil

import pytest
from control_runs import FRAMES, WORLD

from sana_wm_gym.evaluation.bench.build import build_bench
from sana_wm_gym.evaluation.bench.reader import read_bench
from sana_wm_gym.evaluation.control import scene_job
from sana_wm_gym.evaluation.control.generate import generate


@pytest.fixture(scope="package")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    build_bench(root, WORLD.spec, 2, FRAMES)
    return root


@pytest.fixture(scope="package")
def scene(bench):
    return read_bench(bench, "simple")[0]


@pytest.fixture
def own_bench(bench, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(bench, tmp_path / "bench")


@pytest.fixture
def made(monkeypatch):
    """Which scenes were generated."""
    seen = []

    def counted(world, scene, seed, path):
        seen.append(path.name.removesuffix("_generated.mp4"))
        return generate(world, scene, seed, path)

    monkeypatch.setattr(scene_job, "generate", counted)
    return seen
