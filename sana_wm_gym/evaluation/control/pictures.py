"""Pictures for the report: strips of frames as png, camera paths as svg. Nothing is linked."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sana_wm_gym.files import atomic_path
from sana_wm_gym.video import Frames

COLUMNS = 7
_LARGEST = 128  # pixels across; smaller frames keep their size

PATH_COLOURS = {"commanded": "#222222", "truth_estimated": "#3b82c4", "estimated": "#d9472b"}
"""Path -> line colour."""
_NAMES = {
    "commanded": "commanded",
    "truth_estimated": "read from true frames",
    "estimated": "read from the video",
}
_SIDE, _PAD = 220, 14  # pixels of a plot


def strip_times(frames: int, fps: float) -> list[float]:
    """Seconds that a strip's columns show."""
    return [float(i / fps) for i in _picks(frames)]


def _picks(frames: int) -> list[int]:
    return np.linspace(0, frames - 1, COLUMNS).round().astype(int).tolist()


def write_strip(path: Path, frames: Frames, truth: Frames | None) -> None:
    """Frames at even times from left to right, true ones above where there are any."""
    rows = [frames] if truth is None else [truth, frames]
    height, width = frames.shape[1:3]
    shrink = min(1.0, _LARGEST / width)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    sheet = Image.new("RGB", (COLUMNS * size[0], len(rows) * size[1]))
    for row, video in enumerate(rows):
        for column, index in enumerate(_picks(len(frames))):
            picture = Image.fromarray(video[index])
            if shrink < 1:
                picture = picture.resize(size, Image.Resampling.LANCZOS)
            sheet.paste(picture, (column * size[0], row * size[1]))
    with atomic_path(path) as partial:
        sheet.save(partial, format="png", optimize=True)


def path_plots(paths: Mapping[str, Any], label: str) -> str:
    """Two inline svg pictures of camera centres: seen from above, and height along the way."""
    lines = {name: np.array(paths[name]) for name in PATH_COLOURS if paths.get(name) is not None}
    above = {name: line[:, [0, 2]] for name, line in lines.items()}
    # y points down in camera axes; the plot's upward axis is height.
    height = {
        name: np.stack([np.linspace(0, 1, len(line)), -line[:, 1]], axis=1)
        for name, line in lines.items()
    }
    return _plot(above, f"{label}, from above", "x / m", "z / m", same_scale=True) + _plot(
        height, f"{label}, height", "share of the path", "up / m", same_scale=False
    )


def legend(paths: Mapping[str, Any]) -> str:
    """What the colours mean, for the paths that are there; html."""
    return " ".join(
        f'<span style="color:{colour}">&#9632; {_NAMES[name]}</span>'
        for name, colour in PATH_COLOURS.items()
        if paths.get(name) is not None
    )


def _plot(lines: Mapping[str, Any], title: str, across: str, upward: str, same_scale: bool) -> str:
    points = np.concatenate(list(lines.values()))
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.maximum(high - low, 1e-3)
    if same_scale:
        span = np.full(2, span.max())
    middle = (low + high) / 2
    drawn = []
    for name, line in lines.items():
        unit = (line - middle) / span + 0.5
        xy = np.stack([unit[:, 0], 1 - unit[:, 1]], axis=1) * (_SIDE - 2 * _PAD) + _PAD
        drawn.append(_polyline(xy, PATH_COLOURS[name]))
    start = (lines["commanded"][0] - middle) / span + 0.5
    x, y = start[0] * (_SIDE - 2 * _PAD) + _PAD, (1 - start[1]) * (_SIDE - 2 * _PAD) + _PAD
    extent = f"{high[0] - low[0]:.2f} x {high[1] - low[1]:.2f}"
    return (
        f'<svg viewBox="0 0 {_SIDE} {_SIDE + 18}" width="{_SIDE}" height="{_SIDE + 18}" '
        f'role="img" aria-label="{escape(title)}"><title>{escape(title)}</title>'
        f'<rect width="{_SIDE}" height="{_SIDE}" fill="#fff" stroke="#ccc"/>'
        + "".join(drawn)
        + f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="#222"/>'
        + f'<text x="4" y="{_SIDE + 13}" font-size="10">{escape(across)} by {escape(upward)}, '
        f"{extent}</text></svg>"
    )


def _polyline(xy: Any, colour: str) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in xy)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
