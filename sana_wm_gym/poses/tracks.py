"""Points followed through a clip with pyramidal Lucas-Kanade.

A small window places a point best; a wide one holds on to soft and noisy frames. The clip decides:
windows are widened while a wider one keeps clearly more points for half a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

_REDETECT_EVERY = 3  # frames
_CORNERS_PER_WIDTH = 48
_MAX_POINTS = 1200
_QUALITY = 0.003  # of the strongest corner
_WEAKER = 0.1  # times that where corners are spread
_CELLS = 8  # of the grid over which corners are spread, to a side
_PIXEL_CENTRE = 0.5  # OpenCV puts the centre of pixel (0, 0) at 0, this project at 0.5
_CLEARLY_MORE = 1.5  # times the points kept before a wider window is taken
_HALF_SECOND = 8  # frames at the 16 Hz of every world here
_ENOUGH = 60  # points kept, under which smaller frames are tried
_SMALLEST = 128  # width of those, pixels
_PROBES = 5  # half seconds looked at to choose a window
_LEVEL_SIGMA = 6.0  # pixels over which brightness and contrast are made even
_LEAST_CONTRAST = 2.0  # grey levels; below, noise would be blown up


@dataclass(frozen=True)
class TrackerSettings:
    """How points are tracked.

    Attributes:
        name: What frames they are for.
        window: Side of the Lucas-Kanade patch, pixels; odd.
        consistency_px: Largest forward-backward disagreement of a kept point.
        refine_radius: Of the patch with which tracks are refined at the end, pixels.
        even: Whether blur, brightness and contrast are made alike everywhere first.
        spread: Whether corners are spread: every cell of a grid gets at most its part of them, and
            weaker ones count, so that one rich region does not take all.
    """

    name: str
    window: int
    consistency_px: float
    refine_radius: int
    even: bool = False
    spread: bool = False


# A larger patch pulls its centre away as it changes shape, so the small window comes first.
SHARP = TrackerSettings("sharp", 5, 0.3, 3)
SOFT = TrackerSettings("soft", 15, 0.3, 5)
FAINT = TrackerSettings("faint", 21, 0.6, 5, even=True)
SETTINGS = (SHARP, SOFT, FAINT)


@dataclass(frozen=True)
class Tracks:
    """Image paths of many points.

    Attributes:
        xy: float64 [frames, points, 2] pixels, pixel centres at half-integers; NaN where unseen.
        settings: How they were tracked.
    """

    xy: npt.NDArray[np.float64]
    settings: TrackerSettings = SHARP

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """bool [frames, points]."""
        return np.isfinite(self.xy[..., 0])


def choose_settings(frames: npt.NDArray[np.uint8]) -> TrackerSettings:
    """The smallest window that a wider one does not clearly outlast.

    Args:
        frames: uint8 [n, height, width, 3] RGB.
    """
    return _chosen(frames)[0]


def choose_reduction(frames: npt.NDArray[np.uint8]) -> tuple[int, TrackerSettings]:
    """By how much to reduce frames before tracking, and the settings for it.

    Frames are taken as they are, unless they are so blurred for their size that even a wide window
    holds too few points: then at a half, a quarter, ... of their size, the first that tracks well.

    Args:
        frames: uint8 [n, height, width, 3] RGB.

    Returns:
        A power of two.
    """
    given = _chosen(frames)
    reduction, (settings, kept) = 1, given
    while settings == FAINT or kept < _ENOUGH:
        reduction *= 2
        if frames.shape[2] < reduction * _SMALLEST:
            return 1, given[0]
        settings, kept = _chosen(reduced(frames, reduction))
    return reduction, settings


def reduced(frames: npt.NDArray[np.uint8], factor: int) -> npt.NDArray[np.uint8]:
    """Frames [n, h, w, 3] at `factor` times smaller sides, rounded up, by area."""
    if factor == 1:
        return frames
    height, width = (-(-length // factor) for length in frames.shape[1:3])
    # Whole blocks of pixels, so that the principal point stays where the intrinsics say.
    pad = ((0, 0), (0, height * factor - frames.shape[1]), (0, width * factor - frames.shape[2]))
    padded = np.pad(frames, (*pad, (0, 0)), mode="edge")
    size = (width, height)
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in padded]
    return np.stack(small).astype(np.uint8)


def _chosen(frames: npt.NDArray[np.uint8]) -> tuple[TrackerSettings, float]:
    """Settings, and how many points they keep for half a second."""
    if len(frames) < 3:
        return SHARP, np.inf
    span = min(_HALF_SECOND, len(frames) - 1)
    starts = np.unique(np.linspace(0, len(frames) - 1 - span, _PROBES).astype(int))

    def survivors(settings: TrackerSettings) -> float:
        kept = []
        for start in starts:
            tracks = track_points(frames[start : start + span + 1], settings)
            kept.append(int((tracks.seen[0] & tracks.seen[-1]).sum()))
        return float(np.median(kept))

    best, most = SETTINGS[0], survivors(SETTINGS[0])
    for settings in SETTINGS[1:]:
        kept = survivors(settings)
        if kept <= _CLEARLY_MORE * most:
            break
        best, most = settings, kept
    return best, most


def grey_frames(frames: npt.NDArray[np.uint8], settings: TrackerSettings) -> npt.NDArray[np.uint8]:
    """The grey frames uint8 [n, height, width] that points are tracked in."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    if settings.even:
        grey = [_even(image) for image in grey]
    return np.stack(grey).astype(np.uint8)


