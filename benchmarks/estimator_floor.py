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
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sana_wm_gym.evaluation.floor_clips import CLIPS, FPS, MOVING, degrade, place
from benchmarks.report import progress
from sana_wm_gym.files import write_json
from sana_wm_gym.metrics import (
    CONVENTIONS,
    DegenerateTrajectoryError,
    null_scores,
    score_poses,
)
from sana_wm_gym.poses import (
    ColmapSift,
    Floor,
    LKBundleAdjustment,
    PoseEstimator,
    RotationOnly,
)
from sana_wm_gym.poses.floors import FLOORS, read_floors
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import generate_scene

MIN_COVERAGE = 0.5  # of frames that are placed, as the benchmark asks of a clip
WIDTH = 180  # columns of the table where no terminal says otherwise
SHOWN = ("release", "scale_only", "paper_sim3")
ESTIMATORS: dict[str, PoseEstimator] = {
    "lk_bundle_adjustment": LKBundleAdjustment(),
    "rotation_only": RotationOnly(),
    "colmap_sift": ColmapSift(),
}


def measure(
    clip: str,
    scene_seed: int,
    size: int,
    frames: int,
    degraded: bool = False,
    estimator: PoseEstimator = ESTIMATORS["lk_bundle_adjustment"],
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
    for name in SHOWN:
        try:
            score = score_poses(
                estimate.poses, truth, CONVENTIONS[name], estimate.valid, min_coverage=0.0
            )
            row[name] = score.to_dict()
        except DegenerateTrajectoryError as error:
            row[name] = {"code": error.code}
        null = null_scores(truth, CONVENTIONS[name])["motionless"]
        row[f"{name}_motionless"] = {"code": null} if isinstance(null, str) else null.to_dict()
    return row


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _cells(row: dict[str, Any]) -> Iterator[str]:
    yield from (row["estimator"], row["clip"], str(row["scene"]), str(row["size"]))
    yield from (row["mode"], row["look"])
    yield _number(row["coverage"], 2)
    for name in ("release", "scale_only"):
        for key, digits in (("RotErr", 2), ("TransErr", 3), ("CamMC", 3)):
            yield _number(row[name].get(key), digits)
    yield _number(row["scale_only_motionless"].get("RotErr"), 1)
    yield _number(row["scale_only_motionless"].get("TransErr"), 2)
    yield _number(row["cpu_seconds"], 1)


def report(rows: Sequence[dict[str, Any]], made: dict[str, Any], console: Console) -> None:
    """Print one line per clip, then median and worst over the translating clips of each size."""
    table = Table(title="Pose-estimation floor: degrees, metres, CamMC")
    for heading in (
        "estimator", "clip", "scene", "px", "mode", "look", "reg",
        "release Rot", "Trans", "CamMC", "scale_only Rot", "Trans", "CamMC",
        "motionless Rot", "Trans", "cpu s",
    ):  # fmt: skip
        table.add_column(
            heading, justify="left" if heading in ("estimator", "clip", "mode", "look") else "right"
        )
    for row in rows:
        table.add_row(*_cells(row))
    console.print(table)
    for floor in floors(rows, made):
        soft = ", soft" if floor.soft else ""
        console.print(f"{floor.estimator}, {floor.width} px{soft}: {floor}", soft_wrap=True)


def floors(rows: Sequence[dict[str, Any]], made: dict[str, Any]) -> list[Floor]:
    """One floor under `release` per estimator, width and softness, over the clips it is for:
    those that turn on the spot for `rotation_only`, those that travel for all others.

    Args:
        rows: As `measure` returns them.
        made: Their provenance.
    """
    found = []
    keys = sorted({(r["estimator"], r["version"], r["size"], r["degraded"]) for r in rows})
    for key in keys:
        turning = key[0] == "rotation_only"
        asked = [
            r
            for r in rows
            if (r["estimator"], r["version"], r["size"], r["degraded"]) == key
            and (r["clip"] == "pan" if turning else r["clip"] in MOVING)
        ]
        scored = [
            r
            for r in asked
            if r["release"].get("RotErr") is not None and r["coverage"] >= MIN_COVERAGE
        ]
        if not scored:
            continue
        rotation = [r["release"]["RotErr"] for r in scored]
        travel = [0.0 if turning else r["release"]["TransErr"] for r in scored]
        found.append(
            Floor(
                *key,
                clips=len(asked),
                scored=len(scored),
                rot_err=round(float(np.median(rotation)), 4),
                rot_err_worst=round(max(rotation), 4),
                trans_err=round(float(np.median(travel)), 5),
                trans_err_worst=round(max(travel), 5),
                cpu_seconds=round(float(np.mean([r["cpu_seconds"] for r in asked])), 2),
                frames=asked[0]["frames"],
                date=made.get("date", ""),
                commit=made.get("commit", ""),
                device=made.get("device", ""),
                command=made.get("command", ""),
            )
        )
    return found


def store(new: Sequence[Floor], path: Path = FLOORS) -> None:
    """Add floors to the stored ones, replacing those of the same estimator, width and softness."""
    replaced = {(floor.estimator, floor.width, floor.soft) for floor in new}
    kept = [f for f in read_floors(path) if (f.estimator, f.width, f.soft) not in replaced]
    both = sorted([*kept, *new], key=lambda f: (f.estimator, f.soft, f.width))
    write_json(path, {"floors": [asdict(floor) for floor in both]})
    read_floors.cache_clear()


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 128], help="frame widths in pixels"
    )
    parser.add_argument(
        "--scenes", type=int, nargs="+", default=[0], help="seeds of procedural scenes"
    )
    parser.add_argument(
        "--clips", nargs="+", default=list(CLIPS), choices=list(CLIPS), help="camera paths"
    )
    parser.add_argument(
        "--frames", type=int, default=97, help="frames per clip at 16 fps; 97 is six seconds"
    )
    parser.add_argument(
        "--degraded", action="store_true", help="blur, dim and add noise before estimating"
    )
    parser.add_argument(
        "--estimators",
        nargs="+",
        default=["lk_bundle_adjustment"],
        choices=list(ESTIMATORS),
        help="who estimates",
    )
    parser.add_argument(
        "--store", action="store_true", help="keep the floors where scores find them"
    )
    parser.add_argument("--out", type=Path, help="also write all numbers to this json file")
    options = parser.parse_args(arguments)
    if min(options.sizes) < 16 or options.frames < 3 or min(options.scenes) < 0:
        parser.error("sizes must be at least 16, frames at least 3, scene seeds at least 0")

    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)
    jobs = [
        (c, s, p, e)
        for e in options.estimators
        for p in options.sizes
        for s in options.scenes
        for c in options.clips
    ]
    rows = []
    with progress(console) as bar:
        for clip, scene, size, name in bar.track(jobs, description="estimating"):
            rows.append(
                measure(clip, scene, size, options.frames, options.degraded, ESTIMATORS[name])
            )
    made = provenance("benchmarks.estimator_floor")
    report(rows, made, console)
    if options.out is not None:
        write_json(options.out, {**made, "fps": FPS, "rows": rows})
        console.print(f"wrote {options.out}")
    if options.store:
        store(floors(rows, made))
        console.print(f"stored floors in {FLOORS.name}")


if __name__ == "__main__":
    main()
