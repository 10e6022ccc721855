"""How much faster do N worlds step in one batch than N environments one after the other?

  batch        `SanaWMVectorEnv` of N rows: one network, one forward pass
  one by one   N `SanaWMEnv` in the same process, stepped in turn
  processes    stable-baselines3's `SubprocVecEnv` of N `SanaWMEnv`, one thread and one copy of
               the network each

    python -m benchmarks.vector_step                             # minutes on two cores
    python -m benchmarks.vector_step --worlds tiny --sizes 1 16 --processes
    python -m benchmarks.vector_step --page docs/vector_env.md   # also renew the page's tables

Every batch size is measured with four kinds of observation: the last frame of every chunk, which
is what policies see; all 24 frames of every chunk; latents, and the frames of every k-th chunk;
latents alone. Batch and one-by-one take turns in short rounds on the same threads,
so that whatever else the machine does meets both alike; rates are medians over rounds, and ratios
are taken round by round. One by one is measured with one thread and with all, and the faster of
the two is what the batch is compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.report import progress
from benchmarks.step_timing import state_bytes
from benchmarks.vector_tables import renew_page, show
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.files import sha256, write_json
from sana_wm_gym.provenance import provenance
from sana_wm_gym.weights.world_file import EMBEDDED
from sana_wm_gym.world.catalogue import WORLDS, load_world

Result = dict[str, Any]

WARM_UP = 4
"""Chunks until every memory has its final size."""

EVERY = 4
"""Of "every k-th chunk's frames"."""

_LONG = 1_000_000


@dataclass(frozen=True)
class Kind:
    """What is observed.

    Attributes:
        name: In the tables.
        observation: Part of the world.
        decode_every: Chunks between those whose frames are also rendered; 0 for never.
    """

    name: str
    observation: str
    decode_every: int = 0


SEEN = Kind("last frames", "frame")
DECODED = Kind("all frames", "frames")
LATENT_KINDS = (
    Kind(f"latents, every {EVERY}th chunk's frames", "latent", EVERY),
    Kind("latents", "latent"),
)


def kinds_of(world: str) -> tuple[Kind, ...]:
    """Kinds of observation that a world has."""
    latents = load_world(world).spec.latent_shape is not None
    return (SEEN, DECODED, *LATENT_KINDS) if latents else (SEEN, DECODED)


class Batch:
    """N rows of one vector environment."""

    def __init__(self, world: str, kind: Kind, count: int) -> None:
        self.envs = SanaWMVectorEnv(
            count,
            world,
            observation=(kind.observation,),
            horizon=_LONG,
            render_mode="rgb_array_list",
        )
        self.kind, self.chunk = kind, 0
        self.envs.action_space.seed(0)
        self.envs.reset(seed=0)

    def step(self) -> None:
        """One chunk in every row."""
        self.envs.step(self.envs.action_space.sample())
        self.chunk += 1
        if self.kind.decode_every and self.chunk % self.kind.decode_every == 0:
            self.envs.render()


class OneByOne:
    """N environments in turn."""

    def __init__(self, world: str, kind: Kind, count: int) -> None:
        self.envs = [
            SanaWMEnv(
                world,
                observation=(kind.observation,),
                horizon=_LONG,
                render_mode="rgb_array_list",
            )
            for _ in range(count)
        ]
        self.kind, self.chunk = kind, 0
        for row, env in enumerate(self.envs):
            env.action_space.seed(row)
            env.reset(seed=row)

    def step(self) -> None:
        """One chunk in every environment."""
        self.chunk += 1
        for env in self.envs:
            env.step(env.action_space.sample())
            if self.kind.decode_every and self.chunk % self.kind.decode_every == 0:
                env.render()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch on this many threads inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rate(step: Callable[[], None], made: int, seconds: float) -> float:
    """Environment steps per second, of calls that make `made` each, over at least `seconds`."""
    began, calls = time.perf_counter(), 0
    while True:
        step()
        calls += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return made * calls / elapsed


def compare(world: str, kind: Kind, count: int, cores: int, seconds: float, rounds: int) -> Result:
    """Batch and one by one, in turn."""
    batch, singles = Batch(world, kind, count), OneByOne(world, kind, count)
    with threads(cores):
        for _ in range(WARM_UP):
            batch.step()
            singles.step()
    rates: dict[str, list[float]] = {"batch": [], "one": [], "all": []}
    for _ in range(rounds):
        for name, runner, used in (
            ("batch", batch, cores),
            ("one", singles, 1),
            ("all", singles, cores),
        ):
            with threads(used):
                rates[name].append(rate(runner.step, count, seconds))
    best = max(("one", "all"), key=lambda name: float(np.median(rates[name])))
    return {
        "world": world,
        "observation": kind.name,
        "batch": count,
        "batch_steps_per_s": float(np.median(rates["batch"])),
        "one_by_one_steps_per_s": float(np.median(rates[best])),
        "one_by_one_threads": 1 if best == "one" else cores,
        "ratio": float(np.median(np.array(rates["batch"]) / np.array(rates[best]))),
    }


def measure_batches(options: argparse.Namespace, bar: Progress) -> list[Result]:
    """Every world, kind of observation and size."""
    cases = [
        (world, kind, count)
        for world in options.worlds
        for kind in kinds_of(world)
        for count in options.sizes
    ]
    task = bar.add_task("batches", total=len(cases))
    rows = []
    for world, kind, count in cases:
        rows.append(compare(world, kind, count, options.threads, options.seconds, options.rounds))
        bar.advance(task)
    return rows


def bytes_per_world(world: str) -> int:
    """Size of one rollout's state at its final size."""
    batch = Batch(world, SEEN, 1)
    for _ in range(WARM_UP):
        batch.step()
    return state_bytes(batch.envs.world, batch.envs.snapshot(0).episode.world)


