"""Build a small camera-control bench whose truth is known.

First frames come from the scenes of a world, paths from the simple and hard templates; the layout
is that of SANA-WM-Bench, so everything that reads the one reads the other. Each bench scene has one
first frame and two paths, one per split, at most 0.4 m/s fast, within 60 % of the median depth
and, where a start allows it, 0.3 m clear of everything that the renderer's depth shows.

    sana-wm bench make --out bench                        # tiny: 10 scenes, a minute
    sana-wm bench make --out bench --scenes-per-split 1 --frames 25        # a smoke
    sana-wm bench make --out bench --world procedural --size 128

`tiny` takes its starts from the scene that the embedded world knows; `procedural` from four others,
at any size. Paths of the hard split may leave what the embedded world was trained on (height,
pitch); each scene's row in run_manifest.jsonl lists how. The same options give the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sana_wm_gym.evaluation.bench.build import FULL_FRAMES, build_bench
from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import NONE, Table, progress
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import WorldSpec


def spec_of(name: str, size: int | None) -> WorldSpec:
    """The spec of a world, at a frame size if it leaves a choice.

    Raises:
        ValueError: The world has no frames of this size.
    """
    world = load_world(name)
    if size is not None and isinstance(world, ProceduralWorld):
        world = replace(world, size=(size, size))
    spec = world.spec
    if size is not None and spec.size != (size, size):
        raise ValueError(f"size is {size}, but {name} makes {spec.height} x {spec.width} frames")
    return spec


def row_of(scene: BenchScene) -> tuple[str, ...]:
    """What was built, in cells."""
    retries = scene.extra["collision_retries"]
    clear = {"clear": "yes", "colliding": "no"}.get(
        scene.extra["collision_status"], f"{retries} {'retry' if retries == 1 else 'retries'}"
    )
    outside = ", ".join(scene.extra["outside_training"]) or NONE
    return scene.id, scene.trajectory_id, clear, str(len(scene.revisits)), outside


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm bench make", __doc__)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="folder to write the bench to")
    add("--world", default="tiny", help="whose scenes, by any name that load_world takes (tiny)")
    add("--size", type=int, help="frame height and width in pixels (64)")
    add("--scenes-per-split", type=int, default=10, help="scenes (10)")
    add("--frames", type=int, help="poses per path, 1 + whole chunks of the world (a minute)")
    add("--seed", type=int, default=0, help="source of all starts (0)")
    options = parser.parse_args(arguments)
    console = Console()
    spec = spec_of(options.world, options.size)
    minute = FULL_FRAMES - (FULL_FRAMES - 1) % spec.frames_per_chunk
    with progress(console) as bar:
        task = bar.add_task("scenes", total=options.scenes_per_split)
        bench = build_bench(
            options.out,
            spec,
            options.scenes_per_split,
            minute if options.frames is None else options.frames,
            options.seed,
            on_scene=lambda: bar.advance(task),
        )
    heads = ("scene", "path", "clear", "revisits", "outside training")
    for split, scenes in bench.items():
        Table(split, heads, tuple(map(row_of, scenes))).print(console)
    console.print(f"wrote {options.out}")
    return 0
