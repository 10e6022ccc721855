"""Tables of the embedded world's benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from benchmarks.first_version import SpeedRatio
from sana_wm_gym.evaluation.variant_scores import VariantScore
from sana_wm_gym.evaluation.world_scores import (
    CameraErrors,
    Check,
    Condition,
    Margin,
    PsnrErrors,
    Range,
    psnr,
)


def psnr_table(title: str, errors: PsnrErrors, chunks: Sequence[int]) -> Table:
    """PSNR per chunk, and margins with their intervals."""
    table = Table(title=title, title_justify="left")
    table.add_column("PSNR, dB", no_wrap=True)
    for chunk in chunks:
        table.add_column(f"chunk {chunk}", justify="right")
    for label, name in (
        ("own commands", "own"),
        ("shuffled commands", "shuffled"),
        ("repeat first frame", "repeat"),
        ("codec ceiling", "codec"),
    ):
        values = psnr(getattr(errors, name))
        table.add_row(label, *(f"{values[chunk - 1]:.2f}" for chunk in chunks))
    for other in ("repeat", "shuffled"):
        margin = Margin.of(errors.own, getattr(errors, other))
        at = [chunk - 1 for chunk in chunks]
        table.add_row(f"own over {other}", *(f"{margin.mean[i]:+.2f}" for i in at), style="bold")
        ends = (f"{margin.low[i]:+.1f} .. {margin.high[i]:+.1f}" for i in at)
        table.add_row("  95 % of resampled clips", *ends)
    return table


def condition_table(conditions: Sequence[Condition]) -> Table:
    """PSNR per chunk and variants, one line per condition of the same clips."""
    table = Table(
        title="Own commands, PSNR in dB, and variants shown",
        title_justify="left",
        caption="nearest: pairs of clip and surface whose nearest variant is the true one; "
        "hidden: of those, surfaces that the first frame does not show; "
        "decided: nearer to one variant than to the mean of variants",
        caption_justify="left",
    )
    table.add_column("condition")
    for heading in ("clips", "chunks 1 to n", "nearest", "hidden", "decided"):
        table.add_column(heading, justify="right", no_wrap=True)
    for condition in conditions:
        score = condition.variants
        words = ["-", "-", "-"]
        if score is not None:
            hidden = "-" if score.hidden_true is None else f"{score.hidden_true:.2f}"
            words = [
                f"{score.true:.2f} of {score.pairs}",
                f"{hidden} of {score.hidden_pairs}",
                f"{score.decided:.2f}",
            ]
        values = " ".join(f"{value:.1f}" for value in psnr(condition.own))
        table.add_row(condition.name, str(len(condition.own)), values, *words)
    return table


def surface_table(conditions: Sequence[Condition]) -> Table:
    """Nearest variants per surface, one column per condition; all of the same clips."""
    scores: dict[str, VariantScore] = {
        condition.name: condition.variants
        for condition in conditions
        if condition.variants is not None
    }
    table = Table(title="Nearest variant is the true one, by surface", title_justify="left")
    table.add_column("surface", no_wrap=True)
    table.add_column("clips", justify="right")
    for name in scores:
        table.add_column(name, justify="right")
    first = next(iter(scores.values()))
    for surface, (pairs, _) in first.surfaces.items():
        fractions = (f"{score.surfaces[surface][1]:.2f}" for score in scores.values())
        table.add_row(surface, str(pairs), *fractions)
    return table


def camera_table(summaries: Sequence[CameraErrors]) -> Table:
    """Pose errors next to those of a motionless camera and of true frames."""
    first = summaries[0]
    caption = (
        f"{first.clips_scored} of {first.clips_generated} clips and {first.frames_scored} of "
        f"{first.frames_generated} frames scored; floor from {first.floor_clips} clips; "
        f"modes: {_counts(first.modes)}; failures: {_counts(first.failures)}. Ratio of the means; "
        "in the last column a clip that failed counts as motionless."
    )
    table = Table(
        title="Camera, mean of the errors of each clip",
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for heading in ("convention", "error"):
        table.add_column(heading, no_wrap=True)
    for heading in ("generated", "motionless", "floor", "ratio", "ratio, all"):
        table.add_column(heading, justify="right")
    for summary in summaries:
        for label, means in (
            ("RotErr deg", summary.rot_err),
            ("TransErr m", summary.trans_err),
        ):
            if means is None:
                table.add_row(summary.convention, label, *["-"] * 5)
                continue
            table.add_row(
                summary.convention,
                label,
                f"{means.generated:.3f}",
                f"{means.motionless:.3f}",
                "-" if means.floor is None else f"{means.floor:.3f}",
                f"{means.ratio:.3f}",
                f"{means.ratio_with_failures:.3f}",
            )
    return table


def stability_line(chunk: int, broken: int, statistics: Range) -> str:
    """What the long rollouts end as, in a sentence."""
    return (
        f"chunks with NaN or inf: {broken}; frames of chunk {chunk} whose colour statistics lie in "
        f"the range of training frames: {statistics.inside:.3f}"
    )


def speed_line(speed: SpeedRatio) -> str:
    """The speed ratio in a sentence."""
    return (
        f"environment steps/s, {speed.threads} thread, 24 frames decoded, {speed.pairs} pairs: "
        f"{speed.steps_per_s:.2f}, first version {speed.reference_steps_per_s:.2f}; ratio "
        f"{speed.ratio:.2f} by wall-clock time, {speed.ratio_cpu:.2f} by CPU time"
    )


def check_table(checks: Sequence[Check]) -> Table:
    """Values, bounds, and whether they are kept."""
    table = Table(title="Must show", title_justify="left")
    for heading in ("what", "value", "to close this issue", ""):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    words = {True: "[green]pass[/]", False: "[red]MISS[/]", None: "[red]no value[/]"}
    for check in checks:
        value = "-" if check.value is None else f"{check.value:.3f}"
        table.add_row(check.name, value, check.bound, words[check.passed])
    return table


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"
