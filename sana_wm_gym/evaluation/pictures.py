"""Rollouts as images: strips of frames, time to the right, an animated grid, and camera paths."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sana_wm_gym.files import write_bytes

Frames = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float64]

ENLARGED = 3
MOVING_BYTES = 2_000_000
"""Largest animation."""
_MARGIN, _HEADER, _GAP = 78, 22, 10
_INK, _PAPER = (60, 60, 60), (255, 255, 255)
_QUALITIES = (85, 75, 65, 50, 35, 20)
_COLOURS = ("#222222", "#3b82c4", "#d9472b")
_SIDE, _PAD = 300, 20  # pixels of a plot of paths
_COLUMNS = 2  # of an animation


@dataclass(frozen=True)
class Strip:
    """One clip: rows of a label and frames uint8 [n, H, W, 3] at the same instants."""

    rows: Sequence[tuple[str, Frames]]


def write_strips(
    path: Path, strips: Sequence[Strip], times: Sequence[str], factor: float = ENLARGED
) -> None:
    """Draw clips below each other, labels in the margin.

    Args:
        path: PNG file, written in one step.
        strips: Clips with n frames in every row.
        times: Label of each of the n columns.
        factor: Size of a frame over its own.
    """
    height, width = enlarge(strips[0].rows[0][1][0], factor).size[::-1]
    row, column = height + 2, width + 2
    size = (
        _MARGIN + column * len(times),
        _HEADER + sum(row * len(strip.rows) + _GAP for strip in strips),
    )
    sheet = Image.new("RGB", size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for index, text in enumerate(times):
        draw.text((_MARGIN + index * column + width / 2, 4), text, _INK, font, anchor="mt")
    top = _HEADER
    for strip in strips:
        for label, frames in strip.rows:
            draw.text((_MARGIN - 8, top + height / 2), label, _INK, font, anchor="rm")
            for index, frame in enumerate(frames):
                sheet.paste(enlarge(frame, factor), (_MARGIN + index * column, top))
            top += row
        top += _GAP
    _write_png(path, sheet)


def write_paths(path: Path, lines: Mapping[str, Array]) -> None:
    """Plot up to three camera paths twice: from above, one scale for both axes, and the height
    along the way.

    Args:
        path: PNG file, written in one step.
        lines: Label -> camera centres [n, 3] in metres, axes right, down, ahead. The start of the
            first is marked.
    """
    above = [line[:, [0, 2]] for line in lines.values()]
    along = [
        np.stack([np.linspace(0, 1, len(line)), -line[:, 1]], axis=1) for line in lines.values()
    ]
    sheet = Image.new("RGB", (2 * _SIDE, _SIDE + _HEADER * (1 + len(lines))), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, label in enumerate(lines):
        place = (_PAD, _SIDE + _HEADER * (1 + index))
        draw.text(place, label, _COLOURS[index], font)
    for left, plot, title in ((0, above, "from above"), (_SIDE, along, "height along the path")):
        points = np.concatenate(plot)
        low, high = points.min(axis=0), points.max(axis=0)
        extent = high - low
        span = np.maximum(np.full(2, extent.max()) if plot is above else extent, 1e-3)
        metres = " x ".join(f"{side:.2f}" for side in (extent if plot is above else extent[1:]))
        draw.text((left + _PAD, _SIDE), f"{title}, {metres} m", _INK, font)
        for index, line in enumerate(plot):
            unit = (line - (low + high) / 2) / span * (1, -1) + 0.5
            pixels = (unit * (_SIDE - 2 * _PAD) + _PAD + (left, 0)).tolist()
            draw.line([tuple(pixel) for pixel in pixels], _COLOURS[index], 2)
            if index == 0:
                draw.circle(pixels[0], 4, _COLOURS[0])
    _write_png(path, sheet)


def _write_png(path: Path, sheet: Image.Image) -> None:
    encoded = io.BytesIO()
    sheet.save(encoded, format="png", optimize=True)
    write_bytes(path, encoded.getvalue())


def write_moving(path: Path, strips: Sequence[Strip], fps: float) -> None:
    """Animate clips in two columns, the rows of each next to each other, as a WebP of at most
    `MOVING_BYTES`, enlarged smoothly, in the best quality that fits.

    Args:
        path: WebP file, written in one step.
        strips: Clips with the same labels and n frames in every row.
        fps: Frames per second.
    """
    labels = [label for label, _ in strips[0].rows]
    count, height, width = strips[0].rows[0][1].shape[:3]
    height, width = ENLARGED * height, ENLARGED * width
    cell = (len(labels) * (width + 2) + _GAP, height + 2)
    lines = -(-len(strips) // _COLUMNS)
    blank = Image.new("RGB", (_COLUMNS * cell[0] - _GAP, _HEADER + lines * cell[1]), _PAPER)
    draw, font = ImageDraw.Draw(blank), ImageFont.load_default(13)
    for column in range(min(_COLUMNS, len(strips))):
        for index, label in enumerate(labels):
            middle = column * cell[0] + index * (width + 2) + width / 2
            draw.text((middle, 4), label, _INK, font, anchor="mt")
    sheets = []
    for instant in range(count):
        sheet = blank.copy()
        for number, strip in enumerate(strips):
            line, column = divmod(number, _COLUMNS)
            for index, (_, frames) in enumerate(strip.rows):
                corner = (column * cell[0] + index * (width + 2), _HEADER + line * cell[1])
                picture = enlarge(frames[instant], method=Image.Resampling.BICUBIC)
                sheet.paste(picture, corner)
        sheets.append(sheet)
    # Whole milliseconds per frame whose sum keeps the rate.
    ends = np.round(np.arange(count + 1) * 1000 / fps).astype(int)
    durations = np.diff(ends).tolist()
    for quality in _QUALITIES:
        encoded = io.BytesIO()
        options = {"duration": durations, "loop": 0, "quality": quality, "method": 4}
        sheets[0].save(encoded, "webp", save_all=True, append_images=sheets[1:], **options)
        if encoded.tell() <= MOVING_BYTES:
            break
    write_bytes(path, encoded.getvalue())


def enlarge(
    frame: Frames, factor: float = ENLARGED, method: Image.Resampling | None = None
) -> Image.Image:
    """A frame uint8 [H, W, 3] that many times as large, by default with square pixels, or smoothed
    where it shrinks."""
    height, width = (max(1, round(factor * side)) for side in frame.shape[:2])
    if method is None:
        method = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    return Image.fromarray(frame).resize((width, height), method)
