"""Rollouts as pictures: strips of frames, time to the right, and a moving grid."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sana_wm_gym.files import write_bytes

Frames = npt.NDArray[np.uint8]

ENLARGED = 3
MOVING_BYTES = 2_000_000
"""Largest moving picture."""
_MARGIN, _HEADER, _GAP = 78, 22, 10
_INK, _PAPER = (60, 60, 60), (255, 255, 255)
_QUALITIES = (85, 75, 65, 50, 35, 20)


@dataclass(frozen=True)
class Strip:
    """One clip: rows of frames that show the same instants.

    Attributes:
        rows: Label and frames, uint8 [n, H, W, 3], top to bottom.
    """

    rows: Sequence[tuple[str, Frames]]


def write_strips(path: Path, strips: Sequence[Strip], times: Sequence[str]) -> None:
    """Draw clips below each other, every pixel enlarged to 3 x 3, labels in the margin.

    Args:
        path: PNG file; written under a temporary name, then renamed.
        strips: Clips with n frames in every row.
        times: Label of each of the n columns.
    """
    height, width = (ENLARGED * side for side in strips[0].rows[0][1].shape[1:3])
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
                sheet.paste(enlarge(frame), (_MARGIN + index * column, top))
            top += row
        top += _GAP
    encoded = io.BytesIO()
    sheet.save(encoded, format="png", optimize=True)
    write_bytes(path, encoded.getvalue())


def write_moving(path: Path, strips: Sequence[Strip], fps: float, columns: int = 2) -> None:
    """Play clips in a grid, the rows of each next to each other, as an animated WebP of at most
    `MOVING_BYTES`, enlarged smoothly, in the best quality that fits.

    Args:
        path: WebP file; written under a temporary name, then renamed.
        strips: Clips with the same labels and n frames in every row.
        fps: Frames per second.
        columns: Clips per line.
    """
    labels = [label for label, _ in strips[0].rows]
    count, height, width = strips[0].rows[0][1].shape[:3]
    height, width = ENLARGED * height, ENLARGED * width
    cell = (len(labels) * (width + 2) + _GAP, height + 2)
    lines = -(-len(strips) // columns)
    blank = Image.new("RGB", (columns * cell[0] - _GAP, _HEADER + lines * cell[1]), _PAPER)
    draw, font = ImageDraw.Draw(blank), ImageFont.load_default(13)
    for column in range(min(columns, len(strips))):
        for index, label in enumerate(labels):
            middle = column * cell[0] + index * (width + 2) + width / 2
            draw.text((middle, 4), label, _INK, font, anchor="mt")
    sheets = []
    for instant in range(count):
        sheet = blank.copy()
        for number, strip in enumerate(strips):
            line, column = divmod(number, columns)
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
        sheets[0].save(
            encoded,
            format="webp",
            save_all=True,
            append_images=sheets[1:],
            duration=durations,
            loop=0,
            quality=quality,
            method=4,
        )
        if encoded.tell() <= MOVING_BYTES:
            break
    write_bytes(path, encoded.getvalue())


def enlarge(
    frame: Frames, factor: int = ENLARGED, method: Image.Resampling = Image.Resampling.NEAREST
) -> Image.Image:
    """A frame uint8 [H, W, 3] that many times as large; by default every pixel is a square."""
    height, width = frame.shape[:2]
    return Image.fromarray(frame).resize((factor * width, factor * height), method)
