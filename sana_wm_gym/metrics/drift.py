"""Does a video decay over its length? No-reference numbers per 10-second window.

The published benchmark rates windows with VBench's imaging quality, which needs downloaded
weights. The proxies here are this project's own image statistics, and no substitute under that
name. They follow the content too (walking up to a smooth wall lowers sharpness), so read a drop
next to that of a true video of the same path, where there is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from statistics import fmean
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_integer, require_number

WINDOW_S = 10.0
MIN_WINDOW_FRAMES = 16

Image = npt.NDArray[np.uint8]
Video = Sequence[Image] | Image  # frames [n, height, width, 3], in memory or read as needed
Grey = npt.NDArray[np.float64]

_BLOCK = 8  # pixels; the step of common video codecs and of latent cells, or a divisor of it
_NOISE_MASK = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])


def windows(frames: int, fps: float, window_s: float = WINDOW_S) -> tuple[tuple[int, int], ...]:
    """Half-open frame ranges of the windows, from frame 0 on, in order.

    A video shorter than a window is one window; a tail shorter than a window is dropped; windows
    under 16 frames are skipped.

    Raises:
        ValueError: A negative count, or a rate or length that is not positive.

    Source: `temporal_degradation` of the SANA-WM evaluator, with the video's own frame rate where
    that code always takes 16.
    """
    require_integer("number of frames", frames, 0)
    require_number("fps", fps, 0, ends="()")
    require_number("window_s", window_s, 0, ends="()")
    length = int(window_s * fps)
    if min(length, frames) < MIN_WINDOW_FRAMES:
        return ()
    starts = range(0, max(1, frames // length) * length, length)
    return tuple((start, min(start + length, frames)) for start in starts)


def first_to_last(values: Sequence[float]) -> float | None:
    """First minus last: how much was lost, as in the published delta_IQ; negative for a gain.

    None for fewer than two windows, where nothing can have changed.
    """
    return values[0] - values[-1] if len(values) > 1 else None


@dataclass(frozen=True)
class Proxy:
    """A no-reference number of this project.

    Attributes:
        name: Key in results.
        unit: Its unit.
        measure: Takes the frames of a window, each uint8 [height, width, 3] RGB.
        meaning: What it measures, in a line.
    """

    name: str
    unit: str
    measure: Callable[[Video], float]
    meaning: str


def _over_frames(measure: Callable[[Image], float]) -> Callable[[Video], float]:
    """The mean over the frames of a window of what is measured in one, with its docstring."""

    @wraps(measure)
    def mean(window: Video) -> float:
        return fmean(float(measure(frame)) for frame in window)

    return mean


@dataclass(frozen=True)
class DriftWindow:
    """Proxies over frames `start` to `stop` (exclusive), keyed by proxy name."""

    start: int
    stop: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class DriftScore:
    """How one video changes over its windows.

    Attributes:
        windows: In order of time; empty for a video under 16 frames.
        fps: Rate of the video, Hz.
        window_s: Nominal length of a window, seconds.
        frames: Frames of the video, dropped tail included.
        units: Unit of every proxy.
    """

    windows: tuple[DriftWindow, ...]
    fps: float
    window_s: float
    frames: int
    units: Mapping[str, str]

    def drop(self, proxy: str) -> float | None:
        """First window minus last, in the proxy's unit; None with fewer than two windows."""
        return first_to_last([window.values[proxy] for window in self.windows])

    def largest_change(self, proxy: str) -> float | None:
        """First window minus the one farthest from it, in the proxy's unit: sees a collapse in
        mid-clip that has recovered by the end. None with fewer than two windows."""
        values = [window.values[proxy] for window in self.windows]
        if len(values) < 2:
            return None
        return max((values[0] - value for value in values[1:]), key=abs)

    def to_dict(self) -> dict[str, object]:
        """Plain values for json."""
        return {
            "kind": "own no-reference proxies, not VBench",
            "window_s": self.window_s,
            "fps": self.fps,
            "frames": self.frames,
            "frames_scored": sum(window.stop - window.start for window in self.windows),
            "units": dict(self.units),
            "windows": [{"start": w.start, "stop": w.stop, **w.values} for w in self.windows],
            "drop": {name: self.drop(name) for name in self.units},
            "largest_change": {name: self.largest_change(name) for name in self.units},
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> DriftScore:
        """Inverse of `to_dict`, for results read back from disk.

        Raises:
            KeyError: A key is missing.
        """
        units = dict(values["units"])
        rows = [
            DriftWindow(row["start"], row["stop"], {name: float(row[name]) for name in units})
            for row in values["windows"]
        ]
        return DriftScore(tuple(rows), values["fps"], values["window_s"], values["frames"], units)


@_over_frames
def sharpness(frame: Image) -> float:
    """Variance of the Laplacian of the grey image, grey levels squared.

    Falls when an image blurs, rises with noise; grows with resolution and texture.

    Source: Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy, ICPR 2000.
    """
    return float(cv2.Laplacian(_grey(frame), cv2.CV_64F).var())


@_over_frames
def contrast(frame: Image) -> float:
    """Standard deviation of the grey levels."""
    return float(_grey(frame).std())


@_over_frames
def brightness(frame: Image) -> float:
    """Mean grey level, 0 to 255. A drift shows exposure creeping up or down."""
    return float(_grey(frame).mean())


@_over_frames
def colourfulness(frame: Image) -> float:
    """Spread and offset of the opponent colours, grey levels; 0 for grey.

    Source: Hasler and Süsstrunk, Measuring colourfulness in natural images, SPIE 5007, 2003.
    """
    red, green, blue = np.moveaxis(frame.astype(np.float64), -1, 0)
    red_green, yellow_blue = red - green, 0.5 * (red + green) - blue
    spread = math.hypot(red_green.std(), yellow_blue.std())
    return spread + 0.3 * math.hypot(red_green.mean(), yellow_blue.mean())


@_over_frames
def noise(frame: Image) -> float:
    """Estimated standard deviation of pixel noise, grey levels.

    Fine texture counts as noise, so read its change.

    Source: Immerkaer, Fast noise variance estimation, CVIU 64(2), 1996.
    """
    response = cv2.filter2D(_grey(frame), cv2.CV_64F, _NOISE_MASK)[1:-1, 1:-1]
    return float(math.sqrt(math.pi / 2) / 6 * np.abs(response).mean())


@_over_frames
def blockiness(frame: Image) -> float:
    """Mean step across the lines of an 8-pixel grid over the mean step elsewhere.

    1 for an image without a grid, and for a uniform one; more where tiles show. No unit.
    """
    grey, on_grid, elsewhere = _grey(frame), [], []
    for image in (grey, grey.T):
        steps = np.abs(np.diff(image, axis=1)).mean(axis=0)
        edge = np.arange(1, len(steps) + 1) % _BLOCK == 0
        on_grid.append(steps[edge])
        elsewhere.append(steps[~edge])
    # Half a grey level keeps flat images, whose steps are rounding, at 1.
    return float((np.concatenate(on_grid).mean() + 0.5) / (np.concatenate(elsewhere).mean() + 0.5))


def frame_change(window: Video) -> float:
    """Mean absolute difference of successive frames, grey levels; 0 for a frozen video."""
    greys = (_grey(frame) for frame in window)
    return fmean(float(np.abs(after - before).mean()) for before, after in pairwise(greys))


PROXIES: tuple[Proxy, ...] = (
    Proxy("sharpness", "grey levels^2", sharpness, "variance of the Laplacian; falls with blur"),
    Proxy("contrast", "grey levels", contrast, "spread of grey levels"),
    Proxy("brightness", "grey levels", brightness, "mean grey level"),
    Proxy("colourfulness", "grey levels", colourfulness, "0 for grey pictures"),
    Proxy("noise", "grey levels", noise, "estimated pixel noise; fine texture counts"),
    Proxy("blockiness", "1", blockiness, "steps on an 8-pixel grid over steps elsewhere"),
    Proxy("frame_change", "grey levels", frame_change, "0 for a frozen video"),
)


def score_drift(
    frames: Video,
    fps: float,
    *,
    window_s: float = WINDOW_S,
    proxies: Sequence[Proxy] = PROXIES,
) -> DriftScore:
    """Proxies of every window of a video.

    Args:
        frames: uint8 RGB [n, height, width, 3], or anything with a length and slices of frames.
        fps: Rate of the video, Hz.
        window_s: Length of a window, seconds.
        proxies: What to measure.

    Raises:
        ValueError: Frames are not uint8 [height, width, 3] of at least 2 x 8 pixels a side, or a
            rate or length is not positive.
    """
    scored = []
    for start, stop in windows(len(frames), fps, window_s):
        window = frames[start:stop]
        _check(window[0])
        values = {proxy.name: proxy.measure(window) for proxy in proxies}
        scored.append(DriftWindow(start, stop, values))
    units = {proxy.name: proxy.unit for proxy in proxies}
    return DriftScore(tuple(scored), float(fps), float(window_s), len(frames), units)


@dataclass(frozen=True)
class DriftSummary:
    """Drift of several videos.

    Attributes:
        windows: Per window number, the plain mean of every proxy over the clips that reach it.
        clips: Per window number, how many clips those are.
        drop: First minus last of each clip, then the mean over clips, so that a clip that ends
            early changes nothing in the others; None where no clip has two windows.
        clips_asked: Clips given.
        clips_scored: Of those, the ones with at least one window.
        units: Unit of every proxy.
    """

    windows: tuple[Mapping[str, float], ...]
    clips: tuple[int, ...]
    drop: Mapping[str, float | None]
    clips_asked: int
    clips_scored: int
    units: Mapping[str, str]


def summarise_drift(scores: Sequence[DriftScore]) -> DriftSummary:
    """Means over clips, window by window.

    Raises:
        ValueError: No clip, or clips with other proxies or window lengths.
    """
    if not scores:
        raise ValueError("expected at least 1 clip, given 0")
    units, window_s = scores[0].units, scores[0].window_s
    for score in scores:
        if score.units != units or score.window_s != window_s:
            raise ValueError(
                f"expected the same proxies and windows of {window_s} s in every clip, "
                f"given {sorted(score.units)} over {score.window_s} s"
            )
    reached = [
        [score.windows[number] for score in scores if number < len(score.windows)]
        for number in range(max(len(score.windows) for score in scores))
    ]
    drops = {
        name: [drop for score in scores if (drop := score.drop(name)) is not None] for name in units
    }
    return DriftSummary(
        windows=tuple(
            {name: fmean(window.values[name] for window in clips) for name in units}
            for clips in reached
        ),
        clips=tuple(len(clips) for clips in reached),
        drop={name: fmean(values) if values else None for name, values in drops.items()},
        clips_asked=len(scores),
        clips_scored=sum(bool(score.windows) for score in scores),
        units=dict(units),
    )


def _check(frame: Image) -> None:
    frame = np.asarray(frame)
    small = frame.ndim != 3 or min(frame.shape[:2]) < 2 * _BLOCK
    if small or frame.shape[2] != 3 or frame.dtype != np.uint8:
        raise ValueError(
            f"expected uint8 [height, width, 3] frames of at least {2 * _BLOCK} pixels a side, "
            f"given {frame.dtype} {frame.shape}"
        )


def _grey(frame: Image) -> Grey:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.float64)
