"""How much faster do N worlds step in one batch than N environments one after the other?

  batch        `SanaWMVectorEnv` of N sub-environments: one network, one forward pass
  one by one   N `SanaWMEnv` in the same process, stepped in turn
  processes    stable-baselines3's `SubprocVecEnv` of N `SanaWMEnv`, one thread and one copy of
               the network each

    python -m benchmarks.vector_step                             # minutes on two cores
    python -m benchmarks.vector_step --worlds tiny --sizes 1 16 --processes

Writes OUT and a csv file per table next to it. Every batch size is measured with four kinds of
observation: the last frame of every chunk, which is what policies see; all frames of every chunk;
latents, and the frames of every k-th chunk; latents alone. Batch and one-by-one take turns in short
rounds on the same threads, so that whatever else the machine does meets both alike; rates are
medians over rounds, and ratios are taken round by round. One by one is measured with one thread and
with all, and the faster of the two is what the batch is compared with.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console

from benchmarks.step_timing import WARM_UP, state_bytes
from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.files import sha256, write_json, write_text
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.weights.world_file import EMBEDDED
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

_LONG = 1_000_000


def kinds_of(world: str) -> list[str]:
    """Kinds of observation that a world has."""
    latents = load_world(world).spec.latent_shape is not None
    return [kind for kind, (part, _) in KINDS.items() if latents or part != "latent"]


class Stepper:
    """Environments of one world that take one chunk per call with random actions: N in one batch,
    or N one by one."""

    def __init__(self, world: str, kind: str, count: int, batch: bool) -> None:
        part, self.render_every = KINDS[kind]
        self.chunk = 0
        options: dict[str, Any] = {"observation": (part,), "max_episode_steps": _LONG}
        options["render_mode"] = "rgb_array_list"
        self.envs: list[Any] = (
            [SanaWMVectorEnv(count, world, **options)]
            if batch
            else [SanaWMEnv(world, **options) for _ in range(count)]
        )
        for index, env in enumerate(self.envs):
            env.action_space.seed(index)
            env.reset(seed=index)

    def step(self) -> None:
        """One chunk in every environment."""
        self.chunk += 1
        for env in self.envs:
            env.step(env.action_space.sample())
            if self.render_every and self.chunk % self.render_every == 0:
                env.render()


def rate(step: Callable[[], None], made: int, seconds: float) -> float:
    """Environment steps per second, of calls that make `made` each, over at least `seconds`."""
    began, calls = time.perf_counter(), 0
    while True:
        step()
        calls += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return made * calls / elapsed


def compare(world: str, kind: str, count: int, cores: int, seconds: float, rounds: int) -> Row:
    """Batch and one by one, in turn."""
    batch, singles = (Stepper(world, kind, count, batch) for batch in (True, False))
    turns = (("batch", batch, cores), ("one", singles, 1), ("all", singles, cores))
    rates: dict[str, list[float]] = {name: [] for name, _, _ in turns}
    before = torch.get_num_threads()
    for stepper in (batch, singles):
        for _ in range(WARM_UP):
            stepper.step()
    for _ in range(rounds):
        for name, stepper, threads in turns:
            torch.set_num_threads(threads)
            rates[name].append(rate(stepper.step, count, seconds))
    torch.set_num_threads(before)
    best = max(("one", "all"), key=lambda name: float(np.median(rates[name])))
    return {
        "world": world,
        "observation": kind,
        "batch": count,
        "batch_steps_per_s": float(np.median(rates["batch"])),
        "one_by_one_steps_per_s": float(np.median(rates[best])),
        "one_by_one_threads": 1 if best == "one" else cores,
        "ratio": float(np.median(np.array(rates["batch"]) / np.array(rates[best]))),
    }


def bytes_per_world(world: str) -> int:
    """Size of one rollout's state at its final size."""
    batch = Stepper(world, "last frames", 1, batch=True)
    for _ in range(WARM_UP):
        batch.step()
    [envs] = batch.envs
    return state_bytes(envs.world, envs.snapshot(0).episode.world)


def _single(world: str, index: int) -> SanaWMEnv:
    """An environment in a process of its own; made there, because a network does not survive a
    fork."""
    torch.set_num_threads(1)
    env = SanaWMEnv(world, max_episode_steps=_LONG)
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
        raise ImportError("--processes needs pip install sana_wm_gym[agents]") from error
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


def measure(options: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Everything the command line asks for."""
    timing = (options.seconds, options.rounds)
    cases = [
        (world, kind, count)
        for world in options.worlds
        for kind in kinds_of(world)
        for count in options.sizes
    ]
    sizes = [size for size in options.sizes if size <= options.most_processes]
    alone = [(w, size) for w in options.worlds for size in sizes if options.processes]
    with progress(console) as bar:
        return {
            **provenance("benchmarks.vector_step"),
            "threads": options.threads,
            "weights_sha256": sha256(EMBEDDED / "tiny.safetensors"),
            "state_bytes": {world: bytes_per_world(world) for world in options.worlds},
            "batches": [
                compare(*case, options.threads, *timing)
                for case in bar.track(cases, description="batches")
            ],
            "processes": [
                measure_processes(*case, *timing)
                for case in bar.track(alone, description="processes")
            ],
        }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.vector_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--worlds", nargs="+", default=["tiny", "tiny-bf16"], help="their names")
    add("--sizes", nargs="+", type=int, default=[1, 2, 4, 8, 16, 32], help="sub-environments N")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of a batch; all cores")
    add("--seconds", type=float, default=2.0, help="length of a round at least (2)")
    add("--rounds", type=int, default=3, help="rounds per rate (3)")
    add("--processes", action="store_true", help="also measure SubprocVecEnv")
    add("--most-processes", type=int, default=16, help="no more than so many of them (16)")
    add("--out", type=Path, default=Path("outputs/vector_step.json"), help="json file")
    options = parser.parse_args(arguments)
    if min(*options.sizes, options.threads, options.rounds) < 1 or options.seconds < 0:
        parser.error("sizes, threads and rounds are at least 1, seconds not negative")
    console = Console()
    try:
        result = measure(options, console)
    except (ImportError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    write_json(options.out, result)
    states = [{"world": w, "kB": size / 1000} for w, size in result["state_bytes"].items()]
    for name, title, rows in (
        ("batches", "Batch against one by one", result["batches"]),
        ("processes", "A process per environment (SubprocVecEnv)", result["processes"]),
        ("states", "State of one world in a batch", states),
    ):
        if rows:
            table = Table.of(title, rows)
            table.print(console)
            write_text(options.out.with_name(f"{options.out.stem}_{name}.csv"), table.csv())
    console.print(f"wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
