"""How fast does a world step on one core, and where does the time go?

One environment step is one chunk: for SANA-WM's worlds 24 decoded frames, 1.5 seconds of video.

  batches      N independent worlds in one call, with and without decoding
  phases       where a step's time goes: cameras, denoising, the clean pass if any, decoding
  tiers        the environment alone; with a policy that acts; with a policy that learns

    python -m benchmarks.env_step                        # both worlds
    python -m benchmarks.env_step --worlds procedural --batches 1

Writes OUT and a csv file per table next to it. Worlds take turns in short rounds, so that whatever
else the machine does meets all alike; rates are medians over rounds. Rates by CPU time leave out
the time in which another process had the core.
"""

from __future__ import annotations

import argparse
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

from benchmarks.report import parser_of, write_report
from benchmarks.step_timing import Rollouts, Stopwatch, phases_of
from sana_wm_gym import ENV_ID
from sana_wm_gym.files import sha256
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.weights.world_file import EMBEDDED
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import WorldModel

Rows = list[dict[str, Any]]
Worlds = Mapping[str, WorldModel[Any]]


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


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything the command line asks for."""
    paths = {"tiny": str(options.weights.resolve())}
    worlds = {name: load_world(paths.get(name, name)) for name in options.worlds}
    steps, rounds = options.steps, options.rounds
    with progress(Console()) as bar:
        return {
            **provenance("benchmarks.env_step"),
            "weights": "tiny" in worlds and sha256(options.weights),
            "steps_per_round": steps,
            "rounds": rounds,
            "tiers": tiers(worlds, steps, rounds, bar),
            "batches": batches(worlds, options.batches, steps, rounds, bar),
            "phases": [
                {"world": name, "batch": n, **phases_of(world, n, steps, seed=0)}
                for name, world in worlds.items()
                if isinstance(world, SanaWorld)
                for n in sorted({min(options.batches), max(options.batches)})
            ],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.env_step", __doc__)
    known, weights = ("tiny", "procedural"), EMBEDDED / "tiny.safetensors"
    add = parser.add_argument
    add("--worlds", nargs="+", choices=known, default=known, help="which worlds")
    add("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="sizes N")
    add("--steps", type=int, default=5, help="chunks per round (5)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--weights", type=Path, default=weights, help="world file behind 'tiny' (the package's)")
    add("--out", type=Path, default=Path("outputs/env_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if min(*options.batches, options.steps, options.rounds) < 1:
        parser.error("batches, steps and rounds are at least 1")
    torch.set_num_threads(1)
    try:
        result = measure(options)
    except (FileNotFoundError, ImportError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables = {
        "tiers": Table.of("Tiers, one environment", result["tiers"]),
        "batches": Table.of("Batches", result["batches"]),
        "phases": Table.of("Phases of a step, ms of CPU time", result["phases"], digits=1),
    }
    write_report(options.out, result, tables, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
