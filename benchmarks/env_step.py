"""How fast does a world step on one core, where does the time go, and does memory stay put?

One environment step is one chunk: 24 decoded frames, 1.5 seconds of video.

  cold start   a new process up to its first chunk, part by part
  batches      N independent worlds in one call, with and without decoding
  phases       where a step's time goes: cameras, denoising, the clean pass if any, decoding
  memory       size of a state and of the process, from chunk 4 to the last
  tiers        the environment alone; with a policy that acts; with a policy that learns

    python -m benchmarks.env_step                        # both worlds, 40 chunks
    python -m benchmarks.env_step --chunks 400           # memory over ten minutes of video
    python -m benchmarks.env_step --worlds procedural --batches 1
    python -m benchmarks.env_step --page docs/performance.md      # also renew the page's tables

Worlds take turns in short rounds, so that whatever else the machine does meets all alike; rates
are medians over rounds. Rates by processor time stand beside those by the clock: they leave out
the time in which another process had the core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.report import peak_memory_mb, progress, resident_mb
from benchmarks.step_tables import renew_page, show
from benchmarks.step_timing import (
    TIERS,
    WARM_UP,
    Agent,
    Rollouts,
    Stopwatch,
    phases_of,
    state_bytes,
)
from sana_wm_gym import ENV_ID
from sana_wm_gym.files import sha256, write_json
from sana_wm_gym.provenance import provenance
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldModel

Result = dict[str, Any]
Worlds = Mapping[str, WorldModel[Any]]

# Runs in a process of its own; prints seconds.
_COLD_START = """
import json, sys, time
began = time.perf_counter()
import gymnasium, torch
from sana_wm_gym import ENV_ID
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.learned.world_files import world_of, read_world_file
from pathlib import Path
torch.set_num_threads(1)
imported = time.perf_counter()
learned = sys.argv[1]
world = world_of(read_world_file(Path(learned))) if learned else ProceduralWorld()
loaded = time.perf_counter()
env = gymnasium.make(ENV_ID, world=world)
env.reset(seed=0)
ready = time.perf_counter()
env.step(env.action_space.sample())
done = time.perf_counter()
print(json.dumps({"imports": imported - began, "weights": loaded - imported,
                  "first reset": ready - loaded, "first step": done - ready}))
"""


def cold_start(weights: Path | None) -> dict[str, float]:
    """Seconds of each part of a new process's way to its first chunk."""
    command = [sys.executable, "-c", _COLD_START, str(weights.resolve()) if weights else ""]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    seconds: dict[str, float] = json.loads(done.stdout)
    return seconds


def batches(
    worlds: Worlds, sizes: Sequence[int], steps: int, rounds: int, bar: Progress
) -> list[Result]:
    """Steps per second of N worlds in one call: median over rounds, worlds in turn."""
    rows = []
    task = bar.add_task("batches", total=len(sizes) * rounds * len(worlds))
    for count in sizes:
        running = {name: Rollouts.of(world, count, seed=0) for name, world in worlds.items()}
        rates: dict[str, list[list[float]]] = {name: [] for name in worlds}
        for _ in range(rounds):
            for name, rollouts in running.items():
                rollouts.stepping, rollouts.decoding = Stopwatch(), Stopwatch()
                rollouts.step(steps)
                step, pixels = rollouts.stepping, rollouts.decoding
                made = count * steps
                rates[name].append(
                    [
                        made / (step.wall + pixels.wall),
                        made / (step.processor + pixels.processor),
                        made / step.processor,
                    ]
                )
                bar.advance(task)
        reference = [rate[1] for rate in next(iter(rates.values()))]
        for name, values in rates.items():
            decoded, by_processor, latents = np.median(values, axis=0)
            rows.append(
                {
                    "world": name,
                    "batch": count,
                    "steps_per_s": decoded,
                    "steps_per_cpu_s": by_processor,
                    "frames_per_cpu_s": CHUNK_FRAMES * by_processor,
                    "undecoded_steps_per_cpu_s": latents,
                    # Round by round, so that both worlds saw the same machine.
                    "ratio_to_first_world": float(
                        np.median([rate[1] for rate in values] / np.array(reference))
                    ),
                }
            )
    return rows


