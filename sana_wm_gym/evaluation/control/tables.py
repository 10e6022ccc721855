"""The benchmark's tables, next to the numbers that the SANA-WM paper prints."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.aggregate import AggregateScore, ErrorMeans, Mean
from sana_wm_gym.evaluation.bench.layout import PUBLIC_NAMES, split_of
from sana_wm_gym.evaluation.control.summary import SplitSummary
from sana_wm_gym.metrics import RELEASE
from sana_wm_gym.metrics.drift import PROXIES, WINDOW_S
from sana_wm_gym.metrics.revisit import RevisitSummary
from sana_wm_gym.tables import NONE, Table, cell

CAVEAT = (
    "Published rows are other people's numbers on other data: weights, hardware and 480p or 720p "
    "videos of the authors, mean of 80 scenes, poses by a learned estimator. They are printed for "
    "orientation and do not compare one to one with an embedded 64 px world."
)
_FLOOR, _STILL, _LEVEL = "  floor: true frames", "  null: motionless", "  null: never turning"
_TEXT = ("split", "method", "params", "resolution", "gpus_per_clip")

Cells = tuple[str, ...]


@dataclass(frozen=True)
class Published:
    """One printed row: a method with its parameters and resolution, and numbers by column."""

    method: str
    values: Mapping[str, float]


@cache
def _document() -> dict[str, Any]:
    path = Path(__file__).with_name("published.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def published(table: str, split: str) -> tuple[Published, ...]:
    """Printed rows of a split.

    Args:
        table: `main` (RotErr in degrees, TransErr in metres, CamMC, peak_mem in GB, throughput in
            videos per hour on 8 H100) or `revisit` (PSNR, SSIM, LPIPS).
        split: Which split.
    """
    return tuple(
        Published(
            f"{row['method']} ({row['params']}, {row['resolution']})",
            {key: float(value) for key, value in row.items() if key not in _TEXT},
        )
        for row in _document()[table]
        if row["split"] == PUBLIC_NAMES[split_of(split)]
    )


def split_tables(name: str, summary: SplitSummary) -> list[Table]:
    """All tables of a split, of videos made by `name`; those without a number are left out."""
    tables = [
        _camera_table(name, summary),
        _strict_table(name, summary),
        _revisit_table(name, summary),
    ]
    if summary.windows:
        tables.append(_window_table(name, summary))
    if summary.drift is not None and summary.drift.windows:
        tables.append(_drift_table(summary))
    if summary.cost is not None:
        tables.append(_cost_table(name, summary))
    return tables


def failure_table(summaries: Sequence[SplitSummary]) -> Table | None:
    """Everything without a result, with its code; None where nothing failed."""
    rows = tuple(
        (summary.split, failure.scene, failure.what, failure.code, failure.message)
        for summary in summaries
        for failure in summary.failures
    )
    return (
        Table("Failures", ("split", "scene", "no result for", "code", "why"), rows)
        if rows
        else None
    )


def scene_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """A line per scene."""
    heads = ("split", "scene", "path", "outside training", "RotErr deg", "TransErr m", "CamMC",
             "poses read", "revisit PSNR", "PSNR to truth")  # fmt: skip
    return Table("Scenes", heads, tuple(map(_scene_row, results)))


def _codes(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))


def _error_rows(name: str, score: AggregateScore, floor_frames: tuple[int, int]) -> list[Cells]:
    """Errors of the videos, of true frames and of the null cameras, with what they cover."""

    def row(label: str, means: ErrorMeans, covers: str) -> Cells:
        def shown(mean: Mean, digits: int) -> str:
            codes = _codes(mean.codes)
            if mean.value is None:
                return codes or NONE
            return cell(mean.value, digits) + (f" ({codes})" if codes else "")

        errors = shown(means.rot_err, 2), shown(means.trans_err, 3), shown(means.cam_mc, 3)
        return (label, *errors, covers)

    failures = f"; {_codes(score.failures)}" if score.failures else ""
    rows = [row(f"{name} ({score.source or 'no pose'})", score.rollout, score.coverage + failures)]
    scored = score.clips_scored
    if score.floor.rot_err.clips or score.floor.rot_err.codes:
        clips = f"{score.floor.rot_err.clips}/{scored} of these clips"
        rows.append(row(_FLOOR, score.floor, f"{clips}, {'/'.join(map(str, floor_frames))} frames"))
    covers = f"{scored}/{score.clips_asked} clips"
    return [*rows, row(_STILL, score.motionless, covers), row(_LEVEL, score.no_rotation, covers)]


def _notes(score: AggregateScore) -> list[str]:
    notes = []
    if score.estimator is not None:
        modes = _codes(score.modes) or "none"
        notes.append(f"Poses {score.source} by {score.estimator}; clips by mode: {modes}.")
    own, still = score.rollout.rot_err.value, score.motionless.rot_err.value
    if own is not None and still:
        notes.append(
            f"RotErr is {own / still:.2f} of what a camera that never moves scores on these clips "
            f"({still:.2f}); commands differ between benches, so read the ratio before the number."
        )
    if score.clips_scored < score.clips_asked:
        notes.append(
            f"Means are over {score.clips_scored} of {score.clips_asked} clips: those whose poses "
            "could be read, which are not the typical ones."
        )
    at_floor = [error for error, mark in score.floor_marks.items() if mark.mean_at_floor]
    if at_floor:
        notes.append(f"Under twice the floor, so no ranking on it: {', '.join(at_floor)}.")
    return notes


def _camera_table(name: str, summary: SplitSummary) -> Table:
    """RotErr, TransErr, CamMC under the headline convention."""
    rows = _error_rows(name, summary.release, summary.floor_frames)
    others = [
        (row.method, *(cell(row.values[k]) for k in ("RotErr", "TransErr", "CamMC")), "published")
        for row in published("main", summary.split)
    ]
    notes = _notes(summary.release)
    if summary.stored_floor is not None:
        notes.append(f"Stored floor of the estimator: {summary.stored_floor}.")
    return Table(
        f"Camera control, {summary.split} ({RELEASE.name}: orientation offset and scale forgiven)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "covers"),
        (*rows, *others),
        (*notes, CAVEAT, f"Published: {_document()['source']}."),
        dim_from=len(rows),
    )


def _strict_table(name: str, summary: SplitSummary) -> Table:
    """The same errors with frame 0 shared, and the fitted scale; nobody publishes these."""
    score = summary.strict
    scales = {_FLOOR: cell(score.floor.scale.value, 3), _STILL: NONE, _LEVEL: NONE}
    own = cell(score.rollout.scale.value, 3)
    rows = _error_rows(name, score, summary.floor_frames)
    return Table(
        f"Camera control, {summary.split} (scale_only: frame 0 shared, one scale fitted)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "scale", "covers"),
        tuple((*row[:4], scales.get(row[0], own), row[4]) for row in rows),
        ("The scale brings the estimator's unit to metres, so it ranks nothing by itself where "
         "poses are estimated.",),
    )  # fmt: skip


def _revisit_table(name: str, summary: SplitSummary) -> Table:
    """How alike frames are when the camera comes back."""
    lpips = summary.revisit.split is not None and summary.revisit.split.lpips is not None
    columns = 3 if lpips else 2

    def numbers(psnr: float | None, ssim: float | None, distance: float | None) -> Cells:
        return (cell(psnr), cell(ssim, 3), cell(distance, 3))[:columns]

    def row(label: str, revisits: RevisitSummary) -> Cells:
        means = revisits.split
        shown = numbers(means.psnr_db, means.ssim, means.lpips) if means else (NONE,) * columns
        covers = (
            f"{revisits.pairs_scored}/{revisits.pairs_asked} pairs, "
            f"{revisits.scenes_scored}/{summary.asked} scenes"
        )
        skipped = f"; {_codes(revisits.skipped)}" if revisits.skipped else ""
        return (label, *shown, covers + skipped)

    rows = [row(name, summary.revisit)]
    if summary.twin_revisit is not None:
        rows.append(row("  true frames", summary.twin_revisit))
    others = [
        (one.method, *numbers(*(one.values[k] for k in ("PSNR", "SSIM", "LPIPS"))), "published")
        for one in published("revisit", summary.split)
    ]
    absent = [] if lpips else [f"No LPIPS column: {why}." for why in summary.revisit.lpips_absent]
    return Table(
        f"Revisit memory, {summary.split}",
        ("method", *("PSNR dB ↑", "SSIM ↑", "LPIPS ↓")[:columns], "covers"),
        (*rows, *others),
        ("A video that never moves is perfect here: read it next to the camera errors.", *absent),
        dim_from=len(rows),
    )


def _window_table(name: str, summary: SplitSummary) -> Table:
    rows = tuple(
        (
            f"{window.begin_s:g}-{window.end_s:g} s",
            cell(window.psnr_db.value),
            cell(window.repeat_db.value),
            f"{window.psnr_db.clips}/{summary.asked} scenes",
        )
        for window in summary.windows
    )
    heads = ("window", f"{name}, PSNR dB ↑", "first frame repeated", "covers")
    return Table(f"PSNR to the true video, {summary.split}", heads, rows)


def _drift_table(summary: SplitSummary) -> Table:
    """No-reference proxies by windows, those of the true videos behind the bar."""
    drift, twin = summary.drift, summary.twin_drift
    assert drift is not None
    rows = []
    for number, values in enumerate(drift.windows):
        cells = [f"{values[proxy.name]:.3g}" for proxy in PROXIES]
        if twin is not None and number < len(twin.windows):
            true = [f"{twin.windows[number][proxy.name]:.3g}" for proxy in PROXIES]
            cells = [f"{own} / {truth}" for own, truth in zip(cells, true, strict=True)]
        covers = f"{drift.clips[number]}/{summary.asked} scenes"
        rows.append((f"{WINDOW_S * number:g} s on", *cells, covers))
    heads = [proxy.name.replace("_", " ") for proxy in PROXIES]
    return Table(
        f"Drift, {summary.split}: video{'' if twin is None else ' / truth'}",
        ("window of 10 s", *heads, "covers"),
        tuple(rows),
        ("These are this project's own picture statistics, not VBench's imaging quality.",),
    )


def _cost_table(name: str, summary: SplitSummary) -> Table:
    cost = summary.cost
    assert cost is not None
    gpu = "" if cost.peak_gpu_mb is None else f", {cost.peak_gpu_mb / 1e3:.2f} GPU"
    memory = f"{cost.peak_memory_mb / 1e3:.2f} host{gpu}"
    where = f"{cost.seconds.clips}/{summary.asked} videos; {', '.join(cost.devices)}"
    own = (name, cell(cost.frames_per_s.value, 1), cell(cost.videos_per_hour, 1), memory, where)
    others = [
        (row.method, NONE, cell(row.values["throughput"], 1), f"{row.values['peak_mem']:g} GPU",
         "published, 8 H100")
        for row in published("main", summary.split)
    ]  # fmt: skip
    return Table(
        f"Speed, {summary.split}",
        ("method", "frames/s ↑", "videos/hour ↑", "peak memory GB ↓", "on"),
        (own, *others),
        ("Ours: time inside the world, one video at a time per process, largest of all videos.",),
        dim_from=1,
    )


def _scene_row(result: Mapping[str, Any]) -> Cells:
    outside = ", ".join(result["outside_training"]) or NONE
    head = (result["split"], result["scene"], result["trajectory"], outside)
    if result["status"] != "scored":
        return (*head, result["code"], *[NONE] * 5)
    pose, revisit, twin = result["pose"], result["revisit"]["mean"], result["twin"]
    score = pose["scores"][RELEASE.name]
    still = "reference_static" in score.get("flags", ())
    values = [window["psnr_db"] for window in twin["windows"]] if twin else []
    return (
        *head,
        score["code"] if "code" in score else cell(score["RotErr"]),
        *(cell(None if still else score.get(key), 3) for key in ("TransErr", "CamMC")),
        f"{pose['frames_scored']}/{pose['frames_asked']} {pose['mode']}",
        cell(revisit["psnr_db"] if revisit else None),
        cell(sum(values) / len(values) if values else None),
    )
