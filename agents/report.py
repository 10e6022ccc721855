"""Training runs over seeds: mean, interquartile mean, bootstrap intervals, and learning curves.

    sana-wm report outputs/agents/ppo_image_goal_tiny_seed*
    sana-wm report outputs/agents/* --measure return --out outputs/report

Runs that learn with the same settings but for the seed form a group. A run counts with the mean of
its last evaluation, and of those in other worlds by `sana-wm evaluate`, compared seed by seed too.
Intervals are 95 % percentile intervals of the bootstrap over seeds, as in Agarwal et al.,
arXiv 2108.13264. Writes OUT/report.json, report.csv and curves.png.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy import stats

from sana_wm_gym.evaluation.episodes import Evaluation, read_evaluation
from sana_wm_gym.evaluation.intervals import CONFIDENCE, Estimate
from sana_wm_gym.files import atomic_path, write_json, write_text
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table

from .training.loggers import read_rows
from .training.run_folder import LOGGING, read_run

MEASURES = ("is_success", "spl", "return", "length")
"""Columns of the table, of those that the runs' tasks have."""

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunGroup:
    """Finished runs of the same settings but for the seed.

    Attributes:
        name: Of the first run's folder, without its seed.
        folders: One per seed.
        evaluations: By world, its own first, an evaluation of each run.
        curves: Rows of each run's metrics.csv.
    """

    name: str
    folders: tuple[Path, ...]
    evaluations: Mapping[str, tuple[Evaluation, ...]]
    curves: tuple[list[dict[str, float | None]], ...]

    def scores(self, measure: str) -> dict[str, list[float]]:
        """By world, each run's mean of a measure; and differences to its own world. Empty where a
        task lacks the measure."""
        if measure not in next(iter(self.evaluations.values()))[0].summary():
            return {}
        means = {
            world: [one.summary()[measure].mean for one in found]
            for world, found in self.evaluations.items()
        }
        (own, base), *others = means.items()
        for world, scores in others:
            means[f"{world} less {own}"] = [a - b for a, b in zip(scores, base, strict=True)]
        return means

    def curve(self, measure: str) -> tuple[list[float], list[Estimate]]:
        """Timesteps at which every run was evaluated, and the mean of a measure there."""
        name = f"eval/{measure}"
        runs = [
            {row["timesteps"] or 0.0: value for row in rows if (value := row.get(name)) is not None}
            for rows in self.curves
        ]
        steps = sorted(step for step in runs[0] if all(step in run for run in runs))
        return steps, [bootstrap([run[step] for run in runs]) for step in steps]


