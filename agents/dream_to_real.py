"""Does a policy that was trained in a learned world work in its ground truth?

    sana-wm dream-to-real                       # 5 seeds each, hours on two cores
    sana-wm dream-to-real --seeds 2 --steps 1024 --episodes 16    # a first look

Policies are trained in the learned world (the dream), and others in its ground-truth twin, with the
same settings and seeds. Each is then evaluated in both worlds, on the same starts, without further
training, next to a random policy.

Stopped runs are resumed: the same command does what is left. OUT gets a folder per run (see
`sana-wm train`), tables, curves.png and dream_to_real.json.
"""

from __future__ import annotations

import argparse
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

from sana_wm_gym.checks import require_integer
from sana_wm_gym.evaluation.intervals import estimate
from sana_wm_gym.files import atomic_path, write_json, write_text
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress

from .training.loggers import read_rows

DREAM, REAL = "tiny-bf16", "twin"
NAMES = {DREAM: "dream", REAL: "twin"}
MEASURES = ("is_success", "spl", "return")


@dataclass(frozen=True)
class DreamRun:
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
    def kind(self) -> str:
        """The row of the tables that it belongs to."""
        return "random" if self.agent == "random" else f"trained in the {NAMES[self.world]}"

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
        RuntimeError: A command failed; says where its output is.
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


def summarise(runs: Sequence[DreamRun]) -> dict[str, Any]:
    """By kind of policy, as JSON values: "worlds" (means of each measure by seed, their mean over
    seeds with Student's interval, success over all episodes with Wilson's), and "gap" (twin less
    dream, paired by seed)."""
    summary: dict[str, Any] = {}
    for kind in dict.fromkeys(run.kind for run in runs):
        worlds, means = {}, {}
        for world in (DREAM, REAL):
            members = [run for run in runs if run.kind == kind]
            found = [json.loads(run.evaluation(world).read_text())["episodes"] for run in members]
            by_seed = {m: [fmean(float(e[m]) for e in one) for one in found] for m in MEASURES}
            means[world] = by_seed
            pooled = estimate([bool(e["is_success"]) for one in found for e in one])
            worlds[world] = {
                "by_seed": by_seed,
                "pooled_success": asdict(pooled),
                **{m: asdict(estimate(by_seed[m])) for m in MEASURES},
            }
        pairs = {m: zip(means[REAL][m], means[DREAM][m], strict=True) for m in MEASURES}
        gap = {m: asdict(estimate([there - here for there, here in pairs[m]])) for m in MEASURES}
        summary[kind] = {"worlds": worlds, "gap": gap}
    return summary


def tables(summary: Mapping[str, Any]) -> tuple[Table, Table]:
    """The comparison over seeds, and success over all episodes of all seeds."""
    over_seeds, pooled = [], []
    baseline = summary["random"]["worlds"]
    for kind, found in summary.items():
        dream, real = found["worlds"][DREAM], found["worlds"][REAL]
        row = {
            "policy": kind,
            "success in the dream, %": _cell(dream["is_success"], 100),
            "success in the twin, %": _cell(real["is_success"], 100),
            "gap, points": _cell(found["gap"]["is_success"], 100, "+"),
        }
        for measure, name in (("spl", "SPL"), ("return", "return")):
            row |= {f"{name} in the dream": _cell(dream[measure])}
            row |= {f"{name} in the twin": _cell(real[measure])}
        over_seeds.append(row)
        row = {"policy": kind}
        for world in (DREAM, REAL):
            row[f"in the {NAMES[world]}, %"] = _cell(found["worlds"][world]["pooled_success"], 100)
        for world in (DREAM, REAL):
            base = baseline[world]["pooled_success"]["mean"]
            mean = found["worlds"][world]["pooled_success"]["mean"]
            row[f"times random, {NAMES[world]}"] = f"{mean / base:.1f}" if base else "-"
        pooled.append(row)
    return (
        Table.of("Over seeds, with 95 % intervals of the mean (Student)", over_seeds),
        Table.of("Success over all episodes of all seeds, with Wilson's 95 % interval", pooled),
    )


def _cell(value: Mapping[str, Any], scale: float = 1.0, sign: str = "") -> str:
    digits = 0 if scale > 1 else 2
    mean, low, high = (
        "" if value[name] is None else f"{scale * value[name]:{sign}.{digits}f}"
        for name in ("mean", "low", "high")
    )
    return f"{mean} [{low}, {high}]" if low else mean


def draw_curves(runs: Sequence[DreamRun], summary: Mapping[str, Any], path: Path) -> None:
    """Success over training, as evaluated (thick) and while training (thin), seed by seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for axes, world in zip(figure.subplots(1, 2, sharey=True), (DREAM, REAL), strict=True):
        for run in runs:
            if run.agent != "ppo" or run.world != world:
                continue
            rows = read_rows(run.folder / "metrics.csv")
            style: dict[str, dict[str, Any]] = {"is_success": {"lw": 0.6, "alpha": 0.35}}
            style["eval/is_success"] = {"marker": "o", "ms": 3, "label": f"seed {run.seed}"}
            for name, line in style.items():
                points = [(r["timesteps"], r[name]) for r in rows if r.get(name) is not None]
                steps, values = zip(*points, strict=True)
                axes.plot(steps, [100 * v for v in values], color=f"C{run.seed}", **line)
        baseline = summary["random"]["worlds"][world]["pooled_success"]["mean"]
        axes.axhline(100 * baseline, color="0.3", ls="--", lw=1, label="random")
        axes.set(xlabel="environment steps", title=f"trained and evaluated in the {NAMES[world]}")
        axes.set_ylim(0, 100)
    figure.axes[0].set_ylabel("episodes that reach the goal, %")
    figure.axes[1].legend(fontsize=8, loc="upper left")
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def experiment(options: argparse.Namespace, console: Console) -> int:
    """Do what is left of all runs, then write tables and curves; returns the exit status."""
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
    document = {
        **provenance("sana-wm dream-to-real"),
        "seeds": options.seeds,
        "steps": options.steps,
        "episodes": options.episodes,
        "settings": settings,
        "summary": summarise(runs),
    }
    write_json(out / "dream_to_real.json", document)
    found = tables(document["summary"])
    write_text(out / "table.md", "\n".join(f"{one.title}:\n\n{one.markdown()}" for one in found))
    draw_curves(runs, document["summary"], out / "curves.png")
    for table in found:
        table.print(console)
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
