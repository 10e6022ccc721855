"""Where scenes run changes nothing: one process, a Ray cluster, workers that are killed."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from control_runs import config, results, run

from sana_wm_gym import jobs
from sana_wm_gym.evaluation.bench.reader import read_bench
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate


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


def run_on_ray(settings):
    pytest.importorskip("ray", reason="needs ray: pip install sana_wm_gym[distributed]")
    try:
        return run(settings)
    except ConnectionError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray's half minute: {error}")


def found(folder):
    """All results and the summary without what differs between runs."""
    splits = json.loads((folder / "summary.json").read_text())["splits"]
    documents = [*results(folder).values(), *splits.values()]
    return [{k: v for k, v in one.items() if k not in ("taken", "cost")} for one in documents]


def test_killed_workers_cost_their_scene_alone_and_change_no_number(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RETRIES", 1)
    dark, bright = sorted(read_bench(bench, "simple"), key=lambda scene: scene.image().mean())
    limit = float(np.mean([dark.image().mean(), bright.image().mean()]))
    deaths, folder = tmp_path / "deaths", tmp_path / "run"
    deaths.mkdir()
    settings = config(bench, folder, estimator=Deadly(str(deaths), limit, 3), workers=2)

    assert run_on_ray(replace(settings, launcher="ray")) == 1
    assert len(list(deaths.iterdir())) == 2
    assert results(folder)[bright.id]["code"] == "worker_died"
    assert results(folder)[dark.id]["status"] == "scored"
    # Failed scenes are tried again, from the video that is there; one more death is survived.
    made = (folder / "made" / "simple" / f"{bright.id}.json").stat().st_mtime_ns
    assert run_on_ray(replace(settings, launcher="ray")) == 0
    assert len(list(deaths.iterdir())) == 3
    assert (folder / "made" / "simple" / f"{bright.id}.json").stat().st_mtime_ns == made
    assert not list(Path("/tmp").glob(f"ray{os.getpid()}-*")), "a cluster left its folder behind"

    assert run(replace(settings, folder=str(tmp_path / "alone"), workers=1)) == 0
    assert found(folder) == found(tmp_path / "alone")
    assert {result["status"] for result in results(folder).values()} == {"scored"}
