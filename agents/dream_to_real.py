"""Does a policy that was trained in a dream work in the real thing?

    python -m agents.dream_to_real                       # 5 seeds each, hours on two cores
    python -m agents.dream_to_real --seeds 2 --steps 1024 --episodes 16    # a first look

Policies are trained in the learned world, and others in its ground-truth twin, with the same
settings and seeds. Each is then judged in both worlds, on the same starts, without further
training. Beside them acts chance.

Runs go on where they were stopped: the same command does what is left. OUT gets a folder per run
(see agents.train), table.md, curves.png and dream_to_real.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from agents.training.intervals import Estimate, estimate
from agents.training.run_folder import RunFolder
from sana_wm_gym.files import atomic_path, write_json, write_text
from sana_wm_gym.provenance import provenance

DREAM, REAL = "tiny-bf16", "twin"
NAMES = {DREAM: "dream", REAL: "twin"}
MEASURES = ("is_success", "spl", "return")


@dataclass(frozen=True)
class Run:
    """One policy: how it was made and where it is kept.

    Attributes:
        agent: "ppo" or "random".
        world: Where it was trained, DREAM or REAL.
        seed: Of its training.
        folder: Its run's.
    """

    agent: str
    world: str
    seed: int
    folder: Path

    @property
    def other(self) -> str:
        """The world it was not trained in."""
        return REAL if self.world == DREAM else DREAM

    def evaluation(self, world: str) -> Path:
        """Where its episodes in a world are kept."""
        if world == self.world:
            return RunFolder(self.folder).evaluation
        return self.folder / "evaluations" / world / "evaluation.json"


def runs_of(out: Path, seeds: int) -> list[Run]:
    """All runs: the slow ones first, and chance, which needs no training, once per world."""
    kinds = [("ppo", DREAM), ("ppo", REAL), ("random", DREAM)]
    return [
        Run(agent, world, seed, out / f"{agent}_{world}_seed{seed}")
        for agent, world in kinds
        for seed in range(seeds)
    ]


def carry_out(run: Run, settings: Sequence[str], episodes: int) -> None:
    """Train, and judge in both worlds; what is done already is not done again.

    Raises:
        RuntimeError: A command failed; says where its output is.
    """
    if not run.evaluation(run.world).is_file():
        _command(
            run,
            "agents.train",
            [
                f"agent={run.agent}",
                "task=image_goal",
                f"world={run.world}",
                f"seed={run.seed}",
                f"folder={run.folder}",
                f"evaluation.last_episodes={episodes}",
                *settings,
            ],
        )
    if not run.evaluation(run.other).is_file():
        folder = run.evaluation(run.other).parent
        _command(
            run,
            "agents.evaluate",
            [
                f"checkpoint={run.folder}",
                f"world={run.other}",
                f"folder={folder}",
                f"episodes={episodes}",
            ],
        )


def _command(run: Run, module: str, arguments: Sequence[str]) -> None:
    log = run.folder.parent / "logs" / f"{run.folder.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    # Networks are small: threads that wait for each other cost more than they bring.
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with log.open("a") as stream:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=Path(__file__).parents[1],
            env={**os.environ, **threads},
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"{module} for {run.folder.name} failed: see {log}")


@dataclass(frozen=True)
class Cell:
    """Policies of one kind in one world.

    Attributes:
        by_seed: Mean of each measure over a policy's episodes, one entry per seed.
        pooled: Success over all episodes of all seeds, with Wilson's interval.
    """

    by_seed: Mapping[str, tuple[float, ...]]
    pooled: Estimate

    def over_seeds(self, measure: str) -> Estimate:
        """Mean over seeds with Student's interval."""
        return estimate(self.by_seed[measure])


def cell_of(runs: Sequence[Run], world: str) -> Cell:
    """Read what policies did in a world."""
    episodes = [json.loads(run.evaluation(world).read_text())["episodes"] for run in runs]
    return Cell(
        {m: tuple(fmean(float(e[m]) for e in of_run) for of_run in episodes) for m in MEASURES},
        estimate([bool(e["is_success"]) for of_run in episodes for e in of_run]),
    )


