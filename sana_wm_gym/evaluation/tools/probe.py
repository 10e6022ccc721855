"""What critics of camera-controlled world models doubt, measured on one world.

  persistence  look away and return after 1, 2, 4, 8 chunks: is the first view still there?
  gates        400 chunks of walking: does the delta-rule memory stay bounded, and why?
  horizon      one-minute walks in 10-second windows: is the camera still followed?
  novel        roll, fast pans, large height: what happens outside of training?

    sana-wm probe                                # `tiny`, all four
    sana-wm probe --world procedural             # what a perfect world scores
    sana-wm probe --probe gates --world FILE.safetensors

Each probe writes OUT/NAME.json and its tables, OUT/NAME.csv, when it is done. Everything is
seeded. About five minutes on an idle core; --quick takes seconds and measures too little to quote.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from sana_wm_gym.evaluation.held_out import Tick, held_out_clip, held_out_clips
from sana_wm_gym.evaluation.probes import gates, horizon, novel_control, persistence
from sana_wm_gym.evaluation.probes.results import ProbeResult
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import Start, WorldModel

World = WorldModel[Any]
_GATE_WALK, _FIRST_WALK = 2000, 1000  # numbers of held-out walks that nothing else looks at


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        starts: Starts of the persistence and novel-control probes, clips of the horizon.
        pose_clips: Clips of each kind whose poses are estimated.
        holds: Chunks of looking away.
        gate_chunks: Length of the walk that gates are observed on.
        ablation_chunks: Length of the same without safeguards.
        horizon_chunks: Length of the horizon's walks.
        novel_chunks: Length of every manoeuvre.
    """

    starts: int = 4
    pose_clips: int = 2
    holds: tuple[int, ...] = persistence.HOLDS
    gate_chunks: int = 400
    ablation_chunks: int = 60
    horizon_chunks: int = 40
    novel_chunks: int = 4


MOST_ROWS = 40
"""Tables with more rows are only written."""

QUICK = Sizes(1, 1, (1, 2), gate_chunks=4, ablation_chunks=2, horizon_chunks=1, novel_chunks=1)


def draw_starts(world: World, count: int, seed: int) -> list[Start]:
    """First frames that the world draws itself, its scenes in turn."""
    rng, scenes = np.random.default_rng(seed), world.spec.scenes
    return [world.sample_start(rng, scenes[i % len(scenes)]) for i in range(count)]


def _persistence(world: World, sizes: Sizes, seed: int, tick: Tick) -> ProbeResult:
    return persistence.measure(
        world, draw_starts(world, sizes.starts, seed), seed, tick, sizes.holds
    )


def _gates(world: World, sizes: Sizes, seed: int, tick: Tick) -> ProbeResult:
    if not isinstance(world, SanaWorld):
        raise gates.NoNetworkError(world.spec.name)
    walk = held_out_clip(world.spec, world.spec.scenes[0], _GATE_WALK, sizes.gate_chunks)
    return gates.measure(world, walk.start, walk.c2w, sizes.ablation_chunks, seed, tick)


def _horizon(world: World, sizes: Sizes, seed: int, tick: Tick) -> ProbeResult:
    clips = held_out_clips(world.spec, sizes.starts, sizes.horizon_chunks, first=_FIRST_WALK)
    worlds, estimator = horizon.variants(world), LKBundleAdjustment()
    return horizon.measure(worlds, clips, sizes.pose_clips, estimator, seed, tick)


def _novel(world: World, sizes: Sizes, seed: int, tick: Tick) -> ProbeResult:
    walks = held_out_clips(world.spec, sizes.starts, sizes.novel_chunks, first=_FIRST_WALK)
    starts, estimator = draw_starts(world, sizes.starts, seed), LKBundleAdjustment()
    return novel_control.measure(world, walks, starts, sizes.pose_clips, estimator, seed, tick)


PROBES: dict[str, Callable[[World, Sizes, int, Tick], ProbeResult]] = {
    "persistence": _persistence,
    "gates": _gates,
    "horizon": _horizon,
    "novel": _novel,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the chosen probes one by one; returns the exit status."""
    parser = FlagParser("sana-wm probe", __doc__)
    parser.add_argument("--world", default="tiny", help="name of a world, or a world file (tiny)")
    parser.add_argument(
        "--probe", nargs="+", choices=tuple(PROBES), default=tuple(PROBES), help="which (all)"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/probes"), help="folder")
    parser.add_argument("--seed", type=int, default=0, help="source of starts and noise (0)")
    parser.add_argument("--quick", action="store_true", help="a few chunks, to see that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # small networks: one thread is faster than threads that wait
    console, sizes = Console(), QUICK if options.quick else Sizes()
    world = load_world(options.world)
    for name in options.probe:
        with progress(console) as bar:
            tick = partial(bar.advance, bar.add_task(name, total=None))
            try:
                result = PROBES[name](world, sizes, options.seed, tick)
            except gates.NoNetworkError as reason:
                console.print(f"{name}: not measured, {reason}")
                continue
        document = {"world": options.world, "seed": options.seed, "sizes": asdict(sizes)}
        document |= {**provenance("sana-wm probe"), "result": asdict(result)}
        write_json(options.out / f"{name}.json", document)
        for part, table in result.tables().items():
            write_text(options.out / f"{name}{part and '_'}{part}.csv", table.csv())
            if len(table.rows) <= MOST_ROWS:
                table.print(console)
        console.print(f"wrote {name}.json and csv to {options.out}\n")
    return 0
