"""Build a small camera-control bench whose truth is known.

First frames come from the maps of a world, paths from the simple and hard templates; the layout
is that of SANA-WM-Bench, so everything that reads the one reads the other. Each scene has one
first frame and two paths, one per split, at most 0.4 m/s fast, within 60 % of the median depth
and, where a start allows it, 0.3 m clear of everything that the renderer's depth shows.

    python -m benchmarks.make_bench --out bench                        # tiny: 10 scenes, a minute
    python -m benchmarks.make_bench --out bench --scenes-per-split 1 --frames 25        # a smoke
    python -m benchmarks.make_bench --out bench --world procedural --size 128

`tiny` takes its starts from the map that the embedded world knows; `procedural` from four others,
at any size. Paths of the hard split may leave what the embedded world was trained on (height,
pitch); each scene's row in run_manifest.jsonl says in what. The same options give the same files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.report import progress
from sana_wm_gym.evaluation.bench.build import FULL_FRAMES, build_bench
from sana_wm_gym.evaluation.bench.layout import BenchScene, Split
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import WorldSpec


def spec_of(world: str, size: int | None) -> WorldSpec:
    """The spec of a world, at a frame size if it leaves a choice.

    Raises:
        ValueError: The world has no frames of this size.
    """
    if world == "procedural":
        side = 64 if size is None else size
        return ProceduralWorld(size=(side, side)).spec
    spec = load_world(world).spec
    if size is not None and (spec.height, spec.width) != (size, size):
        raise ValueError(f"size is {size}, but {world} makes {spec.height} x {spec.width} frames")
    return spec


def table(split: Split, scenes: Sequence[BenchScene]) -> Table:
    """What was built for a split, a line per scene."""
    shown = Table(title=split, title_justify="left", box=None)
    for heading in ("scene", "path", "clear", "revisits", "outside training"):
        shown.add_column(heading, no_wrap=heading in ("scene", "path"))
    for scene in scenes:
        retries = scene.extra["collision_retries"]
        status = scene.extra["collision_status"]
        after_retry = "1 retry" if retries == 1 else f"{retries} retries"
        shown.add_row(
            scene.id,
            scene.trajectory_id,
            {"clear": "yes", "colliding": "no"}.get(status, after_retry),
            str(len(scene.revisits)),
            ", ".join(scene.extra["outside_training"]) or "-",
        )
    return shown


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.make_bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write the bench to")
    parser.add_argument("--world", default="tiny", help="whose scenes: a world's name (tiny)")
    parser.add_argument("--size", type=int, help="frame height and width in pixels (64)")
    parser.add_argument("--scenes-per-split", type=int, default=10, help="scenes (10)")
    parser.add_argument(
        "--frames",
        type=int,
        default=FULL_FRAMES,
        help=f"poses per path, 24 k + 1 up to {FULL_FRAMES} ({FULL_FRAMES}: a minute)",
    )
    parser.add_argument("--seed", type=int, default=0, help="source of all starts (0)")
    options = parser.parse_args(arguments)
    console = Console()
    try:
        spec = spec_of(options.world, options.size)
        with progress(console) as bar:
            task = bar.add_task("scenes", total=options.scenes_per_split)
            bench = build_bench(
                options.out,
                spec,
                options.scenes_per_split,
                options.frames,
                options.seed,
                on_scene=lambda: bar.advance(task),
            )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for split, scenes in bench.items():
        console.print(table(split, scenes))
    console.print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
