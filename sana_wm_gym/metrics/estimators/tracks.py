"""Points followed through a clip with pyramidal Lucas-Kanade."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

_REDETECT_EVERY = 3  # frames
_CONSISTENCY_PX = 0.3  # largest forward-backward disagreement
_CORNERS_PER_WIDTH = 48
_MAX_POINTS = 1200
_QUALITY = 0.003  # of the strongest corner
_WINDOW = 5  # pixels; a larger patch pulls its centre away as it changes shape
_PIXEL_CENTRE = 0.5  # OpenCV puts the centre of pixel (0, 0) at 0, this project at 0.5


@dataclass(frozen=True)
class Tracks:
    """Image paths of many points.

    Attributes:
        xy: float64 [frames, points, 2] pixels, pixel centres at half-integers; NaN where unseen.
    """

    xy: npt.NDArray[np.float64]

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """bool [frames, points]."""
        return np.isfinite(self.xy[..., 0])


def track_points(frames: npt.NDArray[np.uint8]) -> Tracks:
    """Follow corners through a clip; lost ones are replaced every third frame.

    A corner is predicted from the frame before and settled against its own first sight.

    Args:
        frames: uint8 [n, height, width, 3] RGB.

    Source: Shi and Tomasi, CVPR 1994; Bouguet's pyramidal Lucas-Kanade; forward-backward check
    of Kalal et al., ICPR 2010.
    """
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    height, width = grey[0].shape
    spacing = max(width / _CORNERS_PER_WIDTH, 1.5)
    corner = np.array([width - 1, height - 1], dtype=np.float32)

    points = _corners(grey[0], np.empty((0, 2), np.float32), spacing)
    ids = np.arange(len(points))
    made = len(points)
    born, birth = np.zeros(len(points), dtype=int), points  # frame and place of first sight
    history = [(ids, points)]
    for index in range(1, len(grey)):
        moved = _follow(grey[index - 1], grey[index], points)
        kept = np.zeros(len(points), dtype=bool)
        for source in np.unique(born):
            group = born == source
            # Compared with its first look, a patch cannot drift as it does link by link.
            moved[group] = _follow(grey[source], grey[index], birth[group], moved[group])
            back = _follow(grey[index], grey[source], moved[group], birth[group])
            kept[group] = np.linalg.norm(back - birth[group], axis=1) < _CONSISTENCY_PX
        kept &= ((moved >= 0) & (moved <= corner)).all(axis=1)
        points, ids, born, birth = moved[kept], ids[kept], born[kept], birth[kept]
        if index % _REDETECT_EVERY == 0:
            fresh = _corners(grey[index], points, spacing)
            points = np.concatenate([points, fresh])
            birth = np.concatenate([birth, fresh])
            born = np.concatenate([born, np.full(len(fresh), index)])
            ids = np.concatenate([ids, np.arange(made, made + len(fresh))])
            made += len(fresh)
        history.append((ids, points))

    xy = np.full((len(grey), made, 2), np.nan)
    for index, (ids, points) in enumerate(history):
        xy[index, ids] = points + _PIXEL_CENTRE
    return Tracks(xy[:, np.isfinite(xy[..., 0]).sum(axis=0) >= 3])


def _follow(
    start: npt.NDArray[np.uint8],
    end: npt.NDArray[np.uint8],
    points: npt.NDArray[np.float32],
    guess: npt.NDArray[np.float32] | None = None,
) -> npt.NDArray[np.float32]:
    """Positions in `end` of points of `start`, float32 [n, 2]; NaN where lost.

    With a guess of the positions only the finest pyramid level is searched.
    """
    if len(points) == 0:
        return points
    levels = max(0, int(np.log2(min(start.shape) / (2 * _WINDOW))))
    initial = np.nan_to_num(points if guess is None else guess).reshape(-1, 1, 2)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        start,
        end,
        np.nan_to_num(points).reshape(-1, 1, 2),
        initial,  # written over
        winSize=(_WINDOW, _WINDOW),
        maxLevel=levels if guess is None else 0,
        flags=0 if guess is None else cv2.OPTFLOW_USE_INITIAL_FLOW,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003),
        minEigThreshold=1e-4,
    )
    result = moved.reshape(-1, 2)
    result[status.ravel() == 0] = np.nan
    result[np.isnan(points).any(axis=1)] = np.nan
    return np.asarray(result, dtype=np.float32)


def _corners(
    image: npt.NDArray[np.uint8], taken: npt.NDArray[np.float32], spacing: float
) -> npt.NDArray[np.float32]:
    """New corners, float32 [n, 2], at least `spacing` from each other and from `taken`."""
    wanted = _MAX_POINTS - len(taken)
    if wanted <= 0:
        return np.empty((0, 2), np.float32)
    free = np.full(image.shape, 255, np.uint8)
    for x, y in np.round(taken).astype(int):
        cv2.circle(free, (int(x), int(y)), max(1, round(spacing)), 0, -1)
    found = cv2.goodFeaturesToTrack(image, wanted, _QUALITY, spacing, mask=free, blockSize=3)
    if found is None:  # OpenCV's stub leaves this out
        return np.empty((0, 2), np.float32)  # type: ignore[unreachable]
    found = found.reshape(-1, 1, 2)
    limit = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.01)
    refined = cv2.cornerSubPix(image, found.copy(), (2, 2), (-1, -1), limit).reshape(-1, 2)
    inside = np.all((refined >= 0) & (refined <= np.array(image.shape[::-1]) - 1), axis=1)
    settled = np.where(inside.reshape(-1, 1), refined, found.reshape(-1, 2))
    return np.asarray(settled, dtype=np.float32)
