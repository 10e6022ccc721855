"""How fast does a world step on one core, where does the time go, and does memory stay put?

One environment step is one chunk: for SANA-WM's worlds 24 decoded frames, 1.5 seconds of video.

  cold start   a new process up to its first chunk, part by part
  batches      N independent worlds in one call, with and without decoding
  phases       where a step's time goes: cameras, denoising, the clean pass if any, decoding
  memory       size of a state and of the process, from chunk 4 to the last
  tiers        the environment alone; with a policy that acts; with a policy that learns

    python -m benchmarks.env_step                        # both worlds, 40 chunks
    python -m benchmarks.env_step --chunks 400           # memory over ten minutes of video
    python -m benchmarks.env_step --worlds procedural --batches 1

Writes OUT and a csv file per table next to it. Worlds take turns in short rounds, so that whatever
else the machine does meets all alike; rates are medians over rounds. Rates by CPU time leave out
the time in which another process had the core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.step_timing import WARM_UP, Rollouts, Stopwatch, phases_of, state_bytes
from sana_wm_gym import ENV_ID, memory
from sana_wm_gym.files import sha256, write_json, write_text
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.weights.world_file import EMBEDDED
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import WorldModel

Rows = list[dict[str, Any]]
Worlds = Mapping[str, WorldModel[Any]]

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


def batches(worlds: Worlds, sizes: Sequence[int], steps: int, rounds: int, bar: Progress) -> Rows:
    """Steps per second of N worlds in one call: median over rounds, worlds in turn."""
    rows = []
    task = bar.add_task("batches", total=len(sizes) * rounds * len(worlds))
    for count in sizes:
        running = {name: Rollouts.of(world, count, seed=0) for name, world in worlds.items()}
        rates = defaultdict(list)
        for _ in range(rounds):
            for name, rollouts in running.items():
                rollouts.step(steps)
                step, pixels = rollouts.stepping, rollouts.decoding
                seconds = (step.wall + pixels.wall, step.cpu + pixels.cpu, step.cpu)
                rates[name].append(count * steps / np.array(seconds))
                bar.advance(task)
        reference = np.array(next(iter(rates.values())))
        for name, values in rates.items():
            decoded, by_cpu, latents = np.median(values, axis=0).tolist()
            rows.append(
                {
                    "world": name,
                    "batch": count,
                    "steps_per_s": decoded,
                    "steps_per_cpu_s": by_cpu,
                    "frames_per_cpu_s": worlds[name].spec.frames_per_chunk * by_cpu,
                    "undecoded_steps_per_cpu_s": latents,
                    # Round by round, so that both worlds saw the same machine.
                    "ratio_to_first_world": float(np.median((values / reference)[:, 1])),
                }
            )
    return rows


def memory_of(world: WorldModel[Any], chunks: int, bar: Progress) -> Rows:
    """Size of a state and of the process after chunk 4, and at ten points up to the last."""
    task = bar.add_task("memory", total=chunks)
    rollouts = Rollouts.of(world, 1, seed=0)
    rows = []
    for mark in sorted({*np.linspace(WARM_UP, chunks, 10).round().astype(int).tolist()}):
        rollouts.step(mark - rollouts.chunk)
        bar.update(task, completed=mark)
        rows.append(
            {
                "chunk": mark,
                "state_bytes": state_bytes(world, rollouts.states[0]),
                "resident_mb": memory.resident() / 1e6,
                "peak_mb": memory.peak_resident() / 1e6,
            }
        )
    return rows


def tiers(worlds: Worlds, steps: int, rounds: int, bar: Progress) -> Rows:
    """Steps per second of one environment, worlds and tiers in turn; median over rounds. The policy
    is PPO's convolutional one, as stable-baselines3 makes it.

    Raises:
        ImportError: stable-baselines3 is missing.
    """
    try:
        from stable_baselines3 import PPO
    except ModuleNotFoundError as error:
        raise ImportError("env_step needs pip install sana_wm_gym[agents]") from error
    count = max(steps, 2)  # of one update

    def learner(world: WorldModel[Any]) -> PPO:
        env = gym.make(ENV_ID, world=world, observation=("frame",))
        return PPO(
            "CnnPolicy", env, n_steps=count, batch_size=count, n_epochs=4, seed=0, device="cpu"
        )

    def act(ppo: PPO, policy: bool) -> None:
        env: Any = ppo.get_env()
        seen = env.reset()
        for _ in range(count):
            action = ppo.predict(seen)[0] if policy else np.array([env.action_space.sample()])
            seen, *_ = env.step(action)

    takers: dict[str, Callable[[PPO], object]] = {
        "environment": lambda ppo: act(ppo, policy=False),
        "with inference": lambda ppo: act(ppo, policy=True),
        "with training": lambda ppo: ppo.learn(count, reset_num_timesteps=False),
    }
    agents = {name: learner(world) for name, world in worlds.items()}
    rates = defaultdict(list)
    task = bar.add_task("tiers", total=len(agents) * len(takers) * rounds)
    for _ in range(rounds):
        for name, ppo in agents.items():
            for tier, take in takers.items():
                watch = Stopwatch()
                with watch.running():
                    take(ppo)
                rates[name, tier].append((count / watch.wall, count / watch.cpu))
                bar.advance(task)
    rows = []
    for (name, tier), values in rates.items():
        wall, cpu = np.median(values, axis=0).tolist()
        rows.append({"world": name, "tier": tier, "steps_per_s": wall, "steps_per_cpu_s": cpu})
    return rows


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything the command line asks for."""
    weights = options.weights.resolve() if "tiny" in options.worlds else None
    names = {name: str(weights) if name == "tiny" else name for name in options.worlds}
    worlds = {name: load_world(source) for name, source in names.items()}
    steps, rounds = options.steps, options.rounds
    with progress(console) as bar:
        return {
            **provenance("benchmarks.env_step"),
            "weights": weights and {"name": weights.name, "sha256": sha256(weights)},
            "steps_per_round": steps,
            "rounds": rounds,
            "cold_start_s": {name: cold_start(source) for name, source in names.items()},
            "memory": {n: memory_of(world, options.chunks, bar) for n, world in worlds.items()},
            "tiers": tiers(worlds, steps, rounds, bar),
            "batches": batches(worlds, options.batches, steps, rounds, bar),
            "phases": [
                {"world": name, "batch": n, "cpu_ms": phases_of(world, n, steps, seed=0)}
                for name, world in worlds.items()
                if isinstance(world, SanaWorld)
                for n in sorted({min(options.batches), max(options.batches)})
            ],
        }


