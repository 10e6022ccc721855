"""What do N environments in processes of their own reach, and what memory do they hold?

stable-baselines3's `SubprocVecEnv` of N `SanaWMEnv`, one thread and one copy of the network each;
`benchmarks.vector_step` measures the batch that takes their place.

    python -m benchmarks.process_step --worlds tiny --sizes 1 2 4

Writes OUT and a csv file next to it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console

from benchmarks.report import parser_of, write_report
from benchmarks.step_timing import WARM_UP
from benchmarks.vector_step import LONG, Row, rate
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress


def _single(world: str, index: int) -> SanaWMEnv:
    """An environment in a process of its own; made there, because a network does not survive a
    fork."""
    torch.set_num_threads(1)
    env = SanaWMEnv(world, max_episode_steps=LONG)
    env.action_space.seed(index)
    return env


def measure_processes(world: str, count: int, seconds: float, rounds: int) -> Row:
    """stable-baselines3's processes, and the memory that each holds for itself.

    Raises:
        ImportError: stable-baselines3 is missing.
    """
    try:
        from stable_baselines3.common.vec_env import SubprocVecEnv
    except ModuleNotFoundError as error:
        raise ImportError("process_step needs pip install sana_wm_gym[agents]") from error
    began = time.perf_counter()
    makers: list[Any] = [partial(_single, world, index) for index in range(count)]
    envs = SubprocVecEnv(makers, start_method="spawn")
    try:
        envs.seed(0)
        envs.reset()
        started = time.perf_counter() - began
        rng = np.random.default_rng(0)
        shape = (count, *(envs.action_space.shape or ()))

        def step() -> None:
            envs.step(rng.uniform(-1, 1, shape).astype(np.float32))

        for _ in range(WARM_UP):
            step()
        rates = [rate(step, count, seconds) for _ in range(rounds)]
        held = [psutil.Process(p.pid).memory_full_info().uss for p in envs.processes]
    finally:
        envs.close()
    return {
        "world": world,
        "processes": count,
        "steps_per_s": float(np.median(rates)),
        "start_s": started,
        "memory_mb": sum(held) / 1e6,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.process_step", __doc__)
    add = parser.add_argument
    add("--worlds", nargs="+", default=["tiny"], help="their names (tiny)")
    add("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="processes N")
    add("--seconds", type=float, default=2.0, help="length of a round at least (2)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--out", type=Path, default=Path("outputs/process_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if min(*options.sizes, options.rounds) < 1 or options.seconds < 0:
        parser.error("sizes and rounds are at least 1, seconds not negative")
    console, cases = Console(), list(product(options.worlds, options.sizes))
    try:
        with progress(console) as bar:
            rows = [
                measure_processes(*case, options.seconds, options.rounds)
                for case in bar.track(cases, description="processes")
            ]
    except (ImportError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    tables = {"rates": Table.of("A process per environment (SubprocVecEnv)", rows)}
    write_report(
        options.out, provenance("benchmarks.process_step") | {"rates": rows}, tables, console
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
