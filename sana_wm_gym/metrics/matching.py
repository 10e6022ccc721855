"""Which video frame shows which commanded pose: by time, never by index."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_integer, require_number

_SAME_RATE = 0.1  # Hz; rates closer than this are one rate written with different rounding
_HALF = 0.5 + 1e-9  # of a frame period, with room for rounding


@dataclass(frozen=True)
class FrameMatch:
    """Paired indices, int64 [m] each: `reference[k]` and `video[k]` show the same instant."""

    reference: npt.NDArray[np.int64]
    video: npt.NDArray[np.int64]


def video_index(
    reference_index: int, reference_fps: float, video_fps: float, video_frames: int
) -> int:
    """Video frame at the time of one reference index, clamped to the last frame.

    Halves round to the even index. Rates that differ by less than 0.1 Hz keep the index.

    Raises:
        ValueError: A negative index, a rate that is not positive, or an empty video.
    """
    require_integer("reference index", reference_index, 0)
    require_integer("number of video frames", video_frames, 1)
    position = _positions(reference_index, reference_fps, video_fps)
    return min(round(float(position)), video_frames - 1)


def is_reached(
    reference_index: int, reference_fps: float, video_fps: float, video_frames: int
) -> bool:
    """Whether the video has a frame within half a frame period of one reference index.

    Raises:
        ValueError: A rate is not positive.
    """
    position = _positions(reference_index, reference_fps, video_fps)
    return bool(position - (video_frames - 1) <= _HALF)


def match_frames(
    reference_frames: int,
    reference_fps: float,
    video_frames: int,
    video_fps: float,
    *,
    stride: int = 1,
    truncate: bool = False,
) -> FrameMatch:
    """Pair every `stride`-th reference frame with the video frame of the same time.

    Args:
        reference_frames: Number of commanded poses.
        reference_fps: Their rate, Hz.
        video_frames: Number of frames in the video.
        video_fps: Its rate, Hz.
        stride: Take reference indices 0, stride, 2 stride, ...
        truncate: Leave out instants that the video does not reach instead of refusing them.

    Raises:
        ValueError: The video ends more than half a frame period before a reference instant and
            `truncate` is False; or a count or rate is not positive.
    """
    require_integer("number of reference frames", reference_frames, 1)
    require_integer("number of video frames", video_frames, 1)
    require_integer("stride", stride, 1)
    reference = np.arange(0, reference_frames, stride, dtype=np.int64)
    positions = _positions(reference, reference_fps, video_fps)
    reached = positions - (video_frames - 1) <= _HALF
    if not truncate and not reached.all():
        missed = int(reference[np.argmin(reached)])
        raise ValueError(
            f"reference frame {missed} at {missed / reference_fps:.3f} s is beyond the video, "
            f"whose last of {video_frames} frames is at {(video_frames - 1) / video_fps:.3f} s; "
            f"pass truncate=True to score the common part"
        )
    reference, positions = reference[reached], positions[reached]
    video = np.minimum(np.round(positions).astype(np.int64), video_frames - 1)
    return FrameMatch(reference, video)


def _positions(
    reference: int | npt.NDArray[np.int64], reference_fps: float, video_fps: float
) -> npt.NDArray[np.float64]:
    """Fractional video indices of reference indices."""
    require_number("reference rate in Hz", reference_fps, 0, ends="()")
    require_number("video rate in Hz", video_fps, 0, ends="()")
    if abs(reference_fps - video_fps) < _SAME_RATE:
        return np.asarray(reference, dtype=np.float64)
    return np.asarray(reference * video_fps / reference_fps)
