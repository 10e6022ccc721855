"""An episode as a video for people: camera view, goal, and path from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from sana_wm_gym.evaluation.pictures import enlarge

Frames = npt.NDArray[np.uint8]
Poses = npt.NDArray[np.float64]

_SIDE, _HEADER, _GAP = 256, 24, 8
_PAPER, _INK, _PATH, _GOAL = "white", "#333333", "#1f5fa8", "#d1495b"
_MARGIN = 20
_LEAST_EXTENT = 2.0


@dataclass(frozen=True, eq=False)
class EpisodeClip:
    """What is shown of an episode of n chunks of m frames."""

    frames: Frames  # [m n + 1, H, W, 3]
    c2w: Poses  # of the camera at each, [m n + 1, 4, 4]
    captions: Sequence[str] = ()  # one for each chunk
    goal: Frames | None = None  # goal image, [h, w, 3]
    goal_c2w: Poses | None = None  # its pose, [4, 4], where it is known
    frames_per_chunk: int = 24  # m


def pages(clip: EpisodeClip) -> Iterator[Frames]:
    """Frames of the video, uint8 with even sides: view, goal where there is one, and the path.

    Raises:
        ValueError: There is not one pose per frame, or not a whole number of chunks.
    """
    count, chunk = len(clip.frames), clip.frames_per_chunk
    if count != len(clip.c2w) or (count - 1) % chunk:
        raise ValueError(
            f"given {count} frames and {len(clip.c2w)} poses, expected as many of each, a multiple "
            f"of {chunk} and one"
        )
    labels = ["view"] + ["goal"] * (clip.goal is not None) + ["from above"]
    sheet = Image.new("RGB", (len(labels) * (_SIDE + _GAP) - _GAP, _SIDE + 2 * _HEADER), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, label in enumerate(labels):
        middle = place * (_SIDE + _GAP) + _SIDE / 2
        draw.text((middle, _HEADER / 2), label, _INK, font, anchor="mm")
    if clip.goal is not None:
        _paste(sheet, clip.goal, _SIDE + _GAP)
    above = _PathFromAbove(clip)
    for index, frame in enumerate(clip.frames):
        page = sheet.copy()
        _paste(page, frame, 0)
        page.paste(above.at(index), (sheet.width - _SIDE, _HEADER))
        for caption in clip.captions[max(index - 1, 0) // chunk :][:1]:
            at = (4, _SIDE + 1.5 * _HEADER)
            ImageDraw.Draw(page).text(at, caption, _INK, font, anchor="lm")
        yield np.asarray(page)


def _paste(sheet: Image.Image, frame: Frames, left: int) -> None:
    """Draw a frame as large as its panel allows, in the middle of it."""
    image = enlarge(np.ascontiguousarray(frame), _SIDE / max(frame.shape[:2]))
    corner = (left + (_SIDE - image.width) // 2, _HEADER + (_SIDE - image.height) // 2)
    sheet.paste(image, corner)


class _PathFromAbove:
    """x to the right and z, the first view's direction, upwards."""

    def __init__(self, clip: EpisodeClip) -> None:
        goals = [] if clip.goal_c2w is None else [clip.goal_c2w]
        ground = np.stack([*clip.c2w, *goals])[:, [0, 2], 3]
        low, high = ground.min(axis=0), ground.max(axis=0)
        extent = max(float((high - low).max()), _LEAST_EXTENT)
        self._centre, self._scale = (low + high) / 2, (_SIDE - 2 * _MARGIN) / extent
        self._path = [self._point(place) for place in clip.c2w[:, [0, 2], 3]]
        self._poses = clip.c2w
        self._blank = Image.new("RGB", (_SIDE, _SIDE), "#f4f1ea")
        draw = ImageDraw.Draw(self._blank)
        metre = [(_MARGIN / 2, _SIDE - 8), (_MARGIN / 2 + self._scale, _SIDE - 8)]
        draw.line(metre, _INK, 2)
        draw.text((metre[0][0], _SIDE - 12), "1 m", _INK, ImageFont.load_default(11), anchor="ls")
        for goal in goals:
            self._camera(draw, goal, _GOAL)

    def at(self, index: int) -> Image.Image:
        """The path up to frame `index`."""
        panel = self._blank.copy()
        draw = ImageDraw.Draw(panel)
        if index:
            draw.line(self._path[: index + 1], _PATH, 3)
        self._camera(draw, self._poses[index], _PATH)
        return panel

    def _camera(self, draw: ImageDraw.ImageDraw, pose: Poses, colour: str) -> None:
        x, y = self._point(pose[[0, 2], 3])
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        ahead = pose[[0, 2], 2]
        draw.line([(x, y), (x + 18 * ahead[0], y - 18 * ahead[1])], colour, 3)

    def _point(self, place: Poses) -> tuple[float, float]:
        x, z = (place - self._centre) * self._scale
        return float(_SIDE / 2 + x), float(_SIDE / 2 - z)
