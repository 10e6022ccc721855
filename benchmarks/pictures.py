"""Strips of frames: truth over generated, time to the right."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Frames = npt.NDArray[np.uint8]

ENLARGED = 3
_MARGIN, _HEADER, _GAP = 78, 22, 10
_INK, _PAPER = (60, 60, 60), (255, 255, 255)


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
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".partial")
    sheet.save(temporary, format="png", optimize=True)
    os.replace(temporary, path)


def enlarge(frame: Frames, factor: int = ENLARGED) -> Image.Image:
    """A frame uint8 [H, W, 3] with every pixel drawn as a square."""
    return Image.fromarray(frame.repeat(factor, axis=0).repeat(factor, axis=1))
