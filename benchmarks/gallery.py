"""The twenty benchmark trajectories in one picture: plan view, height and pitch of each.

python -m benchmarks.gallery --out outputs/gallery.png
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.synthesis import SynthesisedTrajectory, synthesise
from sana_wm_gym.camera.templates import HARD, SIMPLE
from sana_wm_gym.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 5
INK, FAINT, PAPER = "#22303c", "#aab6c0", "#ffffff"
TIME, HEIGHT, PITCH, REVISIT = "viridis", "#1f77b4", "#e07b39", "#d62728"
LOOK_EVERY_S = 2.5
"""Between two view directions drawn in a plan, seconds."""
REVISITS_SHOWN = 5


def draw_plan(axes: Axes, trajectory: SynthesisedTrajectory) -> None:
    """Path from above, ahead is up: coloured by time, with view directions and best revisits."""
    x, z = trajectory.c2w[:, 0, 3], trajectory.c2w[:, 2, 3]
    reach = max(float(np.ptp(x)), float(np.ptp(z)), 1.0)
    half = 0.72 * reach
    middle = [(float(v.max()) + float(v.min())) / 2 for v in (x, z)]
    looks = slice(0, None, round(LOOK_EVERY_S * trajectory.fps))
    ahead = 0.13 * reach * trajectory.c2w[looks, :3, 2]
    units: Any = {"angles": "xy", "scale_units": "xy", "scale": 1}
    axes.quiver(x[looks], z[looks], ahead[:, 0], ahead[:, 2], color=FAINT, width=0.007, **units)
    axes.scatter(x, z, c=np.linspace(0, 1, len(x)), cmap=TIME, s=5, linewidths=0, zorder=2)
    seen = [pair.frame_b for pair in find_revisits(trajectory.c2w, trajectory.fps)[:REVISITS_SHOWN]]
    axes.scatter(x[seen], z[seen], s=34, facecolors="none", edgecolors=REVISIT, zorder=3)
    axes.scatter(x[:1], z[:1], s=30, marker="^", color=INK, zorder=4)
    axes.set(xlim=(middle[0] - half, middle[0] + half), ylim=(middle[1] - half, middle[1] + half))
    axes.set(aspect="equal", xticks=[], yticks=[])
    left, bottom = middle[0] - 0.92 * half, middle[1] - 0.92 * half
    axes.plot([left, left + 0.5], [bottom, bottom], color=INK, lw=2, solid_capstyle="butt")
    axes.annotate("0.5 m", (left, bottom), (0, 3), textcoords="offset points", fontsize=6.5)


def draw_profile(axes: Axes, trajectory: SynthesisedTrajectory, first: bool, last: bool) -> None:
    """Height (metres, left, labelled where `first`) and pitch (degrees, right, labelled where
    `last`) over time; up is up in both."""
    seconds = np.arange(len(trajectory.c2w)) / trajectory.fps
    pitch = np.rad2deg(np.arcsin(np.clip(-trajectory.c2w[:, 1, 2], -1, 1)))
    right = axes.twinx()
    right.plot(seconds, pitch, color=PITCH, lw=1.1)
    axes.plot(seconds, -trajectory.c2w[:, 1, 3], color=HEIGHT, lw=1.6)
    axes.axhline(0, color=FAINT, lw=0.6, zorder=0)
    axes.set(xlim=(0, seconds[-1]), ylim=(-1.35, 1.35), xticks=[0, 30, 60], yticks=[-1, 0, 1])
    right.set(ylim=(-54, 54), yticks=[-40, 0, 40])
    for side, colour in ((axes, HEIGHT), (right, PITCH)):
        side.tick_params(axis="y", colors=colour, labelsize=6.5, length=2)
        side.tick_params(axis="x", colors=INK, labelsize=6.5, length=2)
        side.spines["top"].set_visible(False)
    axes.tick_params(axis="y", labelleft=first)
    right.tick_params(axis="y", labelleft=False, labelright=last)
    if first:
        axes.set_ylabel("height / m", color=HEIGHT, fontsize=7)
    if last:
        right.set_ylabel("pitch / °", color=PITCH, fontsize=7)


def compose(splits: Sequence[tuple[str, Sequence[SynthesisedTrajectory]]]) -> Figure:
    """All trajectories, one block of rows per split."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    rows = [-(-len(trajectories) // COLUMNS) for _, trajectories in splits]
    figure = Figure(figsize=(13, 3.7 * sum(rows) + 0.6), facecolor=PAPER)
    blocks: Any = figure.subfigures(len(splits), 1, height_ratios=rows, squeeze=False)[:, 0]
    for block, (title, trajectories), n_rows in zip(blocks, splits, rows, strict=True):
        block.suptitle(title, x=0.04, y=0.985, ha="left", fontsize=13, color=INK, weight="bold")
        edges = {"left": 0.05, "right": 0.95, "top": 0.91, "bottom": 0.05}
        grid = block.add_gridspec(n_rows, COLUMNS, hspace=0.2, wspace=0.12, **edges)
        for index, trajectory in enumerate(trajectories):
            row, column = divmod(index, COLUMNS)
            cell = grid[row, column].subgridspec(2, 1, height_ratios=[3.4, 1], hspace=0.06)
            plan = block.add_subplot(cell[0])
            draw_plan(plan, trajectory)
            turn, name = trajectory.smoothness.max_turn, trajectory.template.replace("_", " ")
            caption = f"{name}   {trajectory.path_length:.1f} m, up to {turn:.0f}°/s"
            plan.set_title(caption, fontsize=8.5, color=INK, loc="left", pad=4)
            draw_profile(block.add_subplot(cell[1]), trajectory, column == 0, column == COLUMNS - 1)
    bar = blocks[0].add_axes((0.72, 0.975, 0.2, 0.012))
    time = ScalarMappable(Normalize(0, 60), TIME)
    figure.colorbar(time, cax=bar, orientation="horizontal", ticks=[0, 30, 60])
    bar.tick_params(labelsize=6.5, length=2)
    bar.set_ylabel("seconds", rotation=0, ha="right", va="center", fontsize=7)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gallery", description=__doc__.split("\n\n")[0]
    )
    add, depth = parser.add_argument, "fit the paths to a scene of this depth, metres"
    add("--out", type=Path, default=Path("outputs/gallery.png"), help="picture")
    add("--median-depth", type=float, help=depth)
    args = parser.parse_args(arguments)
    if args.out.suffix != ".png":
        parser.error(f"--out is {args.out}, expected a name that ends in .png")
    if args.median_depth is not None and not args.median_depth > 0:
        parser.error(f"--median-depth is {args.median_depth}, expected metres above 0")
    splits = [
        (title, [synthesise(t, median_depth=args.median_depth) for t in templates])
        for title, templates in (("Simple", SIMPLE), ("Hard", HARD))
    ]
    try:
        figure = compose(splits)
    except ImportError:
        print('the gallery needs matplotlib: pip install "sana_wm_gym[viz]"', file=sys.stderr)
        return 1
    with atomic_path(args.out) as partial:
        figure.savefig(partial, dpi=100)
    print(f"wrote {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
