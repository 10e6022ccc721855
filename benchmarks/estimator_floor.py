"""How well can poses be read from pixels at all?

Renders camera paths through procedural scenes, where every pose is known, and scores what each
estimator makes of the pixels. No generated video can be shown to follow its camera better than
these floors; a score under twice its floor is not a ranking.

    python -m benchmarks.estimator_floor --sizes 64 128 --scenes 0 1 --out outputs/floor.json
    python -m benchmarks.estimator_floor --sizes 64 --degraded          # soft frames
    python -m benchmarks.estimator_floor --estimators colmap_sift --clips orbit
    python -m benchmarks.estimator_floor --sizes 64 128 --scenes 0 1 --store

`--store` writes medians and worst cases, with version, date, commit and device, into the package,
where every score finds them; entries of the same estimator, width and softness are replaced.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sana_wm_gym.evaluation.estimator_floors import (
    CLIPS,
    FPS,
    degrade,
    floors_of,
    place,
    store_floors,
)
from sana_wm_gym.files import write_json
from sana_wm_gym.metrics import CONVENTIONS, PoseScore, null_scores, score_or_code
from sana_wm_gym.poses import ESTIMATORS, PoseEstimator
from sana_wm_gym.poses.floors import FLOORS
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, cell, progress
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import generate_scene

SHOWN = ("release", "scale_only", "paper_sim3")
HEADS = (
    "estimator", "clip", "scene", "px", "mode", "look", "reg", "release Rot", "Trans", "CamMC",
    "scale_only Rot", "Trans", "CamMC", "motionless Rot", "Trans", "cpu s",
)  # fmt: skip


def measure(
    clip: str, scene_seed: int, size: int, frames: int, degraded: bool, estimator: PoseEstimator
) -> dict[str, Any]:
    """Render one clip, estimate its poses and score them under every shown convention."""
    scene = generate_scene(scene_seed)
    truth = place(scene, CLIPS[clip](np.arange(frames) / FPS), seed=scene_seed)
    intrinsics = default_intrinsics(size, size)
    video = render(scene, truth, intrinsics, (size, size), samples=max(2, 256 // size))
    if degraded:
        video = degrade(video)
    started = time.process_time()
    estimate = estimator.estimate(video, intrinsics, FPS)
    row: dict[str, Any] = {
        "clip": clip,
        "estimator": estimate.info.name,
        "version": estimate.info.version,
        "look": estimate.info.look,
        "degraded": degraded,
        "scene": scene_seed,
        "size": size,
        "frames": frames,
        "mode": estimate.info.mode,
        "coverage": float(estimate.valid.mean()),
        "reprojection_error_px": estimate.info.reprojection_error_px,
        "cpu_seconds": time.process_time() - started,
    }

    def plain(score: PoseScore | str) -> dict[str, Any]:
        return {"code": score} if isinstance(score, str) else score.to_dict()

    for name in SHOWN:
        convention = CONVENTIONS[name]
        row[name] = plain(score_or_code(estimate.poses, truth, convention, estimate.valid, 0.0))
        row[f"{name}_motionless"] = plain(null_scores(truth, convention)["motionless"])
    return row


def cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A clip as a row of the table."""
    still = row["scale_only_motionless"]
    errors = (("RotErr", 2), ("TransErr", 3), ("CamMC", 3))
    return (
        *(str(row[key]) for key in ("estimator", "clip", "scene", "size", "mode", "look")),
        cell(row["coverage"]),
        *(cell(row[c].get(key), digits) for c in SHOWN[:2] for key, digits in errors),
        *(cell(still.get("RotErr"), 1), cell(still.get("TransErr")), cell(row["cpu_seconds"], 1)),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, names = parser.add_argument, list(ESTIMATORS)
    add("--sizes", type=int, nargs="+", default=[64, 128], help="frame widths in pixels")
    add("--scenes", type=int, nargs="+", default=[0], help="seeds of procedural scenes")
    add("--clips", nargs="+", default=list(CLIPS), choices=list(CLIPS), help="camera paths")
    add("--frames", type=int, default=97, help="frames per clip at 16 fps; 97 is six seconds")
    add("--degraded", action="store_true", help="blur, dim and add noise before estimating")
    add("--estimators", nargs="+", default=names[:1], choices=names, help="which estimators")
    add("--store", action="store_true", help="keep the floors where scores find them")
    add("--out", type=Path, help="also write all numbers to this json file")
    given = parser.parse_args(arguments)
    if min(given.sizes) < 16 or given.frames < 3 or min(given.scenes) < 0:
        parser.error("sizes must be at least 16, frames at least 3, scene seeds at least 0")
    console = Console()
    if not console.is_terminal:
        console = Console(width=180)
    jobs = list(product(given.estimators, given.sizes, given.scenes, given.clips))
    with progress(console) as bar:
        rows = [
            measure(clip, scene, size, given.frames, given.degraded, ESTIMATORS[name])
            for name, size, scene, clip in bar.track(jobs, description="estimating")
        ]
    made = provenance("benchmarks.estimator_floor")
    found = floors_of(rows, made)
    notes = tuple(f"{f.estimator}, {f.width} px{', soft' if f.soft else ''}: {f}" for f in found)
    title = "Pose-estimation floor: degrees, metres, CamMC"
    Table(title, HEADS, tuple(map(cells, rows)), notes).print(console)
    if given.out is not None:
        write_json(given.out, {**made, "fps": FPS, "rows": rows})
        console.print(f"wrote {given.out}")
    if given.store:
        store_floors(found)
        console.print(f"stored floors in {FLOORS.name}")


if __name__ == "__main__":
    main()
