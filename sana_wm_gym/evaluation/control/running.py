"""Jobs in, report out: the part that the benchmark and the scorer of given videos share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sana_wm_gym.evaluation.bench.results import MethodFolder
from sana_wm_gym.evaluation.control.evaluations import write_evaluations
from sana_wm_gym.evaluation.control.jobs import Job, Launcher, Result, run_jobs
from sana_wm_gym.evaluation.control.report import Report
from sana_wm_gym.evaluation.control.run_folder import RunFolder
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.evaluation.control.summary import summarise
from sana_wm_gym.evaluation.control.tables import of_split
from sana_wm_gym.metrics import RELEASE

FORMAT = 1
"""Of scene results; another one is never mixed with this."""


def scoring_identity(scoring: Scoring) -> dict[str, Any]:
    """What of the scoring a result depends on, as plain values."""
    kind = type(scoring.estimator)
    shown = repr(scoring.estimator) if hasattr(kind, "__dataclass_fields__") else kind.__qualname__
    return {
        "format": FORMAT,
        "estimator": f"{kind.__module__}: {shown}",
        "interval": scoring.interval,
        "min_coverage": scoring.min_coverage,
        "floor": scoring.floor,
        "truncate": scoring.truncate,
    }


def run(
    jobs: Sequence[Job],
    folder: Path,
    method: Path,
    name: str,
    provenance: Mapping[str, Any],
    workers: int,
    launch: Launcher,
    console: Console,
    pending: int = 0,
) -> int:
    """Run jobs, write and print the report.

    Args:
        jobs: One per scene.
        folder: Of the run.
        method: Folder of the method, for the files that other tools read.
        name: What made the videos.
        provenance: For the report; plain values.
        workers: How many scenes at a time.
        launch: Runs the jobs.
        console: Where to print.
        pending: Scenes that other processes of this run have yet to finish.

    Returns:
        Exit status: 0 if every scene was scored, 1 if some were not, 2 if a worker died.

    Raises:
        ValueError: A finished scene's files have changed, or scores may not share a mean.
    """
    try:
        results = _with_progress(jobs, workers, launch, console)
    except BrokenExecutor:
        console.print("a worker died, perhaps for want of memory; the same command goes on")
        return 2
    summaries = []
    for split in dict.fromkeys(job.entry.split for job in jobs):
        found = of_split(results, split)
        summaries.append(summarise(split, found))
        write_evaluations(MethodFolder(method), summaries[-1], found)
    report = Report(name, provenance, summaries, list(results.values()), RunFolder(folder))
    written = report.write()
    report.print(console)
    failed = sum(result["status"] != "scored" for result in results.values())
    console.print(f"wrote {', '.join(str(path) for path in written)}", soft_wrap=True)
    if pending:
        console.print(f"{pending} scenes belong to other shards: run again when all are done")
    if failed:
        console.print(f"{failed} of {len(results)} scenes have no result; see Failures")
    return int(failed > 0)


def _with_progress(
    jobs: Sequence[Job], workers: int, launch: Launcher, console: Console
) -> dict[tuple[str, str], Result]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bar:
        task = bar.add_task("scenes", total=len(jobs))

        def done(result: Result) -> None:
            bar.advance(task)
            bar.console.print(line(result), markup=False, highlight=False, soft_wrap=True)

        return run_jobs(jobs, workers, launch, done)


def line(result: Result) -> str:
    """A scene in a line."""
    head = f"{result['split']:6} {result['scene']:28} {result['trajectory']:20}"
    if result["status"] != "scored":
        return f"{head} {result['code']}: {result['message']}"
    score = result["pose"]["scores"][RELEASE.name]
    if "code" in score:
        return f"{head} poses: {score['code']}"
    return f"{head} RotErr {score['RotErr']:.2f} deg, TransErr {score['TransErr']:.3f} m"
