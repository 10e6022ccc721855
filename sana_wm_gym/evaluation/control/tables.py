"""The benchmark's tables; terminal, markdown and html draw the same ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sana_wm_gym.evaluation.bench.layout import Split, split_of
from sana_wm_gym.evaluation.control.camera_tables import camera_table, strict_table
from sana_wm_gym.evaluation.control.cells import NONE, Row, Table, codes, show
from sana_wm_gym.evaluation.control.published import published
from sana_wm_gym.evaluation.control.summary import SplitSummary
from sana_wm_gym.metrics import RELEASE
from sana_wm_gym.metrics.drift import PROXIES, WINDOW_S
from sana_wm_gym.metrics.revisit import RevisitSummary


def split_tables(name: str, summary: SplitSummary) -> list[Table]:
    """All tables of a split; those without a single number are left out.

    Args:
        name: What made the videos.
        summary: Of the split.
    """
    tables = [
        camera_table(name, summary),
        strict_table(name, summary),
        revisit_table(name, summary),
    ]
    if summary.windows:
        tables.append(likeness_table(name, summary))
    if summary.drift is not None and summary.drift.windows:
        tables.append(drift_table(summary))
    if summary.cost is not None:
        tables.append(cost_table(name, summary))
    return tables


def revisit_table(name: str, summary: SplitSummary) -> Table:
    """How alike frames are when the camera comes back, beside the published numbers."""
    split = split_of(summary.split)
    lpips = summary.revisit.split is not None and summary.revisit.split.lpips is not None

    def row(label: str, revisits: RevisitSummary) -> Row:
        means = revisits.split
        covers = (
            f"{revisits.pairs_scored}/{revisits.pairs_asked} pairs, "
            f"{revisits.scenes_scored}/{summary.asked} scenes"
        )
        return (
            label,
            show(means.psnr_db if means else None, 2),
            show(means.ssim if means else None, 3),
            *([show(means.lpips if means else None, 3)] if lpips else []),
            covers + (f"; {codes(revisits.skipped)}" if revisits.skipped else ""),
        )

    rows = [row(name, summary.revisit)]
    if summary.twin_revisit is not None:
        rows.append(row("  true frames", summary.twin_revisit))
    ours = len(rows)
    for printed in published("revisit", split):
        numbers = [show(printed.values["PSNR"], 2), show(printed.values["SSIM"], 3)]
        numbers += [show(printed.values["LPIPS"], 3)] if lpips else []
        rows.append((f"{printed.method} ({printed.note})", *numbers, "published"))
    notes = ["A video that never moves is perfect here: read it beside the camera errors."]
    if not lpips:
        notes += [f"No LPIPS column: {reason}." for reason in summary.revisit.lpips_absent]
    return Table(
        f"Revisit memory, {summary.split}",
        ("method", "PSNR dB ↑", "SSIM ↑", *(["LPIPS ↓"] if lpips else []), "covers"),
        tuple(rows),
        ours,
        tuple(notes),
    )


def likeness_table(name: str, summary: SplitSummary) -> Table:
    """PSNR to the true video by windows."""
    rows = [
        (
            f"{window.begin_s:g}-{window.end_s:g} s",
            show(window.psnr_db.value, 2),
            show(window.repeat_db.value, 2),
            f"{window.psnr_db.clips}/{summary.asked} scenes",
        )
        for window in summary.windows
    ]
    return Table(
        f"Likeness to the true video, {summary.split}",
        ("window", f"{name}, PSNR dB ↑", "first frame repeated", "covers"),
        tuple(rows),
        len(rows),
    )


def drift_table(summary: SplitSummary) -> Table:
    """No-reference proxies by windows, those of the true videos behind the bar."""
    drift, twin = summary.drift, summary.twin_drift
    assert drift is not None

    def cell(proxy: str, own: Mapping[str, float], true: Mapping[str, float] | None) -> str:
        text = f"{own[proxy]:.3g}"
        return text if true is None else f"{text} | {true[proxy]:.3g}"

    rows = []
    for number, values in enumerate(drift.windows):
        true = twin.windows[number] if twin is not None and number < len(twin.windows) else None
        cells = (cell(proxy.name, values, true) for proxy in PROXIES)
        covers = f"{drift.clips[number]}/{summary.asked} scenes"
        rows.append((f"{WINDOW_S * number:g} s on", *cells, covers))
    heads = tuple(proxy.name.replace("_", " ") for proxy in PROXIES)
    return Table(
        f"Drift, {summary.split}: video{'' if twin is None else ' | truth'}",
        ("window of 10 s", *heads, "covers"),
        tuple(rows),
        len(rows),
        ("These are this project's own picture statistics, not VBench's imaging quality.",),
    )


def cost_table(name: str, summary: SplitSummary) -> Table:
    """Speed and memory, beside the published ones."""
    cost = summary.cost
    assert cost is not None
    gpu = cost.peak_gpu_mb
    memory = f"{cost.peak_memory_mb / 1e3:.2f} host" + (
        "" if gpu is None else f", {gpu / 1e3:.2f} GPU"
    )
    rows = [
        (
            name,
            show(cost.frames_per_s.value, 1),
            show(cost.videos_per_hour, 1),
            memory,
            f"{cost.seconds.clips}/{summary.asked} videos; {', '.join(cost.devices)}",
        )
    ]
    for row in published("main", split_of(summary.split)):
        rows.append(
            (
                f"{row.method} ({row.note})",
                NONE,
                show(row.values["throughput"], 1),
                f"{row.values['peak_mem']:g} GPU",
                "published, 8 H100",
            )
        )
    return Table(
        f"Speed, {summary.split}",
        ("method", "frames/s ↑", "videos/hour ↑", "peak memory GB ↓", "on"),
        tuple(rows),
        1,
        ("Ours: time inside the world, one video at a time per process, largest of all videos.",),
    )


def failure_table(summaries: Sequence[SplitSummary]) -> Table | None:
    """Everything without a result, with its code; None where nothing failed."""
    rows = [
        (summary.split, failure.scene, failure.what, failure.code, failure.message)
        for summary in summaries
        for failure in summary.failures
    ]
    if not rows:
        return None
    return Table(
        "Failures", ("split", "scene", "no result for", "code", "why"), tuple(rows), len(rows)
    )


def scene_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """A line per scene."""
    rows = [_scene_row(result) for result in results]
    return Table(
        "Scenes",
        (
            "split",
            "scene",
            "path",
            "outside training",
            "RotErr deg",
            "TransErr m",
            "CamMC",
            "poses read",
            "revisit PSNR",
            "PSNR to truth",
        ),
        tuple(rows),
        len(rows),
    )


def _scene_row(result: Mapping[str, Any]) -> Row:
    head = (
        result["split"],
        result["scene"],
        result["trajectory"],
        ", ".join(result["outside_training"]) or NONE,
    )
    if result["status"] != "scored":
        return (*head, result["code"], *[NONE] * 5)
    pose = result["pose"]
    score = pose["scores"][RELEASE.name]
    if "code" in score:
        errors: Row = (score["code"], NONE, NONE)
    else:
        still = "reference_static" in score["flags"]
        errors = (
            show(score["RotErr"], 2),
            NONE if still else show(score["TransErr"], 3),
            NONE if still else show(score["CamMC"], 3),
        )
    revisit, twin = result["revisit"]["mean"], result["twin"]
    values = [window["psnr_db"] for window in twin["windows"]] if twin else []
    return (
        *head,
        *errors,
        f"{pose['frames_scored']}/{pose['frames_asked']} {pose['mode']}",
        show(revisit["psnr_db"] if revisit else None, 2),
        show(sum(values) / len(values) if values else None, 2),
    )


def of_split(results: Mapping[tuple[str, str], Any], split: Split) -> list[Any]:
    """Results of one split, in order."""
    return [result for (name, _), result in results.items() if name == split]