def gap_of(own: Cell, other: Cell, measure: str) -> Estimate:
    """Other less own, seed by seed."""
    pairs = zip(other.by_seed[measure], own.by_seed[measure], strict=True)
    return estimate([there - here for there, here in pairs])


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Cells, gaps and the comparison with chance, as JSON values."""
    kinds = {
        "trained in the dream": [r for r in runs if r.agent == "ppo" and r.world == DREAM],
        "trained in the twin": [r for r in runs if r.agent == "ppo" and r.world == REAL],
        "chance": [r for r in runs if r.agent == "random"],
    }
    summary: dict[str, Any] = {}
    for kind, members in kinds.items():
        cells = {world: cell_of(members, world) for world in (DREAM, REAL)}
        summary[kind] = {
            "worlds": {
                world: {
                    "by_seed": dict(cell.by_seed),
                    "pooled_success": asdict(cell.pooled),
                    **{m: asdict(cell.over_seeds(m)) for m in MEASURES},
                }
                for world, cell in cells.items()
            },
            "gap": {m: asdict(gap_of(cells[DREAM], cells[REAL], m)) for m in MEASURES},
        }
    return summary


def markdown(document: Mapping[str, Any]) -> str:
    """The result as tables, and where it comes from."""

    def told(value: Mapping[str, Any], scale: float = 1.0, sign: str = "") -> str:
        middle = f"{scale * value['mean']:{sign}.{0 if scale > 1 else 2}f}"
        if value["low"] is None:
            return middle
        low, high = scale * value["low"], scale * value["high"]
        digits = 0 if scale > 1 else 2
        return f"{middle} [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]"

    lines = [
        f"`{document['command']}`, commit {document['commit'][:12]}, {document['date']}, "
        f"{document['device']}. Dream: `{DREAM}`; twin: exact renderings of the same map. "
        f"{document['seeds']} seeds, {document['steps']} environment steps of training each, "
        f"{document['episodes']} episodes per policy and world.",
        "",
        "| | success in the dream, % | success in the twin, % | gap, points | SPL in the dream "
        "| SPL in the twin | return in the dream | return in the twin |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for kind, found in document["summary"].items():
        dream, real = found["worlds"][DREAM], found["worlds"][REAL]
        cells = [
            told(dream["is_success"], 100),
            told(real["is_success"], 100),
            told(found["gap"]["is_success"], 100, "+"),
            *(told(world[m]) for m in ("spl", "return") for world in (dream, real)),
        ]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "In brackets: 95 % intervals of the mean over seeds (Student). Success over all episodes "
        "of all seeds, with Wilson's 95 % interval:",
        "",
        "| | in the dream, % | in the twin, % | times chance, dream | times chance, twin |",
        "|---|---|---|---|---|",
    ]
    chance = document["summary"]["chance"]["worlds"]
    for kind, found in document["summary"].items():
        pooled = {world: found["worlds"][world]["pooled_success"] for world in (DREAM, REAL)}
        ratios = []
        for world in (DREAM, REAL):
            base = chance[world]["pooled_success"]["mean"]
            ratios.append(f"{pooled[world]['mean'] / base:.1f}" if base else "chance has none")
        cells = [told(pooled[world], 100) for world in (DREAM, REAL)]
        lines.append(f"| {kind} | " + " | ".join([*cells, *ratios]) + " |")
    return "\n".join(lines) + "\n"


def draw_curves(runs: Sequence[Run], summary: Mapping[str, Any], path: Path) -> None:
    """Success over training, as evaluated without exploration, seed by seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, world in zip(figure.subplots(1, 2, sharey=True), (DREAM, REAL), strict=True):
        for run in runs:
            if run.agent != "ppo" or run.world != world:
                continue
            with (run.folder / "metrics.csv").open(newline="") as stream:
                rows = list(csv.DictReader(stream))
            while_learning = [
                (int(r["timesteps"]), 100 * float(r["is_success"])) for r in rows if r["is_success"]
            ]
            judged = [
                (int(r["timesteps"]), 100 * float(r["eval/is_success"]))
                for r in rows
                if r["eval/is_success"]
            ]
            colour = f"C{run.seed}"
            axes.plot(*zip(*while_learning, strict=True), color=colour, lw=0.6, alpha=0.35)
            axes.plot(
                *zip(*judged, strict=True), "o-", ms=3, color=colour, label=f"seed {run.seed}"
            )
        chance = summary["chance"]["worlds"][world]["pooled_success"]["mean"]
        axes.axhline(100 * chance, color="0.3", ls="--", lw=1, label="chance")
        axes.set(xlabel="environment steps", title=f"trained and judged in the {NAMES[world]}")
        axes.set_ylim(0, 100)
    figure.axes[0].set_ylabel("episodes that reach the goal, %")
    figure.axes[1].legend(fontsize=8, loc="upper left")
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def experiment(options: argparse.Namespace, console: Console) -> int:
    """Do what is left of all runs, then write tables and curves; returns the exit status."""
    out: Path = options.out.resolve()
    runs = runs_of(out, options.seeds)
    settings = [f"steps={options.steps}", f"evaluation.every={options.every}", *options.settings]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    problems = []
    with bar, ThreadPoolExecutor(options.jobs) as pool:
        task = bar.add_task("runs", total=len(runs))
        # Chance has nothing to set but its episodes.
        waiting = {
            pool.submit(carry_out, r, settings if r.agent == "ppo" else (), options.episodes): r
            for r in runs
        }
        for done in as_completed(waiting):
            bar.advance(task)
            error = done.exception()
            if error is not None:
                problems.append(str(error))
            bar.console.print(error or f"done: {waiting[done].folder.name}", soft_wrap=True)
    if problems:
        print(f"error: {len(problems)} of {len(runs)} runs failed", file=sys.stderr)
        return 1
    document = {
        **provenance("agents.dream_to_real"),
        "seeds": options.seeds,
        "steps": options.steps,
        "episodes": options.episodes,
        "settings": settings,
        "summary": summarise(runs),
    }
    write_json(out / "dream_to_real.json", document)
    table = markdown(document)
    write_text(out / "table.md", table)
    draw_curves(runs, document["summary"], out / "curves.png")
    console.print(table, markup=False, highlight=False, soft_wrap=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.dream_to_real",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="policies per kind (5)")
    add("--steps", type=int, default=10_240, help="environment steps of training each (10240)")
    add("--episodes", type=int, default=100, help="per policy and world (100)")
    add("--every", type=int, default=2_560, help="steps between evaluations (2560)")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time; all cores")
    add("--out", type=Path, default=Path("outputs/dream_to_real"), help="folder")
    add("settings", nargs="*", help="more settings of agents.train, such as agent.gamma=0.7")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.steps, options.episodes, options.every, options.jobs) < 1:
        parser.error("seeds, steps, episodes, every and jobs are at least 1")
    try:
        return experiment(options, Console())
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