def bootstrap(
    values: Sequence[float], statistic: Callable[..., Any] = np.mean, resamples: int = 10_000
) -> Estimate:
    """A statistic, as `mean`, with its interval; the same for the same values.

    Args:
        values: One per seed.
        statistic: Takes an array and `axis`.
        resamples: Number of resamples.
    """
    array = np.asarray(values, dtype=np.float64)
    value = float(statistic(array, axis=0))
    if len(array) < 2:
        return Estimate(value, None, None, 1)
    found = stats.bootstrap(
        (array,),
        statistic,
        n_resamples=resamples,
        confidence_level=CONFIDENCE,
        method="percentile",
        vectorized=True,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    return Estimate(value, float(found.low), float(found.high), len(array))


def interquartile_mean(values: Array, axis: int = 0) -> Any:
    """The mean of the middle half."""
    return stats.trim_mean(values, 0.25, axis=axis)


def read_groups(folders: Sequence[Path]) -> list[RunGroup]:
    """Runs in groups, in the order given.

    Raises:
        FileNotFoundError: A folder holds no run.
        ValueError: A run is not finished or damaged, or one is given twice.
    """
    groups: dict[str, list[Path]] = {}
    seeds: set[tuple[str, Any]] = set()
    for folder in folders:
        settings = read_run(folder)["settings"]
        seed = settings.get("seed")
        compared = {k: v for k, v in settings.items() if k not in ("seed", *LOGGING)}
        key = json.dumps(compared, sort_keys=True)
        if (key, seed) in seeds:
            raise ValueError(f"{folder} has the settings and seed of another run that was given")
        seeds.add((key, seed))
        if not (folder / "evaluation.json").is_file():
            raise ValueError(f"the run in {folder} is not finished: resume it first")
        groups.setdefault(key, []).append(folder)
    return [
        RunGroup(
            re.sub(r"[_-]?seed[_-]?\d+", "", members[0].name) or members[0].name,
            tuple(members),
            _evaluations(members),
            tuple(read_rows(folder / "metrics.csv") for folder in members),
        )
        for members in groups.values()
    ]


def _evaluations(folders: Sequence[Path]) -> dict[str, tuple[Evaluation, ...]]:
    """By world, evaluations of all runs; a world where one was not evaluated is left out."""
    runs: list[dict[str, Evaluation]] = []
    for folder in folders:
        found: dict[str, Evaluation] = {}
        others = sorted(folder.glob("evaluations/*/evaluation.json"))
        for path in (folder / "evaluation.json", *others):
            one = read_evaluation(path)
            found.setdefault(one.world, one)
        runs.append(found)
    worlds = [world for world in runs[0] if all(world in run for run in runs)]
    return {world: tuple(run[world] for run in runs) for world in worlds}


def summarise(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """A record per group, measure and world, as JSON values: mean and interquartile mean over
    seeds, with the ends of their intervals, None where there is one seed."""
    records = []
    for group in groups:
        for measure in MEASURES:
            for world, scores in group.scores(measure).items():
                record: dict[str, Any] = {"group": group.name, "world": world, "measure": measure}
                record["seeds"] = len(scores)
                for name, statistic in (("mean", np.mean), ("iqm", interquartile_mean)):
                    one = bootstrap(scores, statistic)
                    record |= {name: one.mean, f"{name}_low": one.low, f"{name}_high": one.high}
                runs = dict(zip(map(str, group.folders), scores, strict=True))
                records.append({**record, "runs": runs})
    return records


def table_of(records: Sequence[Mapping[str, Any]]) -> Table:
    """The records for people: a row each, intervals in brackets."""
    rows = []
    for one in records:
        row = {name: one[name] for name in ("group", "world", "measure", "seeds")}
        for name in ("mean", "iqm"):
            ends = (one[f"{name}_low"], one[f"{name}_high"])
            row[name] = str(Estimate(one[name], *ends, one["seeds"]))
        rows.append(row)
    return Table.of("Last evaluations over seeds, with 95 % bootstrap intervals", rows)


def draw_curves(groups: Sequence[RunGroup], measure: str, path: Path) -> None:
    """Mean over seeds of a measure's evaluations during training, with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="environment steps", ylabel=measure)
    for group in groups:
        steps, found = group.curve(measure)
        if len(steps) == 1:  # a policy that does not learn
            axes.axhline(found[0].mean, color="0.3", ls="--", lw=1, label=group.name)
            continue
        [line] = axes.plot(steps, [one.mean for one in found], label=group.name)
        low = [one.mean if one.low is None else one.low for one in found]
        high = [one.mean if one.high is None else one.high for one in found]
        axes.fill_between(steps, low, high, color=line.get_color(), alpha=0.2, lw=0)
    axes.legend(fontsize=8)
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def report(
    folders: Sequence[Path],
    measure: str,
    out: Path,
    console: Console,
    command: str = "sana-wm report",
) -> None:
    """Aggregate runs, and write everything to `out`, as `command`.

    Raises:
        FileNotFoundError: A folder holds no run.
        ValueError: A run is not finished or damaged, or none has the measure.
    """
    groups = read_groups(folders)
    records = summarise(groups)
    drawn = [group for group in groups if group.curve(measure)[0]]
    if not drawn:
        columns = {name for group in groups for rows in group.curves for name in rows[0]}
        known = sorted(c.removeprefix("eval/") for c in columns if c.startswith("eval/"))
        raise ValueError(f"measure is {measure!r}, expected one of the runs': {', '.join(known)}")
    write_json(out / "report.json", {**provenance(command), "records": records})
    numbers = [{k: v for k, v in one.items() if k != "runs"} for one in records]
    write_text(out / "report.csv", Table.of("report", numbers, digits=6).csv())
    draw_curves(drawn, measure, out / "curves.png")
    table_of(records).print(console)
    console.print(f"wrote {out}/report.json, report.csv and curves.png", soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm report", __doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--measure", default="is_success", help="measure to draw (is_success)")
    parser.add_argument("--out", type=Path, default=Path("outputs/report"), help="folder")
    given = parser.parse_args(arguments)
    report(given.runs, given.measure, given.out, Console())
    return 0
