"""Videos to score: every frame, evenly spaced, and one typed error per bad file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sana_wm_gym.video import Frames, VideoError, probe, read_frames

SAME_RATE = 0.1  # Hz; rates closer than this are one rate, as in `metrics.matching`


@dataclass(frozen=True, eq=False)
class Clip:
    """A video in memory.

    Attributes:
        frames: uint8 [n, height, width, 3] RGB.
        fps: Its rate, Hz.
        path: Where it was read from.
    """

    frames: Frames
    fps: float
    path: Path


def read_clip(path: Path, fps: float | None = None) -> Clip:
    """Every frame of a video.

    Args:
        path: Any file that FFmpeg reads.
        fps: Its rate in Hz, where the time stamps of the file are wrong.

    Raises:
        VideoError: The file is missing, damaged or cut (codes of `sana_wm_gym.video`); or its
            frames are unevenly spaced (`variable_rate`) or its rate is none (`wrong_fps`).
    """
    info = probe(path)
    if fps is None and info.varies:
        found = f"its frame rate is variable, {float(info.rate):.4g} Hz on average"
        raise VideoError("variable_rate", path, f"{found}; give a rate to space frames evenly")
    rate = float(info.rate) if fps is None else fps
    if not 0 < rate < 1000:
        raise VideoError("wrong_fps", path, f"its rate is {rate:g} Hz; give the right one")
    return Clip(read_frames(path)[0], rate, path)
