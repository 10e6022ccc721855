"""An episode as a video for people: camera view, goal, and path from above."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Frames = npt.NDArray[np.uint8]
Poses = npt.NDArray[np.float64]

_SIDE, _HEADER, _GAP = 256, 24, 8
_PAPER, _INK, _PATH, _GOAL = "white", "#333333", "#1f5fa8", "#d1495b"
_MARGIN = 20
_LEAST_EXTENT = 2.0


@dataclass(frozen=True, eq=False)
class EpisodeClip:
    """What is shown of an episode of n chunks of m frames.

    Attributes:
        frames: uint8 [m n + 1, H, W, 3].
        c2w: Pose of the camera at each, float64 [m n + 1, 4, 4].
        captions: A line of text for each chunk.
        goal: Goal image, uint8 [h, w, 3], or None.
        goal_c2w: Pose of the goal image, float64 [4, 4], or None where it is not known.
        frames_per_chunk: m.
    """

    frames: Frames
    c2w: Poses
    captions: Sequence[str] = ()
    goal: Frames | None = None
    goal_c2w: Poses | None = None
    frames_per_chunk: int = 24


def pages(clip: EpisodeClip) -> Iterator[Frames]:
    """Frames of the video, uint8 with even sides: view, goal where there is one, and the map.

    Raises:
        ValueError: There is not one pose per frame, or not a whole number of chunks.
    """
    frames_per_chunk = clip.frames_per_chunk
    if len(clip.frames) != len(clip.c2w) or (len(clip.frames) - 1) % frames_per_chunk:
        raise ValueError(
            f"given {len(clip.frames)} frames and {len(clip.c2w)} poses, expected as many of each, "
            f"a multiple of {frames_per_chunk} and one"
        )
    labels = ["view"] + ["goal"] * (clip.goal is not None) + ["from above"]
    sheet = Image.new("RGB", (len(labels) * (_SIDE + _GAP) - _GAP, _SIDE + 2 * _HEADER), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for place, label in enumerate(labels):
        middle = place * (_SIDE + _GAP) + _SIDE / 2
        draw.text((middle, _HEADER / 2), label, _INK, font, anchor="mm")
    if clip.goal is not None:
        sheet.paste(_enlarged(clip.goal), (_SIDE + _GAP, _HEADER))
    above = _Map(clip)
    for index, frame in enumerate(clip.frames):
        page = sheet.copy()
        page.paste(_enlarged(frame), (0, _HEADER))
        page.paste(above.at(index), (sheet.width - _SIDE, _HEADER))
        chunk = max(index - 1, 0) // frames_per_chunk
        if chunk < len(clip.captions):
            at = (4, _SIDE + 1.5 * _HEADER)
            ImageDraw.Draw(page).text(at, clip.captions[chunk], _INK, font, anchor="lm")
        yield np.asarray(page)


def _enlarged(frame: Frames) -> Image.Image:
    height, width = frame.shape[:2]
    scale = _SIDE / max(height, width)
    size = (round(width * scale), round(height * scale))
    panel = Image.new("RGB", (_SIDE, _SIDE), _PAPER)
    image = Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.NEAREST)
    panel.paste(image, ((_SIDE - size[0]) // 2, (_SIDE - size[1]) // 2))
    return panel


class _Map:
    """The path from above, x to the right and z, the first view's direction, upwards."""

    def __init__(self, clip: EpisodeClip) -> None:
        poses = clip.c2w if clip.goal_c2w is None else np.concatenate([clip.c2w, [clip.goal_c2w]])
        ground = poses[:, [0, 2], 3]
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
        if clip.goal_c2w is not None:
            self._camera(draw, clip.goal_c2w, _GOAL)

    def at(self, index: int) -> Image.Image:
        """The map when frame `index` is shown."""
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
