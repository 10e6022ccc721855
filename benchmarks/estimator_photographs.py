"""Does the pose estimator hold on videos that this project did not render?

Photographs of scikit-image and scikit-learn on planes, seen by cameras that are known exactly: a
pan, one plane, and a room with two boards, 49 frames in H.264 at crf 18.

- true frames at several widths: camera-control error, and is anything flagged?
- a disc that moves over 25 % or 5 % of the picture, in three textures: flagged?
- a focal length that is wrong by 0.7 or 1.4: flagged?

    python -m benchmarks.estimator_photographs --out docs/data/estimator_photographs.json
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from sana_wm_gym.evaluation.photograph_clips import (
    CLIPS,
    FPS,
    SIZES,
    TEXTURES,
    PhotographClip,
    photograph_clip,
)
from sana_wm_gym.files import write_json
from sana_wm_gym.metrics import RELEASE, score_or_code
from sana_wm_gym.poses import ESTIMATORS, LKBundleAdjustment, PoseEstimator
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import NONE, Table, cell

PARTS = ("true", "moving", "focal")
FRACTIONS, FOCALS = (0.25, 0.05), (0.7, 1.4)
HEADS = (
    "estimator", "videos", "px", "clips", "scored", "RotErr deg", "worst", "TransErr cm",
    "explained", "flagged", "CPU s",
)  # fmt: skip
Row = dict[str, Any]


def variants(
    part: str, scene: str, path: str, width: int, seed: int
) -> Iterator[tuple[str, PhotographClip, float]]:
    """Name, clip and factor on the focal length of what a part makes of one clip."""
    if part == "true":
        yield "true frames", photograph_clip(scene, path, width, seed).compressed(), 1.0
    elif part == "focal" and scene != "plane":
        clip = photograph_clip(scene, path, width, seed).compressed()
        yield from ((f"{scene}, focal length x {factor}", clip, factor) for factor in FOCALS)
    elif part == "moving" and scene == "room":
        clip = photograph_clip(scene, path, width, seed)
        for fraction in FRACTIONS:
            for texture in TEXTURES:
                moving = clip.with_disc(fraction, texture, seed).compressed()
                yield f"disc over {fraction:.0%}, {texture}", moving, 1.0


def measure(clip: PhotographClip, factor: float, estimator: PoseEstimator) -> Row:
    """Estimate and score one video with the focal length times a factor."""
    intrinsics = np.array(clip.intrinsics) * [factor, factor, 1, 1]
    started = time.process_time()
    estimate = estimator.estimate(clip.frames, intrinsics, FPS)
    seconds = time.process_time() - started
    score = score_or_code(estimate.poses, clip.c2w, RELEASE, estimate.valid)
    return {
        "estimator": f"{estimate.info.name} {estimate.info.version}",
        "mode": estimate.info.mode,
        "look": estimate.info.look,
        "coverage": float(estimate.valid.mean()),
        "reprojection_error_px": estimate.info.reprojection_error_px,
        "explained": estimate.explained,
        "reversed_deg": estimate.reversed_deg,
        "focal_ratio": estimate.focal_ratio,
        "flags": list(estimate.flags),
        "cpu_seconds": round(seconds, 2),
        "score": {"code": score} if isinstance(score, str) else score.to_dict(),
    }


def summary(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """A line per variant and width: medians, and how many clips are flagged."""
    lines = []
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["estimator"], row["variant"], row["width"]), []).append(row)
    for (estimator, name, width), mine in groups.items():
        scores = [row["score"] for row in mine if "code" not in row["score"]]
        turned = [score["RotErr"] for score in scores]
        # Centres are unknown where only turns can be seen.
        full = [r["score"] for r in mine if r["mode"] == "full" and "code" not in r["score"]]
        moved = [100 * score["TransErr"] for score in full]
        explained = [row["explained"] for row in mine if row["explained"] is not None]
        flags = sum(bool(row["flags"]) for row in mine)
        numbers = (
            cell(float(np.median(turned)) if turned else None, 3),
            cell(max(turned, default=None), 2),
            cell(float(np.median(moved)) if moved else None, 2),
            cell(float(np.median(explained)) if explained else None, 2),
            f"{flags}/{len(mine)}" if explained else NONE,
            cell(float(np.mean([row["cpu_seconds"] for row in mine])), 1),
        )
        lines.append((estimator, name, *map(str, (width, len(mine), len(scores))), *numbers))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=list(SIZES), choices=SIZES, help="widths, pixels")
    add("--seeds", type=int, nargs="+", default=[0], help="choose the photographs")
    clips = ["/".join(names) for names in CLIPS]
    add("--clips", nargs="+", default=clips, choices=clips, help="scenes and paths")
    add("--parts", nargs="+", default=PARTS, choices=PARTS, help="questions")
    add("--estimator", default=next(iter(ESTIMATORS)), choices=ESTIMATORS)
    add("--no-diagnosis", action="store_true", help="poses alone, in under half the time")
    add("--out", type=Path, help="json file for all numbers; added to those that it holds")
    given = parser.parse_args(arguments)
    estimator = ESTIMATORS[given.estimator]
    if given.no_diagnosis and isinstance(estimator, LKBundleAdjustment):
        estimator = replace(estimator, diagnosed=False)
    runs = json.loads(given.out.read_text())["runs"] if given.out and given.out.is_file() else []
    run = {**provenance("benchmarks.estimator_photographs"), "rows": []}
    for width in given.sizes:
        for part in given.parts:
            for seed in given.seeds:
                for scene, path in (name.split("/") for name in given.clips):
                    for name, clip, factor in variants(part, scene, path, width, seed):
                        row = measure(clip, factor, estimator)
                        place = {"variant": name, "width": width, "seed": seed}
                        run["rows"].append({**place, "scene": scene, "path": path, **row})
                        if given.out:
                            write_json(given.out, {"runs": [*runs, run]})
    rows = [row for one in (*runs, run) for row in one["rows"]]
    table = Table(f"Videos of photographs, {RELEASE.name}", HEADS, tuple(summary(rows)))
    table.print(Console(width=140))


if __name__ == "__main__":
    main()
