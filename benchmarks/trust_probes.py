"""What critics of camera-controlled world models doubt, measured on one world.

  persistence  look away and return after 1, 2, 4, 8 chunks: is the first view still there?
  gates        400 chunks of walking: does the delta-rule memory stay bounded, and why?
  horizon      one-minute walks in 10-second windows: is the camera still followed?
  novel        roll, fast pans, large height: what happens outside of training?

    python -m benchmarks.trust_probes                                # `tiny`, all four
    python -m benchmarks.trust_probes --world procedural             # what a perfect world scores
    python -m benchmarks.trust_probes --probe gates --world FILE.safetensors

Each probe writes OUT/NAME.json, OUT/NAME.md and OUT/NAME.png when it is done. Everything is
seeded. About five minutes on an idle core; --quick takes seconds and measures too little to quote.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.report import progress
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.evaluation.probes import gates, horizon, novel_control, persistence
from sana_wm_gym.evaluation.probes.plots import draw
from sana_wm_gym.evaluation.probes.report import Result, markdown
from sana_wm_gym.evaluation.probes.rollouts import (
    Tick,
    draw_starts,
    start_at,
    walk_poses,
    walking_clips,
)
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.world_model import WorldModel

_GATE_WALK = 2000  # number of the held-out walk that gates are watched on


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        starts: Starts of the persistence and novel-control probes, clips of the horizon.
        pose_clips: Clips of each kind whose poses are estimated.
        holds: Chunks of looking away.
        gate_chunks: Length of the walk that gates are watched on.
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


QUICK = Sizes(
    starts=1,
    pose_clips=1,
    holds=(1, 2),
    gate_chunks=4,
    ablation_chunks=2,
    horizon_chunks=1,
    novel_chunks=1,
)


@dataclass(frozen=True)
class Probe:
    """One measurement: how many ticks it takes, and how it is made."""

    ticks: Callable[[WorldModel[Any], Sizes], int]
    measure: Callable[[WorldModel[Any], Sizes, int, Tick], Result]


def _persistence(world: WorldModel[Any], sizes: Sizes, seed: int, tick: Tick) -> Result:
    starts = draw_starts(world, sizes.starts, seed)
    return persistence.measure(world, starts, seed, tick, sizes.holds)


def _gates(world: WorldModel[Any], sizes: Sizes, seed: int, tick: Tick) -> Result:
    if not isinstance(world, SanaWorld):
        raise gates.NoNetworkError(world.spec.name)
    scene = world.spec.scenes[0]
    walk = walk_poses(world.spec, scene, _GATE_WALK, sizes.gate_chunks)
    start = start_at(world.spec, scene, walk[0])
    return gates.measure(world, start, relative_to_first(walk), sizes.ablation_chunks, seed, tick)


def _gate_ticks(world: WorldModel[Any], sizes: Sizes) -> int:
    short = min(sizes.ablation_chunks, sizes.gate_chunks)
    return sizes.gate_chunks + 3 * short if isinstance(world, SanaWorld) else 0


def _horizon(world: WorldModel[Any], sizes: Sizes, seed: int, tick: Tick) -> Result:
    clips = walking_clips(world.spec, sizes.starts, sizes.horizon_chunks)
    estimator = LKBundleAdjustment()
    return horizon.measure(horizon.variants(world), clips, sizes.pose_clips, estimator, seed, tick)


def _novel(world: WorldModel[Any], sizes: Sizes, seed: int, tick: Tick) -> Result:
    walks = walking_clips(world.spec, sizes.starts, sizes.novel_chunks)
    starts = draw_starts(world, sizes.starts, seed)
    estimator = LKBundleAdjustment()
    return novel_control.measure(world, walks, starts, sizes.pose_clips, estimator, seed, tick)


PROBES = {
    "persistence": Probe(
        lambda world, s: persistence.chunks_of_work(world.spec, s.starts, s.holds), _persistence
    ),
    "gates": Probe(_gate_ticks, _gates),
    "horizon": Probe(
        lambda world, s: horizon.work(
            s.starts,
            s.horizon_chunks,
            s.pose_clips,
            len(horizon.variants(world)),
            world.spec.fps,
        ),
        _horizon,
    ),
    "novel": Probe(
        lambda world, s: novel_control.work(s.starts, s.starts, s.novel_chunks, s.pose_clips),
        _novel,
    ),
}


def find_world(name: str) -> WorldModel[Any]:
    """A world of the catalogue, or the one in a world file.

    Raises:
        ValueError: There is none of this name, or the file is damaged.
        FileNotFoundError: There is no such file.
    """
    if name.endswith(".safetensors"):
        return world_of(read_world_file(Path(name)))
    return load_world(name)


def probe(options: argparse.Namespace, console: Console) -> None:
    """Run the chosen probes one by one; what is done is written before the next begins."""
    world = find_world(options.world)
    sizes = QUICK if options.quick else Sizes()
    for name in options.probe:
        chosen = PROBES[name]
        try:
            with progress(console) as bar:
                task = bar.add_task(name, total=chosen.ticks(world, sizes))

                def tick(done: int, bar: Any = bar, task: Any = task) -> None:
                    bar.advance(task, done)

                result = chosen.measure(world, sizes, options.seed, tick)
        except gates.NoNetworkError as reason:
            console.print(f"{name}: not measured, {reason}")
            continue
        source = {**provenance("benchmarks.trust_probes"), "seed": options.seed}
        text = markdown(result)
        write_json(
            options.out / f"{name}.json",
            {**source, "world": options.world, "sizes": asdict(sizes), "result": asdict(result)},
        )
        taken = f"`{source['command']}`, commit {source['commit'][:12]}, {source['date']}, "
        write_text(options.out / f"{name}.md", f"{text}\n\n{taken}{source['device']}.\n")
        draw(result, options.out / f"{name}.png")
        console.print(text, markup=False, highlight=False, soft_wrap=True)
        console.print(f"wrote {name}.json, {name}.md and {name}.png to {options.out}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.trust_probes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--world", default="tiny", help="name of a world, or a world file (tiny)")
    parser.add_argument(
        "--probe", nargs="+", choices=tuple(PROBES), default=tuple(PROBES), help="which (all)"
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/probes"), help="folder")
    parser.add_argument("--seed", type=int, default=0, help="source of starts and noise (0)")
    parser.add_argument("--quick", action="store_true", help="a few chunks, to see that it runs")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # small networks: one thread is faster than threads that wait
    try:
        probe(options, Console())
    except (FileNotFoundError, ModuleNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