def memory(world: WorldModel[Any], chunks: int, bar: Progress) -> list[Result]:
    """Size of a state and of the process after chunk 4, and at ten points up to the last."""
    task = bar.add_task("memory", total=chunks)
    rollouts = Rollouts.of(world, 1, seed=0)
    bar.advance(task, WARM_UP)
    rows = []
    for mark in sorted({*np.linspace(WARM_UP, chunks, 10).round().astype(int).tolist()}):
        made = mark - rollouts.chunk
        rollouts.step(made)
        bar.advance(task, made)
        rows.append(
            {
                "chunk": mark,
                "state_bytes": state_bytes(world, rollouts.states[0]),
                "resident_mb": resident_mb(),
                "peak_mb": peak_memory_mb(),
            }
        )
    return rows


def tiers(worlds: Worlds, steps: int, rounds: int, bar: Progress) -> list[Result]:
    """Steps per second of the environment, worlds and tiers in turn; median over rounds."""
    agents = {
        (name, tier): Agent(gym.make(ENV_ID, world=world, observation=("frames",)), tier, seed=0)
        for name, world in worlds.items()
        for tier in TIERS
    }
    rates: dict[tuple[str, str], list[list[float]]] = {key: [] for key in agents}
    task = bar.add_task("tiers", total=len(agents) * rounds)
    for _ in range(rounds):
        for key, agent in agents.items():
            watch = Stopwatch()
            with watch.running():
                for _ in range(steps):
                    agent.step()
            rates[key].append([steps / watch.wall, steps / watch.processor])
            bar.advance(task)
    rows = []
    for (name, tier), values in rates.items():
        wall, processor = np.median(values, axis=0)
        rows.append(
            {"world": name, "tier": tier, "steps_per_s": wall, "steps_per_cpu_s": processor}
        )
    return rows


def measure(options: argparse.Namespace, console: Console) -> Result:
    """Everything the command line asks for."""
    paths = {name: options.weights if name == "tiny" else None for name in options.worlds}
    worlds: dict[str, WorldModel[Any]] = {
        name: ProceduralWorld() if path is None else world_of(read_world_file(path))
        for name, path in paths.items()
    }
    weights = paths.get("tiny")
    result: Result = provenance("benchmarks.env_step")
    result["weights"] = weights and {"name": weights.name, "sha256": sha256(weights)}
    result["steps_per_round"], result["rounds"] = options.steps, options.rounds
    with progress(console) as bar:
        result["cold_start_s"] = {name: cold_start(path) for name, path in paths.items()}
        result["memory"] = {
            name: memory(world, options.chunks, bar) for name, world in worlds.items()
        }
        result["tiers"] = tiers(worlds, options.steps, options.rounds, bar)
        result["batches"] = batches(worlds, options.batches, options.steps, options.rounds, bar)
        result["phases"] = [
            {"world": name, "batch": n, "cpu_ms": phases_of(world, n, options.steps, seed=0)}
            for name, world in worlds.items()
            if isinstance(world, SanaWorld)
            for n in sorted({min(options.batches), max(options.batches)})
        ]
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.env_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ("tiny", "procedural")
    parser.add_argument("--worlds", nargs="+", choices=known, default=known, help="which worlds")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="sizes N")
    parser.add_argument("--steps", type=int, default=5, help="chunks per round (5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds per rate (3)")
    parser.add_argument("--chunks", type=int, default=40, help="chunks to watch memory for (40)")
    parser.add_argument(
        "--weights",
        type=Path,
        default=EMBEDDED / "tiny.safetensors",
        help="world file behind 'tiny'; by default the one in the package",
    )
    parser.add_argument("--out", type=Path, default=Path("outputs/env_step.json"), help="json file")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are replaced")
    options = parser.parse_args(arguments)
    if options.page is not None and not options.page.is_file():
        parser.error(f"no page at {options.page}")
    if min(*options.batches, options.steps, options.rounds) < 1 or options.chunks <= WARM_UP:
        parser.error(f"batches, steps and rounds are at least 1, chunks more than {WARM_UP}")
    torch.set_num_threads(1)
    console = Console()
    try:
        result = measure(options, console)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    show(result, console)
    write_json(options.out, result)
    if options.page is not None:
        renew_page(options.page, result)
    console.print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
