"""Command agreement of a video: points on a grid are tracked and compared with the command."""

from __future__ import annotations

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
_GRID = 20  # points along the shorter side of a frame


def command_agreement(
    frames: npt.NDArray[np.uint8],
    commanded: npt.ArrayLike,
    intrinsics: npt.ArrayLike,
    fps: float,
    *,
    depths_m: tuple[float, float] = (0.0, np.inf),
    spans_s: tuple[float, ...] = SPANS_S,
) -> dict[float, CommandAgreement]:
    """How well a video moves as commanded, without estimating its camera path.

    Pairs of frames begin every half span. See `metrics.command_agreement`.

    Args:
        frames: uint8 [n, height, width, 3] RGB.
        commanded: Camera-to-world poses [n, 4, 4], one per frame, metres.
        intrinsics: (fx, fy, cx, cy) in pixels of `frames`.
        fps: Frames per second.
        depths_m: Nearest and farthest depth in the scene, metres: 0.3 and four times its median
            depth where that is known; anything by default.
        spans_s: Times between the frames of a pair, seconds; those longer than the video have no
            pairs.

    Returns:
        Agreement by span.

    Raises:
        ValueError: Poses are not rigid, or there is not one per frame.
    """
    c2w = np.asarray(commanded, dtype=np.float64)
    check_poses(c2w, "commanded")
    require_number("fps", fps, 0, ends="()")
    if len(frames) != len(c2w):
        raise ValueError(f"given {len(frames)} frames and {len(c2w)} poses, expected one each")
    settings = choose_settings(frames)
    grey = grey_frames(frames, settings)
    grid = _grid(*grey.shape[1:])
    result = {}
    for span in spans_s:
        step = max(1, round(span * fps))
        pairs, left_out = [], 0
        for first in range(0, len(c2w) - step, max(1, step // 2)):
            found = follow_points(grey[first : first + step + 1], grid, settings)
            kept = np.isfinite(found[:, 0])
            if kept.sum() < MIN_POINTS:
                left_out += 1
                continue
            relative = relative_command(c2w, first, first + step)
            pairs.append(
                pair_agreement(found[kept], grid[kept] + 0.5, relative, intrinsics, depths_m)
            )
        result[span] = clip_agreement(span, pairs, left_out)
    return result


def _grid(height: int, width: int) -> npt.NDArray[np.float32]:
    """Pixel indices [n, 2] of an even grid that stays off the border."""
    spacing = max(min(height, width) / _GRID, 2.0)
    x, y = np.meshgrid(*(np.arange(spacing, side - spacing, spacing) for side in (width, height)))
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