def _even(image: npt.NDArray[np.integer]) -> Grey:
    """Lightly blurred, with the local mean taken away and the local contrast made alike."""
    soft = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.0)
    flat = soft - cv2.GaussianBlur(soft, (0, 0), _LEVEL_SIGMA)
    power = cv2.GaussianBlur(flat**2, (0, 0), _LEVEL_SIGMA)
    level = 40.0 * flat / np.sqrt(power + _LEAST_CONTRAST**2)
    return np.asarray(np.clip(np.rint(128.0 + level), 0, 255), dtype=np.uint8)


def track_points(frames: npt.NDArray[np.uint8], settings: TrackerSettings = SHARP) -> Tracks:
    """Follow corners through a clip; lost ones are replaced every third frame.

    A corner is predicted from the frame before and compared with its own first sight.

    Args:
        frames: uint8 [n, height, width, 3] RGB.
        settings: How to track.

    Source: Shi and Tomasi, CVPR 1994; Bouguet's pyramidal Lucas-Kanade; forward-backward check
    of Kalal et al., ICPR 2010.
    """
    grey = grey_frames(frames, settings)
    height, width = grey[0].shape
    spacing = max(width / _CORNERS_PER_WIDTH, 1.5)
    corner = np.array([width - 1, height - 1], dtype=np.float32)

    points = _corners(grey[0], np.empty((0, 2), np.float32), spacing, settings.spread)
    ids = np.arange(len(points))
    made = len(points)
    born, birth = np.zeros(len(points), dtype=int), points  # frame and place of first sight
    history = [(ids, points)]
    for index in range(1, len(grey)):
        moved = _follow(grey[index - 1], grey[index], points, settings.window)
        kept = np.zeros(len(points), dtype=bool)
        for source in np.unique(born):
            group = born == source
            # Compared with its first sight, a patch cannot drift as it does link by link.
            moved[group] = _follow(
                grey[source], grey[index], birth[group], settings.window, moved[group]
            )
            back = _follow(grey[index], grey[source], moved[group], settings.window, birth[group])
            kept[group] = np.linalg.norm(back - birth[group], axis=1) < settings.consistency_px
        kept &= ((moved >= 0) & (moved <= corner)).all(axis=1)
        points, ids, born, birth = moved[kept], ids[kept], born[kept], birth[kept]
        if index % _REDETECT_EVERY == 0:
            fresh = _corners(grey[index], points, spacing, settings.spread)
            points = np.concatenate([points, fresh])
            birth = np.concatenate([birth, fresh])
            born = np.concatenate([born, np.full(len(fresh), index)])
            ids = np.concatenate([ids, np.arange(made, made + len(fresh))])
            made += len(fresh)
        history.append((ids, points))

    lengths = np.bincount(np.concatenate([ids for ids, _ in history]), minlength=made)
    lasting = lengths >= min(3, len(grey))
    place = np.cumsum(lasting) - 1
    xy = np.full((len(grey), int(lasting.sum()), 2), np.nan)
    for index, (ids, points) in enumerate(history):
        xy[index, place[ids[lasting[ids]]]] = points[lasting[ids]] + _PIXEL_CENTRE
    return Tracks(xy, settings)


