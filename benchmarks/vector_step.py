"""How much faster do N worlds step in one batch than N environments one after the other?

  batch        `SanaWMVectorEnv` of N sub-environments: one network, one forward pass
  one by one   N `SanaWMEnv` in the same process, stepped in turn
  processes    stable-baselines3's `SubprocVecEnv` of N `SanaWMEnv`, one thread and one copy of
               the network each

    python -m benchmarks.vector_step                             # minutes on two cores
    python -m benchmarks.vector_step --worlds tiny --sizes 1 16 --processes

Writes OUT and a csv file per table next to it. Every batch size is measured with four kinds of
observation: the last frame of every chunk, which is what policies see; all frames of every chunk;
latents, and the frames of every k-th chunk; latents alone. Batch and one-by-one alternate in short
rounds on the same threads, so that other work on the machine affects both alike; rates are medians
over rounds, and ratios are taken round by round. One by one is measured with one thread and with
all of torch's, and the faster of the two is what the batch is compared with.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console

from benchmarks.report import parser_of, write_report
from benchmarks.step_timing import NO_LIMIT, WARM_UP, Stepper, gentle_action
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.extras import message_of
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table
from sana_wm_gym.world.catalogue import load_world

Row = dict[str, Any]

EVERY = 4
"""Of "every k-th chunk's frames"."""
KINDS = {
    "last frames": ("frame", 0),
    "all frames": ("frames", 0),
    f"latents, every {EVERY}th chunk's frames": ("latent", EVERY),
    "latents": ("latent", 0),
}
"""What is observed, and chunks between those whose frames are also rendered (0: never)."""
MOST_PROCESSES = 16


def kinds_of(world: str) -> list[str]:
    """Kinds of observation that a world has."""
    latents = load_world(world).spec.latent_shape is not None
    return [kind for kind, (part, _) in KINDS.items() if latents or part != "latent"]


def rate(step: Callable[[], None], made: int, seconds: float) -> float:
    """Environment steps per second, of calls that make `made` each, over at least `seconds`."""
    began, calls = time.perf_counter(), 0
    while True:
        step()
        calls += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return made * calls / elapsed


def compare(world: str, kind: str, count: int, seconds: float, rounds: int) -> Row:
    """Batch and one by one, in turn."""
    part, every = KINDS[kind]
    batch, singles = (
        Stepper(world, count, batch=batch, observation=part, render_every=every)
        for batch in (True, False)
    )
    threads = torch.get_num_threads()
    turns = {"batch": (batch, threads), "one": (singles, 1), "all": (singles, threads)}
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, (stepper, used) in turns.items():
            torch.set_num_threads(used)
            rates[name].append(rate(stepper.step, count, seconds))
    torch.set_num_threads(threads)
    best = max(("one", "all"), key=lambda name: float(np.median(rates[name])))
    return {
        "world": world,
        "observation": kind,
        "batch": count,
        "batch_steps_per_s": float(np.median(rates["batch"])),
        "one_by_one_steps_per_s": float(np.median(rates[best])),
        "one_by_one_threads": turns[best][1],
        "ratio": float(np.median(np.array(rates["batch"]) / np.array(rates[best]))),
    }


def _single(world: str) -> SanaWMEnv:
    """An environment in a process of its own; made there, because a network does not survive a
    fork."""
    torch.set_num_threads(1)
    return SanaWMEnv(world, max_episode_steps=NO_LIMIT)


def measure_processes(world: str, count: int, seconds: float, rounds: int) -> Row:
    """stable-baselines3's processes, and the memory that each holds for itself."""
    from stable_baselines3.common.vec_env import SubprocVecEnv

    began = time.perf_counter()
    makers: list[Any] = [partial(_single, world)] * count
    envs = SubprocVecEnv(makers, start_method="spawn")
    try:
        envs.seed(0)
        envs.reset()
        started = time.perf_counter() - began
        actions = [np.tile(gentle_action(chunk), (count, 1)) for chunk in range(2)]

        def step() -> None:
            actions.reverse()
            envs.step(actions[-1])

        for _ in range(WARM_UP):
            step()
        rates = [rate(step, count, seconds) for _ in range(rounds)]
        held = [psutil.Process(p.pid).memory_full_info().uss for p in envs.processes]
    finally:
        envs.close()
    speed, megabytes = float(np.median(rates)), sum(held) / 1e6
    row: Row = {"world": world, "processes": count, "steps_per_s": speed}
    return row | {"start_s": started, "memory_mb": megabytes}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.vector_step", __doc__)
    add = parser.add_argument
    add("--worlds", nargs="+", default=["tiny", "tiny-bf16"], help="names or world files")
    add("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="sub-environments N")
    add("--seconds", type=float, default=2.0, help="length of a round at least (2)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    processes = f"also measure SubprocVecEnv, of at most {MOST_PROCESSES} processes"
    add("--processes", action="store_true", help=processes)
    add("--out", type=Path, default=Path("outputs/vector_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if min(*options.sizes, options.rounds) < 1 or options.seconds < 0:
        parser.error("expected --sizes and --rounds of at least 1 and --seconds of at least 0")
    worlds = options.worlds
    sizes = [n for n in options.sizes if options.processes and n <= MOST_PROCESSES]
    try:
        cases = [(w, kind, n) for w in worlds for kind in kinds_of(w) for n in options.sizes]
        result = {
            "batches": [compare(*case, options.seconds, options.rounds) for case in cases],
            "processes": [
                measure_processes(w, n, options.seconds, options.rounds)
                for w, n in product(worlds, sizes)
            ],
            "states": [{"world": w, "kB": Stepper(w, 1).state_bytes() / 1000} for w in worlds],
        }
    except (ImportError, FileNotFoundError, ValueError) as error:
        parser.error(message_of(error, "agents"))
    about = {**provenance("benchmarks.vector_step"), "threads": torch.get_num_threads()}
    titles = {
        "batches": "Batch against one by one",
        "processes": "A process per environment (SubprocVecEnv)",
        "states": "State of one world in a batch",
    }
    tables = {name: Table.of(title, result[name]) for name, title in titles.items()}
    write_report(options.out, about | result, tables, Console())
    return 0


if __name__ == "__main__":
    sys.exit(main())