def _single(world: str, row: int) -> SanaWMEnv:
    """An environment in a process of its own; made there, because a network does not survive a
    fork."""
    torch.set_num_threads(1)
    env = SanaWMEnv(world, horizon=_LONG)
    env.action_space.seed(row)
    return env


def measure_processes(world: str, count: int, seconds: float, rounds: int) -> Result:
    """stable-baselines3's processes, and what they hold in memory.

    Raises:
        ImportError: stable-baselines3 is missing.
    """
    try:
        from stable_baselines3.common.vec_env import SubprocVecEnv
    except ModuleNotFoundError as error:
        raise ImportError("--processes needs pip install sana_wm_gym[agents]") from error
    began = time.perf_counter()
    envs = SubprocVecEnv(
        [partial(_single, world, row) for row in range(count)], start_method="spawn"
    )
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
        memory = sum(_private_mb(process.pid) for process in envs.processes)
    finally:
        envs.close()
    return {
        "world": world,
        "processes": count,
        "steps_per_s": float(np.median(rates)),
        "start_s": started,
        "memory_mb": memory,
    }


def _private_mb(process: int | None) -> float:
    """Memory that no other process shares, in MB; 0 where the system does not tell."""
    table = Path(f"/proc/{process}/smaps_rollup")
    if not table.is_file():
        return 0.0
    lines = table.read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("Private_"))


def measure(options: argparse.Namespace, console: Console) -> Result:
    """Everything the command line asks for."""
    result: Result = provenance("benchmarks.vector_step")
    result["threads"] = options.threads
    result["weights_sha256"] = sha256(EMBEDDED / "tiny.safetensors")
    with progress(console) as bar:
        result["state_bytes"] = {world: bytes_per_world(world) for world in options.worlds}
        result["batches"] = measure_batches(options, bar)
        result["processes"] = []
        if options.processes:
            sizes = [size for size in options.sizes if size <= options.most_processes]
            task = bar.add_task("processes", total=len(sizes) * len(options.worlds))
            for world in options.worlds:
                for size in sizes:
                    result["processes"].append(
                        measure_processes(world, size, options.seconds, options.rounds)
                    )
                    bar.advance(task)
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vector_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = sorted(WORLDS)
    add("--worlds", nargs="+", choices=names, default=["tiny", "tiny-bf16"], help="which worlds")
    add("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="rows N")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of a batch; all cores")
    add("--seconds", type=float, default=2.0, help="length of a round at least (2)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--processes", action="store_true", help="also measure SubprocVecEnv")
    add("--most-processes", type=int, default=16, help="no more than so many of them (16)")
    add("--out", type=Path, default=Path("outputs/vector_step.json"), help="json file")
    add("--page", type=Path, help="Markdown page whose tables are replaced")
    options = parser.parse_args(arguments)
    if options.page is not None and not options.page.is_file():
        parser.error(f"no page at {options.page}")
    if min(*options.sizes, options.threads, options.rounds) < 1 or options.seconds < 0:
        parser.error("sizes, threads and rounds are at least 1, seconds not negative")
    console = Console()
    try:
        result = measure(options, console)
    except (ImportError, FileNotFoundError, ValueError) as error:
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
