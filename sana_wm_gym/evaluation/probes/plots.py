"""Each probe's result as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.probes.gates import GateStability
from sana_wm_gym.evaluation.probes.horizon import Horizon
from sana_wm_gym.evaluation.probes.novel_control import NovelControl
from sana_wm_gym.evaluation.probes.persistence import Persistence
from sana_wm_gym.evaluation.probes.report import Result
from sana_wm_gym.files import atomic_path


def draw(result: Result, path: Path) -> None:
    """The result's picture, png.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as missing:
        raise ModuleNotFoundError(
            "plots need matplotlib: pip install sana_wm_gym[viz]"
        ) from missing
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    match result:
        case Persistence():
            figure = _draw_persistence(result, plt)
        case GateStability():
            figure = _draw_gates(result, plt)
        case Horizon():
            figure = _draw_horizon(result, plt)
        case NovelControl():
            figure = _draw_novel(result, plt)
    figure.tight_layout()
    with atomic_path(path) as partial:
        figure.savefig(partial, dpi=110)
    plt.close(figure)


def _draw_persistence(result: Persistence, plt: Any) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    elapsed = [one.elapsed_s for one in result.returns]
    lines = (
        ("world", "tab:blue", "o-"),
        ("stayed", "tab:green", "s--"),
        ("stuck", "tab:red", "v--"),
        ("mean_colour", "0.6", ":"),
    )
    for axis, measure, label in zip(axes, ("psnr_db", "ssim"), ("PSNR / dB", "SSIM"), strict=True):
        for name, colour, style in lines:
            spreads = [getattr(getattr(one, name), measure) for one in result.returns]
            axis.errorbar(
                elapsed,
                [spread.mean for spread in spreads],
                [spread.std for spread in spreads],
                fmt=style,
                color=colour,
                label=name.replace("_", " "),
                capsize=3,
            )
        axis.set(xlabel="seconds since the first view", ylabel=label)
    twins = [one.twin for one in result.returns if one.twin is not None]
    if twins:
        axes[0].set_title(f"twin: {twins[0].psnr_db.mean:.0f} dB")
        axes[1].axhline(twins[0].ssim.mean, color="k", lw=0.8, label="twin")
    axes[1].legend(fontsize=8)
    return figure


def _draw_gates(result: GateStability, plt: Any) -> Any:
    figure, axes = plt.subplots(2, 2, figsize=(10, 6.4))
    first = result.runs[0]
    for axis, name in zip(axes[0], ("transition_norm", "state_norm"), strict=True):
        for block, peaks in zip(
            dict.fromkeys(head.block for head in first.heads),
            getattr(first.trace, name),
            strict=True,
        ):
            axis.plot(first.trace.seconds, peaks, label=f"block {block}")
        axis.set(title=f"{first.name}: largest {name.replace('_', ' ')}", xlabel="seconds")
    axes[0, 0].axhline(1, color="k", lw=0.8)
    axes[0, 0].set_ylim(0, 1.1 * max(1.0, first.largest_transition_norm))
    axes[0, 1].legend(fontsize=8)
    for axis, name in zip(axes[1], ("transition_norm", "state_norm"), strict=True):
        for run in result.runs:
            rows = getattr(run.trace, name)
            if not run.trace.seconds:
                continue
            peaks = [max(column) for column in zip(*rows, strict=True)]
            axis.plot(run.trace.seconds, peaks, ".-", ms=3, label=run.name)
        axis.set(title=f"largest {name.replace('_', ' ')}", xlabel="seconds", yscale="log")
    axes[1, 0].axhline(1, color="k", lw=0.8)
    axes[1, 1].legend(fontsize=8)
    return figure


def _draw_horizon(result: Horizon, plt: Any) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    for run in result.runs:
        middle = [0.5 * (window.begin_s + window.end_s) for window in run.windows]
        left.plot(middle, [window.psnr_db for window in run.windows], "o-", label=run.name)
        read = [
            (at, value)
            for at, window in zip(middle, run.windows, strict=True)
            if (value := window.control[0].generated.rot_err) is not None
        ]
        right.plot(*zip(*read, strict=True), "o-") if read else right.plot([], [])
    first = result.runs[0].windows
    middle = [0.5 * (window.begin_s + window.end_s) for window in first]
    left.plot(middle, [window.repeat_db for window in first], "k:", label="repeat first frame")
    for name, style in (("motionless", "k:"), ("floor", "k--")):
        line = [
            (at, value)
            for at, window in zip(middle, first, strict=True)
            if (value := getattr(window.control[0], name).rot_err) is not None
        ]
        if line:
            right.plot(*zip(*line, strict=True), style, label=name)
            right.legend(fontsize=8)
    left.set(xlabel="seconds", ylabel="PSNR to the twin / dB")
    right.set(xlabel="seconds", ylabel="RotErr / deg", title="windows whose poses could be read")
    left.legend(fontsize=8)
    return figure


def _draw_novel(result: NovelControl, plt: Any) -> Any:
    figure, axis = plt.subplots(figsize=(8, 0.5 * len(result.outcomes) + 1.4))
    for row, one in enumerate(result.outcomes):
        axis.barh(
            row,
            one.margin_db.mean,
            xerr=one.margin_db.std,
            color="tab:orange" if one.outside else "tab:blue",
            capsize=3,
        )
    axis.set_yticks(range(len(result.outcomes)), [one.name for one in result.outcomes])
    axis.invert_yaxis()
    axis.axvline(0, color="k", lw=0.8)
    axis.set(
        xlabel="PSNR to the twin above the repeated first frame / dB",
        title="blue: inside of training, orange: outside",
    )
    return figure
