"""Where scenes run changes nothing: one process, a Ray cluster, workers that are killed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import control_runs
import cv2
import numpy as np
import pytest
from control_runs import run

from sana_wm_gym import jobs
from sana_wm_gym.evaluation.bench.build import build_bench
from sana_wm_gym.evaluation.bench.reader import read_bench
from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

BRIGHT, DARK = 0, 1


@dataclass(frozen=True)
class Deadly:
    """Knows nothing of poses. Kills its own process, the first `kills` times that it sees a video
    brighter than `limit`, and lists these times in `folder`."""

    folder: str
    limit: float
    kills: int

    def estimate(self, frames, intrinsics, fps):
        killed = len(list(Path(self.folder).iterdir()))
        if frames[0].mean() > self.limit and killed < self.kills:
            (Path(self.folder) / str(killed)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.environ["OMP_NUM_THREADS"] == "1" and cv2.getNumThreads() == 1
        info = EstimatorInfo("deadly", "1", "estimated", "full", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, 0, 3] = np.linspace(0, frames[0].mean() / 100, len(frames))
        return PoseEstimate(poses, np.ones(len(frames), dtype=bool), info)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    build_bench(root, ProceduralWorld(size=(32, 32), scenes=(5, 0)).spec, 2, 25)
    return root


@pytest.fixture
def scenes(bench):
    """The brighter scene, then the other."""
    return sorted(read_bench(bench, "simple"), key=lambda scene: -scene.image().mean())


@pytest.fixture
def plain(bench, scenes, tmp_path):
    """A run in which the brighter scene kills its worker once."""
    deaths = tmp_path / "deaths"
    deaths.mkdir()
    limit = float(np.mean([scene.image().mean() for scene in scenes]))
    return ControlConfig(
        world="procedural",
        split=("simple",),
        bench=str(bench),
        folder=str(tmp_path / "run"),
        estimator=Deadly(str(deaths), limit, 1),
        launcher="ray",
    )


def run_on_ray(settings):
    pytest.importorskip("ray", reason="needs ray: pip install sana_wm_gym[distributed]")
    try:
        return run(settings)
    except ConnectionError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray's half minute: {error}")


def summary(folder):
    """All numbers but those of cost."""
    splits = json.loads((Path(folder) / "summary.json").read_text())["splits"]
    return {
        split: {key: value for key, value in numbers.items() if key != "cost"}
        for split, numbers in splits.items()
    }


def results(folder):
    found = control_runs.results(Path(folder))
    return {
        scene: {k: v for k, v in document.items() if k not in ("taken", "cost")}
        for scene, document in found.items()
    }


def test_ray_with_a_killed_worker_makes_the_tables_of_one_process(plain, scenes, tmp_path):
    here = set(Path("/tmp").glob("ray*"))
    assert run_on_ray(plain) == 0
    assert set(Path("/tmp").glob("ray*")) <= here, "a cluster left its folder behind"
    (death,) = (tmp_path / "deaths").iterdir()
    bright = scenes[BRIGHT]
    # Killed while its poses were read, it went on from the video that was there.
    made = tmp_path / "run" / "made" / "simple" / f"{bright.id}.json"
    assert made.stat().st_mtime_ns < death.stat().st_mtime_ns

    alone = replace(plain, folder=str(tmp_path / "alone"), launcher="processes", workers=1)
    assert run(alone) == 0
    assert len(results(alone.folder)) == 2
    assert results(plain.folder) == results(alone.folder)
    assert summary(plain.folder) == summary(alone.folder)
    split = summary(plain.folder)["simple"]
    assert split["scored"] == 2 and split["release"]["rollout"]["trans_err"]["value"] > 0


def test_a_scene_that_kills_every_worker_costs_only_itself(plain, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RETRIES", 1)
    deadly = replace(plain, estimator=replace(plain.estimator, kills=2))
    assert run_on_ray(deadly) == 1
    assert len(list((tmp_path / "deaths").iterdir())) == 2
    found = results(plain.folder)
    assert found[scenes[BRIGHT].id]["code"] == "worker_died"
    assert found[scenes[DARK].id]["status"] == "scored"
    # It is tried again, with any launcher.
    assert run(replace(deadly, launcher="processes", workers=1)) == 0
    assert all(result["status"] == "scored" for result in results(plain.folder).values())
