"""Small camera-control runs: estimators that need no pixels, settings, and results read back."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace

import numpy as np
from chunk_worlds import ChunkWorld
from rich.console import Console

from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.evaluation.tools import bench_run
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

WORLD = ProceduralWorld(size=(32, 32), scenes=(5,))
SHORT = replace(WORLD, frames_per_chunk=10)
KEYS = ChunkWorld(driven_by=("keys",))
FRAMES = 49  # poses; two chunks
VIDEO = FRAMES - 1


@dataclass(frozen=True)
class Drifting:
    """An estimator that reads no pixels: every camera moves right."""

    source: str = "estimated"

    def estimate(self, frames, intrinsics, fps):
        info = EstimatorInfo("drifting", "1", self.source, "full", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, 0, 3] = np.linspace(0, 1, len(frames))
        return PoseEstimate(poses, np.ones(len(frames), dtype=bool), info)


def config(bench, folder, **changes):
    """One worker on the simple split of a bench; None builds one."""
    bench = None if bench is None else str(bench)
    plain = ControlConfig("procedural", ("simple",), bench, folder=str(folder), workers=1)
    return replace(plain, **{"estimator": Drifting(), **changes})


def silent():
    return Console(file=open(os.devnull, "w"), width=200)


def run(settings):
    return bench_run.benchmark(settings, silent())


def results(folder, split="simple"):
    return {p.stem: json.loads(p.read_text()) for p in (folder / "scenes" / split).glob("*.json")}
