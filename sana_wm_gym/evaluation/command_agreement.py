"""Command agreement of a video: points on a grid are tracked and compared with the command."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_number
from sana_wm_gym.metrics.command_agreement import (
    MIN_POINTS,
    CommandAgreement,
    clip_agreement,
    pair_agreement,
    relative_command,
)
from sana_wm_gym.metrics.pose_checks import check_poses
from sana_wm_gym.poses.tracks import choose_settings, follow_points, grey_frames

SPANS_S = (1.0, 0.5, 0.25)
"""Times between the frames of a pair, seconds; the first is the headline."""
ANY_DEPTH = (0.0, np.inf)
"""Of commands of unknown unit or scenes of unknown size."""
NEAREST_M = 0.3
"""Nearest depth in a scene whose size is known, metres."""
_GRID = 20  # points along the shorter side of a frame


def command_agreement(
    frames: npt.NDArray[np.uint8],
    commanded: npt.ArrayLike,
    intrinsics: npt.ArrayLike,
    fps: float,
    *,
    shown: npt.ArrayLike | None = None,
    depths_m: tuple[float, float] = ANY_DEPTH,
    spans_s: tuple[float, ...] = SPANS_S,
) -> dict[float, CommandAgreement]:
    """How well a video moves as commanded, without estimating its camera path.

    Pairs of frames begin every half span. See `metrics.command_agreement`.

    Args:
        frames: uint8 [n, height, width, 3] RGB.
        commanded: Camera-to-world poses [m, 4, 4], metres.
        intrinsics: (fx, fy, cx, cy) in pixels of `frames`.
        fps: Frames per second.
        shown: Frame that shows each pose, rising integers [m]; by default there is one pose per
            frame. Pairs begin and end at such frames, and points are tracked through all between.
        depths_m: Nearest and farthest depth in the scene, metres: 0.3 and four times its median
            depth where that is known; anything by default.
        spans_s: Times between the frames of a pair, seconds; those longer than the video have no
            pairs.

    Returns:
        Agreement by span.

    Raises:
        ValueError: Poses are not rigid, or there is not one frame per pose.
    """
    c2w = np.asarray(commanded, dtype=np.float64)
    check_poses(c2w, "commanded")
    require_number("fps", fps, 0, ends="()")
    places = np.arange(len(frames)) if shown is None else np.asarray(shown)
    if len(places) != len(c2w):
        raise ValueError(f"given {len(places)} frames and {len(c2w)} poses, expected one each")
    settings = choose_settings(frames)
    grey = grey_frames(frames, settings)
    grid = _grid(*grey.shape[1:])

    def measure(span: float) -> CommandAgreement:
        pairs, left_out = [], 0
        for first, second in _pairs(places, max(1, round(span * fps))):
            begin, end = places[first], places[second]
            found = follow_points(grey[begin : end + 1], grid, settings)
            kept = np.isfinite(found[:, 0])
            if kept.sum() < MIN_POINTS:
                left_out += 1
                continue
            relative = relative_command(c2w, first, second)
            pairs.append(
                pair_agreement(found[kept], grid[kept] + 0.5, relative, intrinsics, depths_m)
            )
        return clip_agreement(span, pairs, left_out)

    return {span: measure(span) for span in spans_s}


def scene_depths(median_m: float) -> tuple[float, float]:
    """Nearest and farthest depth of a scene of this median depth, metres."""
    return NEAREST_M, max(4 * median_m, 2 * NEAREST_M)


def _pairs(places: npt.NDArray[np.integer], step: int) -> Iterator[tuple[int, int]]:
    """Indices of poses that are shown `step` frames apart, to an eighth of it; one every half
    step."""
    due = 0
    for first, place in enumerate(places):
        if place < due:
            continue
        second = int(np.argmin(np.abs(places - place - step)))
        if second > first and abs(places[second] - place - step) <= step // 8:
            due = place + max(1, step // 2)
            yield first, second


def _grid(height: int, width: int) -> npt.NDArray[np.float32]:
    """Pixel indices [n, 2] of an even grid that stays off the border."""
    spacing = max(min(height, width) / _GRID, 2.0)
    x, y = np.meshgrid(*(np.arange(spacing, side - spacing, spacing) for side in (width, height)))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
