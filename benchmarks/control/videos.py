"""Videos in and out: every frame, the rate that the file says, one typed error per bad file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt

from sana_wm_gym.files import atomic_path

Frames = npt.NDArray[np.uint8]

SAME_RATE = 0.1  # Hz; rates closer than this are one rate, as in `metrics.matching`


class VideoError(ValueError):
    """A video that cannot be scored, or could not be made.

    Attributes:
        code: Why: `missing_video`, `corrupt_video`, `truncated_video`, `wrong_fps`, `too_short`,
            `not_finite`.
        path: The file.
    """

    def __init__(self, code: str, path: Path | None, message: str) -> None:
        self.code = code
        self.path = path
        super().__init__(f"{path}: {message}" if path else message)


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


def read_video(path: Path, fps: float | None = None) -> Clip:
    """Every frame of a video.

    Args:
        path: Any file that ffmpeg reads.
        fps: Its rate in Hz, where the one in the file is not to be believed.

    Raises:
        VideoError: The file is missing, cannot be decoded, holds fewer frames than it says, or
            says no rate.
    """
    if not path.is_file():
        raise VideoError("missing_video", path, "no such file, expected a video")
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError("corrupt_video", path, "cannot be opened as a video")
        promised = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS) if fps is None else fps
        frames = []
        while True:
            read, frame = capture.read()
            if not read:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    finally:
        capture.release()
    if not frames:
        raise VideoError("corrupt_video", path, "holds no frame that can be decoded")
    if len(frames) < promised:
        raise VideoError(
            "truncated_video", path, f"{len(frames)} frames can be decoded, it says {promised}"
        )
    if not 0 < rate < 1000:
        raise VideoError("wrong_fps", path, f"its rate is {rate:g} Hz; give the right one")
    return Clip(np.stack(frames).astype(np.uint8, copy=False), float(rate), path)


def write_video(path: Path, chunks: Iterable[Frames], fps: float) -> None:
    """Write chunks of frames, uint8 [n, height, width, 3] with even sides, as they come.

    H.264 with full colour and hardly any loss, because poses and PSNR are read from the file
    again. The file gets its name when it is complete; a chunk that fails leaves none.
    """
    pieces = iter(chunks)
    first = next(pieces)
    height, width = first.shape[1:3]
    with atomic_path(path) as partial:
        pipe = imageio_ffmpeg.write_frames(
            partial,
            (width, height),
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv444p",
            quality=None,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=["-crf", "4", "-threads", "1", "-f", "mp4"],
        )
        pipe.send(None)
        try:
            pipe.send(np.ascontiguousarray(first))
            for frames in pieces:
                pipe.send(np.ascontiguousarray(frames))
        finally:
            pipe.close()
