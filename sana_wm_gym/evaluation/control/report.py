"""A run from its jobs to summary.json, scenes.csv, report.md, the terminal, and the files that
other tools of SANA-WM-Bench read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any

from rich.console import Console

from sana_wm_gym.evaluation.bench.results import MethodFolder, write_pose_errors
from sana_wm_gym.evaluation.control.run_folder import scene_file
from sana_wm_gym.evaluation.control.scene_job import Result, SceneJob, run_scenes
from sana_wm_gym.evaluation.control.summary import Summary, summarise
from sana_wm_gym.evaluation.control.tables import report_tables, scene_table
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.jobs import Launcher
from sana_wm_gym.metrics import RELEASE
from sana_wm_gym.tables import progress


def run(
    jobs: Sequence[SceneJob],
    folder: Path,
    method: MethodFolder,
    name: str,
    provenance: Mapping[str, Any],
    launcher: Launcher,
    console: Console,
    pending: int = 0,
) -> int:
    """Score scenes, write and print the report.

    Args:
        jobs: One per scene.
        folder: Of the run.
        method: For the files that other tools read.
        name: What made the videos.
        provenance: Command, commit, device, date and identity of the run; plain values.
        launcher: Where scenes run.
        console: Where to print.
        pending: Scenes that other processes of this run have yet to finish.

    Returns:
        Exit status: 0 if every scene was scored, 1 if some were not, 2 if a worker died.

    Raises:
        ValueError: A finished scene's files have changed, or scores may not share a mean.
    """
    try:
        with progress(console) as bar:
            task = bar.add_task("scenes", total=len(jobs))

            def done(result: Result) -> None:
                bar.advance(task)
                bar.console.print(_line(result), markup=False, highlight=False, soft_wrap=True)

            results = run_scenes(jobs, launcher, done)
    except BrokenExecutor:
        console.print("a worker died, perhaps for lack of memory; the same command resumes")
        return 2
    summaries = []
    for split in dict.fromkeys(job.entry.split for job in jobs):
        found = [result for (one, _), result in results.items() if one == split]
        summaries.append(summarise(split, found))
        _write_evaluations(method, summaries[-1], found)
    written = _write_report(folder, name, provenance, summaries, list(results.values()))
    for table in report_tables(name, summaries):
        table.print(console)
    failed = sum(result["status"] != "scored" for result in results.values())
    console.print(f"wrote {', '.join(map(str, written))}", soft_wrap=True)
    if pending:
        console.print(f"{pending} scenes belong to other shards: run again when all are done")
    if failed:
        console.print(f"{failed} of {len(results)} scenes have no result; see Failures")
    return int(failed > 0)


def _line(result: Result) -> str:
    head = f"{result['split']:6} {result['scene']:28} {result['trajectory']:20}"
    if result["status"] != "scored":
        return f"{head} {result['code']}: {result['message']}"
    score = result["pose"]["scores"][RELEASE.name]
    if "code" in score:
        return f"{head} poses: {score['code']}"
    return f"{head} RotErr {score['RotErr']:.2f} deg, TransErr {score['TransErr']:.3f} m"


def _write_report(
    folder: Path,
    name: str,
    provenance: Mapping[str, Any],
    summaries: Sequence[Summary],
    results: Sequence[Result],
) -> list[Path]:
    """Write summary.json, scenes.csv and report.md."""
    summary, lines, report = (folder / f for f in ("summary.json", "scenes.csv", "report.md"))
    splits = {one["split"]: one for one in summaries}
    write_json(summary, {"method": name, **provenance, "splits": splits})
    scenes = scene_table(results)
    write_text(lines, scenes.csv())
    facts = "\n".join(f"- {key}: {_words(value)}" for key, value in provenance.items())
    parts = [f"# Camera control: {name}", facts]
    for table in [*report_tables(name, summaries), scenes]:
        parts += [f"## {table.title}", table.markdown().rstrip(), *table.notes]
    parts.append("## Scene by scene")
    for result in results:
        label = f"{result['split']} / {result['scene']} / {result['trajectory']}"
        parts.append(f"### {label}")
        if result["status"] != "scored":
            parts.append(f"No result. {result['code']}: {result['message']}")
            continue
        for kind in ("frames", "paths"):
            file = scene_file(Path(), kind, result["split"], result["scene"])
            parts.append(f"![{kind} of {label}]({file.as_posix()})")
    write_text(report, "\n\n".join(parts) + "\n")
    return [summary, lines, report]


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_words(item)}" for key, item in value.items())
    return str(value)


def _write_evaluations(method: MethodFolder, summary: Summary, results: Sequence[Result]) -> None:
    """Write a split's files of the results layout, without the scenes that have no number."""
    scored = {result["scene"]: result for result in results if result["status"] == "scored"}
    errors, split = {}, summary["split"]
    for scene, result in scored.items():
        pose = result["pose"]
        score = pose["scores"][RELEASE.name]
        if "code" not in score and not score["undefined"]:
            errors[scene] = {
                "RotErr": score["RotErr"],
                "TransErr_rel": score["TransErr"],
                "CamMC_rel": score["CamMC"],
                "scene_type": result["scene_type"],
                "n_frames": score["n"],
                "source": pose["source"],
                "flags": score["flags"],
            }
    write_pose_errors(method.poses_file(split), errors)
    for name, key in (("revisit_consistency", "revisit"), ("temporal_degradation", "drift")):
        scenes = {scene: result[key] for scene, result in scored.items()}
        write_json(method.eval_file(split, name), {"summary": summary[key], "scenes": scenes})
    write_json(method.eval_file(split, "summary"), summary)
