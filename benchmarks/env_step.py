"""How fast does a world step on one core, where does the time go, and does memory grow?

One environment step is one chunk: for SANA-WM's worlds 24 decoded frames, 1.5 seconds of video.

  cold start   a new process up to its first chunk, part by part
  tiers        the environment alone; with a policy that acts; with a policy that learns
  phases       CPU time of a step, alone and in a batch of 16: cameras and noise, denoising, the
               clean pass if any, decoding
  memory       size of a state and of the process, from chunk 4 to the last

    python -m benchmarks.env_step                        # both worlds, 40 chunks
    python -m benchmarks.env_step --chunks 400           # memory over ten minutes of video
    python -m benchmarks.env_step --worlds procedural

Writes OUT and a csv file per table next to it. Worlds alternate in short rounds, so that other
work on the machine affects all alike; rates are medians over rounds. Rates by CPU time leave out
the time in which another process had the core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console

from benchmarks.report import parser_of, write_report
from benchmarks.step_timing import WARM_UP, Stepper, Stopwatch, phases_of
from sana_wm_gym import ENV_ID, memory
from sana_wm_gym.extras import message_of
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import WorldModel

BATCHES = (1, 16)
TIERS = ("environment", "with inference", "with training")
STEPS = 5
"""Per round, and per update of the policy that learns."""

COLD_START = """
import json, sys, time
marks = [time.perf_counter()]
mark = lambda: marks.append(time.perf_counter())
import gymnasium, torch
from sana_wm_gym import ENV_ID
from sana_wm_gym.world.catalogue import load_world
torch.set_num_threads(1)
mark()
world = load_world(sys.argv[1])
mark()
env = gymnasium.make(ENV_ID, world=world)
env.reset(seed=0)
mark()
env.step(env.action_space.sample())
mark()
parts = ("imports", "weights", "first reset", "first step")
print(json.dumps(dict(zip(parts, (b - a for a, b in zip(marks, marks[1:]))))))
"""
"""A program that times a new process's first chunk, part by part."""


def memory_of(name: str, world: WorldModel[Any], chunks: int) -> Iterator[dict[str, Any]]:
    """Size of a state and of the process after chunk 4, and at ten points up to the last."""
    stepper = Stepper(world, 1)
    marks = set(np.linspace(WARM_UP, chunks, 10).round())
    while True:
        if stepper.chunk in marks:
            yield {
                "world": name,
                "chunk": stepper.chunk,
                "state_bytes": stepper.state_bytes(),
                "resident_mb": memory.resident() / 1e6,
                "peak_mb": memory.peak_resident() / 1e6,
            }
        if stepper.chunk == chunks:
            return
        stepper.step()


def tiers(worlds: Mapping[str, WorldModel[Any]], rounds: int) -> list[dict[str, Any]]:
    """Steps per second of one environment, worlds and tiers in turn; median over rounds. The policy
    is PPO's convolutional one, as stable-baselines3 makes it."""
    from stable_baselines3 import PPO

    def learner(world: WorldModel[Any]) -> PPO:
        env = gym.make(ENV_ID, world=world, observation=("frame",))
        sizes: Any = {"n_steps": STEPS, "batch_size": STEPS, "n_epochs": 4}
        return PPO("CnnPolicy", env, **sizes, seed=0, device="cpu")

    def act(ppo: PPO, policy: bool) -> None:
        env: Any = ppo.get_env()
        seen = env.reset()
        for _ in range(STEPS):
            action = ppo.predict(seen)[0] if policy else np.array([env.action_space.sample()])
            seen, *_ = env.step(action)

    agents = {name: learner(world) for name, world in worlds.items()}
    rates = defaultdict(list)
    for _ in range(rounds):
        for (name, ppo), tier in product(agents.items(), TIERS):
            watch = Stopwatch()
            with watch.running():
                if tier == "with training":
                    ppo.learn(STEPS, reset_num_timesteps=False)
                else:
                    act(ppo, policy=tier == "with inference")
            rates[name, tier].append((STEPS / watch.wall, STEPS / watch.cpu))
    heads = ("world", "tier", "steps_per_s", "steps_per_cpu_s")
    medians = {key: np.median(values, axis=0).tolist() for key, values in rates.items()}
    return [dict(zip(heads, (*key, *value), strict=True)) for key, value in medians.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.env_step", __doc__)
    add = parser.add_argument
    add("--worlds", nargs="+", default=["tiny", "procedural"], help="names or world files")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--chunks", type=int, default=40, help="chunks to watch memory for (40)")
    add("--out", type=Path, default=Path("outputs/env_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if options.rounds < 1 or options.chunks <= WARM_UP:
        parser.error(f"expected --rounds of at least 1 and --chunks of more than {WARM_UP}")
    torch.set_num_threads(1)
    try:
        worlds = {name: load_world(name) for name in options.worlds}
        watched = [memory_of(name, world, options.chunks) for name, world in worlds.items()]
        learned = {name: w for name, w in worlds.items() if isinstance(w, SanaWorld)}
        phases = [
            {"world": name, "batch": count, **phases_of(learned[name], count, STEPS)}
            for name, count in product(learned, BATCHES)
        ]
        program = [sys.executable, "-c", COLD_START]
        started = {name: json.loads(subprocess.check_output([*program, name])) for name in worlds}
        result = {
            "memory": list(chain(*watched)),
            "cold_start": [{"world": name, **seconds} for name, seconds in started.items()],
            "tiers": tiers(worlds, options.rounds),
            "phases": phases,
        }
    except (FileNotFoundError, ImportError, ValueError) as error:
        parser.error(message_of(error, "agents"))
    about = {**provenance("benchmarks.env_step"), "rounds": options.rounds, "steps": STEPS}
    heads = {
        "tiers": ("Tiers, one environment", 2),
        "phases": ("Phases of a step, ms of CPU time", 1),
        "memory": ("Memory, one rollout", 0),
        "cold_start": ("Cold start, s", 2),
    }
    tables = {
        name: Table.of(title, result[name], digits) for name, (title, digits) in heads.items()
    }
    write_report(options.out, about | result, tables, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
