"""The benchmark's tables, next to the numbers that the SANA-WM paper prints."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.aggregate import code_counts
from sana_wm_gym.evaluation.bench.layout import PUBLIC_NAMES, split_of
from sana_wm_gym.evaluation.control.summary import Summary
from sana_wm_gym.metrics import RELEASE
from sana_wm_gym.metrics.drift import PROXIES, WINDOW_S
from sana_wm_gym.tables import NONE, Table, cell

CAVEAT = (
    "Published rows are other people's numbers on other data: weights, hardware and 480p or 720p "
    "videos of the authors, mean of 80 scenes, poses by a learned estimator. They are printed for "
    "orientation and do not compare one to one with an embedded 64 px world."
)
_ERRORS = {"rot_err": 2, "trans_err": 3, "cam_mc": 3}  # and their digits
_FLOOR, _STILL, _LEVEL = "  floor: true frames", "  null: motionless", "  null: never turning"

Cells = tuple[str, ...]
Values = Mapping[str, Any]


@cache
def _document() -> dict[str, Any]:
    path = Path(__file__).with_name("published.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))


def published(table: str, split: str) -> dict[str, dict[str, float]]:
    """Printed rows of a split: numbers by column, by method with its parameters and resolution.

    Args:
        table: `main` (RotErr in degrees, TransErr in metres, CamMC, peak_mem in GB, throughput in
            videos per hour on 8 H100) or `revisit` (PSNR, SSIM, LPIPS).
        split: Which split.
    """
    text = ("split", "method", "params", "resolution", "gpus_per_clip")
    return {
        f"{row['method']} ({row['params']}, {row['resolution']})": {
            key: float(value) for key, value in row.items() if key not in text
        }
        for row in _document()[table]
        if row["split"] == PUBLIC_NAMES[split_of(split)]
    }


def report_tables(name: str, summaries: Sequence[Summary]) -> list[Table]:
    """All tables of splits, of videos made by `name`; those without a number are left out."""
    tables = []
    for summary in summaries:
        tables += [_camera_table(name, summary), _strict_table(name, summary)]
        tables.append(_revisit_table(name, summary))
        if summary["windows"]:
            tables.append(_window_table(name, summary))
        if summary["drift"] and summary["drift"]["windows"]:
            tables.append(_drift_table(summary))
        if summary["cost"]:
            tables.append(_cost_table(name, summary))
    failures = tuple(
        (summary["split"], *(failure[key] for key in ("scene", "what", "code", "message")))
        for summary in summaries
        for failure in summary["failures"]
    )
    heads = ("split", "scene", "no result for", "code", "why")
    return [*tables, Table("Failures", heads, failures)] if failures else tables


def scene_table(results: Sequence[Values]) -> Table:
    """A line per scene."""
    heads = ("split", "scene", "path", "outside training", "RotErr deg", "TransErr m", "CamMC",
             "poses read", "revisit PSNR", "PSNR to truth")  # fmt: skip
    return Table("Scenes", heads, tuple(map(_scene_row, results)))


def _scene_row(result: Values) -> Cells:
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


def _error_rows(name: str, score: Values, floor_frames: Sequence[int]) -> list[Cells]:
    """Errors of the videos, of true frames and of the null cameras, with what they cover."""

    def shown(mean: Values, digits: int) -> str:
        codes = code_counts(mean["codes"])
        if mean["value"] is None:
            return codes or NONE
        return cell(mean["value"], digits) + (f" ({codes})" if codes else "")

    def row(label: str, means: Values, covers: str) -> Cells:
        return (label, *(shown(means[key], digits) for key, digits in _ERRORS.items()), covers)

    scored, clips = score["clips_scored"], f"{score['clips_scored']}/{score['clips_asked']} clips"
    covers = f"{clips}, {score['frames_scored']}/{score['frames_asked']} frames"
    failures = f"; {code_counts(score['failures'])}" if score["failures"] else ""
    rows = [row(f"{name} ({score['source'] or 'no pose'})", score["rollout"], covers + failures)]
    floor = score["floor"]["rot_err"]
    if floor["clips"] or floor["codes"]:
        frames = "/".join(map(str, floor_frames))
        covers = f"{floor['clips']}/{scored} of these clips, {frames} frames"
        rows.append(row(_FLOOR, score["floor"], covers))
    rows.append(row(_STILL, score["motionless"], clips))
    return [*rows, row(_LEVEL, score["no_rotation"], clips)]


def _notes(summary: Summary) -> list[str]:
    score, notes = summary["release"], []
    if score["estimator"] is not None:
        modes = code_counts(score["modes"]) or "none"
        notes.append(f"Poses {score['source']} by {score['estimator']}; clips by mode: {modes}.")
    own, still = (score[key]["rot_err"]["value"] for key in ("rollout", "motionless"))
    if own is not None and still:
        notes.append(
            f"RotErr is {own / still:.2f} of what a camera that never moves scores on these clips "
            f"({still:.2f}); commands differ between benches, so read the ratio before the number."
        )
    if score["clips_scored"] < score["clips_asked"]:
        notes.append(
            f"Means are over {score['clips_scored']} of {score['clips_asked']} clips: those whose "
            "poses could be read, which are not the typical ones."
        )
    at_floor = [error for error, mark in score["floor_marks"].items() if mark["mean_at_floor"]]
    if at_floor:
        notes.append(f"Under twice the floor, so no ranking on it: {', '.join(at_floor)}.")
    if summary["stored_floor"]:
        notes.append(f"Stored floor of the estimator: {summary['stored_floor']}.")
    return notes


def _camera_table(name: str, summary: Summary) -> Table:
    """RotErr, TransErr, CamMC under the headline convention."""
    rows = _error_rows(name, summary["release"], summary["floor_frames"])
    others = [
        (method, *(cell(row[key]) for key in ("RotErr", "TransErr", "CamMC")), "published")
        for method, row in published("main", summary["split"]).items()
    ]
    return Table(
        f"Camera control, {summary['split']} "
        f"({RELEASE.name}: orientation offset and scale forgiven)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "covers"),
        (*rows, *others),
        (*_notes(summary), CAVEAT, f"Published: {_document()['source']}."),
        dim_from=len(rows),
    )


def _strict_table(name: str, summary: Summary) -> Table:
    """The same errors with frame 0 shared, and the fitted scale."""
    score = summary["strict"]
    own, floor = (cell(score[key]["scale"]["value"], 3) for key in ("rollout", "floor"))
    scales = {_FLOOR: floor, _STILL: NONE, _LEVEL: NONE}
    rows = _error_rows(name, score, summary["floor_frames"])
    note = "The scale brings the estimator's unit to metres, so it ranks nothing by itself where"
    return Table(
        f"Camera control, {summary['split']} (scale_only: frame 0 shared, one scale fitted)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "scale", "covers"),
        tuple((*row[:4], scales.get(row[0], own), row[4]) for row in rows),
        (f"{note} poses are estimated.",),
    )


def _revisit_table(name: str, summary: Summary) -> Table:
    """How alike frames are when the camera comes back."""
    columns = {"psnr_db": ("PSNR", 2), "ssim": ("SSIM", 3), "lpips": ("LPIPS", 3)}
    lpips = "lpips" in (summary["revisit"]["split"] or {})
    if not lpips:
        del columns["lpips"]
    digits = [count for _, count in columns.values()]

    def shown(values: Values, keys: Iterable[str]) -> Cells:
        return tuple(cell(values.get(k), count) for k, count in zip(keys, digits, strict=True))

    def row(label: str, revisits: Values) -> Cells:
        covers = (
            f"{revisits['pairs_scored']}/{revisits['pairs_asked']} pairs, "
            f"{revisits['scenes_scored']}/{summary['asked']} scenes"
        )
        skipped = f"; {code_counts(revisits['skipped'])}" if revisits["skipped"] else ""
        return (label, *shown(revisits["split"] or {}, columns), covers + skipped)

    rows = [row(name, summary["revisit"])]
    if summary["twin_revisit"] is not None:
        rows.append(row("  true frames", summary["twin_revisit"]))
    others = [
        (method, *shown(values, [key for key, _ in columns.values()]), "published")
        for method, values in published("revisit", summary["split"]).items()
    ]
    absent = [] if lpips else summary["revisit"]["lpips_absent"]
    return Table(
        f"Revisit memory, {summary['split']}",
        ("method", *("PSNR dB ↑", "SSIM ↑", "LPIPS ↓")[: len(columns)], "covers"),
        (*rows, *others),
        ("A video that never moves is perfect here: read it next to the camera errors.",
         *(f"No LPIPS column: {reason}." for reason in absent)),
        dim_from=len(rows),
    )  # fmt: skip


def _window_table(name: str, summary: Summary) -> Table:
    rows = tuple(
        (
            f"{window['begin_s']:g}-{window['end_s']:g} s",
            *(cell(window[key]["value"]) for key in ("psnr_db", "repeat_db")),
            f"{window['psnr_db']['clips']}/{summary['asked']} scenes",
        )
        for window in summary["windows"]
    )
    heads = ("window", f"{name}, PSNR dB ↑", "first frame repeated", "covers")
    return Table(f"PSNR to the true video, {summary['split']}", heads, rows)


def _drift_table(summary: Summary) -> Table:
    """No-reference proxies by windows, those of the true videos behind the slash."""
    drift, twin = summary["drift"], summary["twin_drift"]
    rows = []
    for number, values in enumerate(drift["windows"]):
        kinds = [values, *(twin["windows"][number : number + 1] if twin else [])]
        cells = (" / ".join(f"{kind[proxy.name]:.3g}" for kind in kinds) for proxy in PROXIES)
        covers = f"{drift['clips'][number]}/{summary['asked']} scenes"
        rows.append((f"{WINDOW_S * number:g} s on", *cells, covers))
    return Table(
        f"Drift, {summary['split']}: video{' / truth' if twin else ''}",
        ("window of 10 s", *(proxy.name.replace("_", " ") for proxy in PROXIES), "covers"),
        tuple(rows),
        ("These are this project's own image statistics, not VBench's imaging quality.",),
    )


def _cost_table(name: str, summary: Summary) -> Table:
    cost, gpu = summary["cost"], summary["cost"]["peak_gpu_mb"]
    own = (
        name,
        cell(cost["frames_per_s"]["value"], 1),
        cell(cost["videos_per_hour"], 1),
        f"{cost['peak_memory_mb'] / 1e3:.2f} host" + (f", {gpu / 1e3:.2f} GPU" if gpu else ""),
        f"{cost['seconds']['clips']}/{summary['asked']} videos; {', '.join(cost['devices'])}",
    )
    others = [
        (method, NONE, cell(row["throughput"], 1), f"{row['peak_mem']:g} GPU", "published, 8 H100")
        for method, row in published("main", summary["split"]).items()
    ]
    return Table(
        f"Speed, {summary['split']}",
        ("method", "frames/s ↑", "videos/hour ↑", "peak memory GB ↓", "on"),
        (own, *others),
        ("Ours: time inside the world, one video at a time per process, largest of all videos.",),
        dim_from=1,
    )
