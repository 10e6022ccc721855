"""How long does an environment take to start, and does its memory stay put?

  cold start   a new process up to its first chunk, part by part
  memory       size of a state and of the process, from chunk 4 to the last

    python -m benchmarks.footprint                       # both worlds, 40 chunks: a minute of video
    python -m benchmarks.footprint --chunks 400          # ten minutes

Writes OUT and a csv file per table next to it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.report import parser_of, write_report
from benchmarks.step_timing import WARM_UP, Rollouts, state_bytes
from sana_wm_gym import memory
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.world.catalogue import load_world

Rows = list[dict[str, Any]]

# Runs in a process of its own; prints seconds.
_COLD_START = """
import json, sys, time
began = time.perf_counter()
import gymnasium, torch
from sana_wm_gym import ENV_ID
from sana_wm_gym.world.catalogue import load_world
torch.set_num_threads(1)
imported = time.perf_counter()
world = load_world(sys.argv[1])
loaded = time.perf_counter()
env = gymnasium.make(ENV_ID, world=world)
env.reset(seed=0)
ready = time.perf_counter()
env.step(env.action_space.sample())
done = time.perf_counter()
print(json.dumps({"imports": imported - began, "weights": loaded - imported,
                  "first reset": ready - loaded, "first step": done - ready}))
"""


def cold_start(world: str) -> dict[str, float]:
    """Seconds of each part of a new process's way to its first chunk."""
    command = [sys.executable, "-c", _COLD_START, world]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def memory_of(name: str, chunks: int, bar: Progress) -> Rows:
    """Size of a state and of the process after chunk 4, and at ten points up to the last."""
    world = load_world(name)
    task = bar.add_task("memory", total=chunks)
    rollouts = Rollouts.of(world, 1, seed=0)
    rows = []
    for mark in sorted({*np.linspace(WARM_UP, chunks, 10).round().astype(int).tolist()}):
        rollouts.step(mark - rollouts.chunk)
        bar.update(task, completed=mark)
        rows.append(
            {
                "world": name,
                "chunk": mark,
                "state_bytes": state_bytes(world, rollouts.states[0]),
                "resident_mb": memory.resident() / 1e6,
                "peak_mb": memory.peak_resident() / 1e6,
            }
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.footprint", __doc__)
    add, default = parser.add_argument, ["tiny", "procedural"]
    add("--worlds", nargs="+", default=default, help="names, or world files (tiny procedural)")
    add("--chunks", type=int, default=40, help="chunks to watch memory for (40)")
    add("--out", type=Path, default=Path("outputs/footprint.json"), help="json file")
    options = parser.parse_args(arguments)
    if options.chunks <= WARM_UP:
        parser.error(f"chunks are more than {WARM_UP}")
    torch.set_num_threads(1)
    console = Console()
    try:
        with progress(console) as bar:
            result: dict[str, Any] = {
                **provenance("benchmarks.footprint"),
                "memory": [
                    row for name in options.worlds for row in memory_of(name, options.chunks, bar)
                ],
                "cold_start_s": [
                    {"world": name, **cold_start(name)}
                    for name in bar.track(options.worlds, description="cold start")
                ],
            }
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables = {
        "memory": Table.of("Memory, one rollout", result["memory"], digits=0),
        "cold_start": Table.of("Cold start, s", result["cold_start_s"]),
    }
    write_report(options.out, result, tables, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