def follow_points(grey: Grey, points: Points, settings: TrackerSettings) -> Points:
    """Where given points of the first frame are in the last one, float64 [n, 2]; NaN where lost.

    Points are followed frame by frame, aligned with their first sight, and back.

    Args:
        grey: From `grey_frames`, [n, height, width], n >= 2.
        points: Pixel indices [n, 2]: the centre of the first pixel is 0.
        settings: Those of `grey`.

    Returns:
        Pixels whose centres are half-integers.
    """
    moved = points
    for before, after in pairwise(grey):
        moved = _follow(before, after, moved, settings.window)
    moved = _follow(grey[0], grey[-1], points, settings.window, moved)
    back = _follow(grey[-1], grey[0], moved, settings.window, points)
    corner = np.array([grey.shape[2] - 1, grey.shape[1] - 1])
    kept = np.linalg.norm(back - points, axis=1) < settings.consistency_px
    kept &= ((moved >= 0) & (moved <= corner)).all(axis=1)
    return np.asarray(np.where(kept[:, None], moved.astype(np.float64) + _PIXEL_CENTRE, np.nan))


def _follow(
    start: Grey, end: Grey, points: Points, window: int, guess: Points | None = None
) -> Points:
    """Positions in `end` of points of `start`, float32 [n, 2]; NaN where lost.

    With a guess of the positions only the finest pyramid level is searched.
    """
    if len(points) == 0:
        return points
    levels = max(0, int(np.log2(min(start.shape) / (2 * window))))
    initial = np.nan_to_num(points if guess is None else guess).reshape(-1, 1, 2)
    moved, status, _ = cv2.calcOpticalFlowPyrLK(
        start,
        end,
        np.nan_to_num(points).reshape(-1, 1, 2),
        initial,  # written over
        winSize=(window, window),
        maxLevel=levels if guess is None else 0,
        flags=0 if guess is None else cv2.OPTFLOW_USE_INITIAL_FLOW,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.003),
        minEigThreshold=1e-4,
    )
    result = moved.reshape(-1, 2)
    result[status.ravel() == 0] = np.nan
    result[np.isnan(points).any(axis=1)] = np.nan
    return np.asarray(result, dtype=np.float32)


def _corners(image: Grey, taken: Points, spacing: float, spread: bool) -> Points:
    """New corners, float32 [n, 2], at least `spacing` from each other and from `taken`."""
    wanted = _MAX_POINTS - len(taken)
    if wanted <= 0:
        return np.empty((0, 2), np.float32)
    free = np.full(image.shape, 255, np.uint8)
    for x, y in np.round(taken).astype(int):
        cv2.circle(free, (int(x), int(y)), max(1, round(spacing)), 0, -1)
    quality, wanted = (_QUALITY * _WEAKER, 0) if spread else (_QUALITY, wanted)
    found = cv2.goodFeaturesToTrack(image, wanted, quality, spacing, mask=free, blockSize=3)
    if found is None:  # OpenCV's stub leaves this out
        return np.empty((0, 2), np.float32)  # type: ignore[unreachable]
    found = found.reshape(-1, 1, 2)
    if spread:
        found = found[_within_quota(found[:, 0].astype(np.float32), taken, image.shape)]
    limit = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.01)
    refined = cv2.cornerSubPix(image, found.copy(), (2, 2), (-1, -1), limit).reshape(-1, 2)
    inside = np.all((refined >= 0) & (refined <= np.array(image.shape[::-1]) - 1), axis=1)
    kept = np.where(inside.reshape(-1, 1), refined, found.reshape(-1, 2))
    return np.asarray(kept, dtype=np.float32)


def _within_quota(found: Points, taken: Points, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Which corners, strongest first, fill each cell of the grid up to its part of all points."""

    def cell(points: Points) -> npt.NDArray[np.intp]:
        index = (points[:, ::-1] * _CELLS / np.array(size)).astype(np.intp)
        return np.ravel_multi_index(tuple(index.T), (_CELLS, _CELLS), mode="clip")

    home = cell(found)
    order = np.argsort(home, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(home)) - np.searchsorted(home[order], home[order])
    held = np.bincount(cell(taken), minlength=_CELLS**2)
    return np.asarray(rank + held[home] < _MAX_POINTS // _CELLS**2)