def tables_of(result: dict[str, Any]) -> dict[str, Table]:
    """The result's tables by name."""
    phases = [
        {"world": row["world"], "batch": row["batch"], **row["cpu_ms"]} for row in result["phases"]
    ]
    memories = [{"world": n, **row} for n, rows in result["memory"].items() for row in rows]
    starts = [{"world": name, **parts} for name, parts in result["cold_start_s"].items()]
    return {
        "tiers": Table.of("Tiers, one environment", result["tiers"]),
        "batches": Table.of("Batches", result["batches"]),
        "phases": Table.of("Phases of a step, ms of CPU time", phases, digits=1),
        "memory": Table.of("Memory, one rollout", memories, digits=0),
        "cold_start": Table.of("Cold start, s", starts),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.env_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known, weights = ("tiny", "procedural"), EMBEDDED / "tiny.safetensors"
    add = parser.add_argument
    add("--worlds", nargs="+", choices=known, default=known, help="which worlds")
    add("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="sizes N")
    add("--steps", type=int, default=5, help="chunks per round (5)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--chunks", type=int, default=40, help="chunks to watch memory for (40)")
    add("--weights", type=Path, default=weights, help="world file behind 'tiny' (the package's)")
    add("--out", type=Path, default=Path("outputs/env_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if min(*options.batches, options.steps, options.rounds) < 1 or options.chunks <= WARM_UP:
        parser.error(f"batches, steps and rounds are at least 1, chunks more than {WARM_UP}")
    torch.set_num_threads(1)
    console = Console()
    try:
        result = measure(options, console)
    except (FileNotFoundError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_json(options.out, result)
    for name, table in tables_of(result).items():
        if table.rows:  # worlds without a network have no phases
            table.print(console)
            write_text(options.out.with_name(f"{options.out.stem}_{name}.csv"), table.csv())
    console.print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
