"""Does a policy that was trained in a learned world work in its ground truth?

    sana-wm dream-to-real                       # 5 seeds each, hours on two cores
    sana-wm dream-to-real --seeds 2 --steps 1024 --episodes 16    # a first look

Policies are trained in the learned world (the dream), and others in its ground-truth twin, with the
same settings and seeds. Each is then evaluated in both worlds, on the same starts, without further
training, next to a random policy.

Stopped runs are resumed: the same command does what is left. OUT gets a folder per run (see
agents.train) and what agents.report writes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sana_wm_gym.checks import require_integer
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import progress

from .report import report

DREAM, REAL = "tiny-bf16", "twin"


@dataclass(frozen=True)
class DreamRun:
    """One policy: its agent ("ppo" or "random"), the world and seed of its training, its folder."""

    agent: str
    world: str
    seed: int
    folder: Path

    def evaluation(self, world: str) -> Path:
        """Where its evaluation in a world is kept."""
        if world == self.world:
            return self.folder / "evaluation.json"
        return self.folder / "evaluations" / world / "evaluation.json"


def runs_of(out: Path, seeds: int) -> list[DreamRun]:
    """All runs: slow ones first, and random ones, which need no training, once per seed."""
    kinds = [("ppo", DREAM), ("ppo", REAL), ("random", DREAM)]
    return [
        DreamRun(agent, world, seed, out / f"{agent}_{world}_seed{seed}")
        for agent, world in kinds
        for seed in range(seeds)
    ]


def carry_out(run: DreamRun, settings: Sequence[str], episodes: int) -> None:
    """Train, and evaluate in both worlds; what is done already is not done again.

    Raises:
        RuntimeError: A command failed; names the file of its output.
    """
    other = REAL if run.world == DREAM else DREAM
    if not run.evaluation(run.world).is_file():
        own = [f"agent={run.agent}", "task=image_goal", f"world={run.world}", f"seed={run.seed}"]
        place = [f"folder={run.folder}", f"evaluation.episodes={episodes}"]
        _command(run, "train", [*own, *place, *settings])
    if not run.evaluation(other).is_file():
        place = [f"checkpoint={run.folder}", f"folder={run.evaluation(other).parent}"]
        _command(run, "evaluate", [*place, f"world={other}", f"episodes={episodes}"])


def _command(run: DreamRun, tool: str, arguments: Sequence[str]) -> None:
    log = run.folder.parent / "logs" / f"{run.folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Networks are small: threads that wait for each other cost more than they bring.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("a") as stream:
        done = subprocess.run(
            [sys.executable, "-m", "sana_wm_gym", tool, *arguments],
            env={**os.environ, **threads},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{tool} for {run.folder.name} failed: see {log}")


def experiment(options: argparse.Namespace, console: Console) -> int:
    """Do what is left of all runs, then report; returns the exit status."""
    out: Path = options.out.resolve()
    runs = runs_of(out, options.seeds)
    settings = [f"steps={options.steps}", f"eval_every={options.every}", *options.settings]
    problems = []
    with progress(console) as bars, ThreadPoolExecutor(options.jobs) as pool:
        bar = bars.add_task("runs", total=len(runs))
        # A random policy has no training settings.
        waiting = {
            pool.submit(carry_out, r, settings if r.agent == "ppo" else (), options.episodes): r
            for r in runs
        }
        for done in as_completed(waiting):
            bars.advance(bar)
            error = done.exception()
            if error is not None:
                problems.append(str(error))
            console.print(error or f"done: {waiting[done].folder.name}", soft_wrap=True)
    if problems:
        print(f"error: {len(problems)} of {len(runs)} runs failed", file=sys.stderr)
        return 1
    report([run.folder for run in runs], "is_success", out, console, "sana-wm dream-to-real")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm dream-to-real", __doc__)
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="policies per kind (5)")
    add("--steps", type=int, default=10_240, help="environment steps of training each (10240)")
    add("--episodes", type=int, default=100, help="per policy and world (100)")
    add("--every", type=int, default=2_560, help="steps between evaluations (2560)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time; all cores")
    add("--out", type=Path, default=Path("outputs/dream_to_real"), help="folder")
    add("settings", nargs="*", help="more settings of `sana-wm train`, such as agent.gamma=0.7")
    options = parser.parse_args(arguments)
    for name in ("seeds", "steps", "episodes", "every", "jobs"):
        require_integer(name, getattr(options, name), 1)
    return experiment(options, Console())
