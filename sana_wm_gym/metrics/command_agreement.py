"""Does the picture move as commanded? Control measured without estimating a camera path.

For two frames, the commanded relative pose (R, t) leaves a point seen at x_i one degree of freedom
in the other frame, its depth z: the segment of pi(K (R K^-1 x_i + t / z)) over all admissible z.
The distance of where the point is really found from that segment needs no scale, no alignment and
no reconstruction, and is defined for turns on the spot and for straight and short paths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import invert
from sana_wm_gym.checks import require_range

MIN_POINTS = 30
"""Pairs of frames with fewer tracked points are left out."""
MIN_BASELINE_M = 0.02
"""Epipolar numbers read only pairs whose commanded centres are farther apart, metres."""
TSED_PX = (1.0, 2.0, 4.0)
"""Thresholds of the thresholded symmetric epipolar distance, pixels."""
_MOTIONLESS_PX = 0.05  # a command that moves the picture less than this has no effect
_IN_FRONT = 1e-6  # least depth along the ray, in units of its own

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairAgreement:
    """One pair of frames, in pixels.

    Attributes:
        away_px: Median distance of the points found from what the command allows.
        still_px: The same if every point had stayed where it was.
        sampson_px: Median Sampson distance; None where the command hardly translates.
        epipolar_px: Median symmetric epipolar distance; None likewise.
    """

    away_px: float
    still_px: float
    sampson_px: float | None
    epipolar_px: float | None


@dataclass(frozen=True)
class CommandAgreement:
    """Agreement of one clip, or of several, over pairs of frames a fixed time apart.

    Attributes:
        span_s: Time between the frames of a pair, seconds.
        pairs: Pairs that were measured.
        left_out: Pairs with fewer than `MIN_POINTS` tracked points.
        away_px: Mean of the pairs' `away_px`; 0.0 without pairs.
        still_px: Mean of the pairs' `still_px`; 0.0 without pairs.
        sampson_px: Mean of the pairs' Sampson distances; None where no pair has one.
        tsed: Fraction of the pairs with an epipolar distance for which it is under each of
            `TSED_PX`, by threshold; empty where no pair has one.
        epipolar_pairs: Pairs with an epipolar distance.
    """

    span_s: float
    pairs: int
    left_out: int
    away_px: float
    still_px: float
    sampson_px: float | None
    tsed: Mapping[float, float]
    epipolar_pairs: int

    @property
    def code(self) -> str | None:
        """Why agreement is undefined: `too_few_points` or `command_motionless`; else None."""
        if not self.pairs:
            return "too_few_points"
        return "command_motionless" if self.still_px < _MOTIONLESS_PX else None

    @property
    def agreement(self) -> float | None:
        """away / still: 0 follows the command, 1 is a still picture, above 1 contradicts it; None
        where it is undefined, see `code`."""
        return None if self.code else self.away_px / self.still_px

    def to_dict(self) -> dict[str, Any]:
        """Plain values for json."""
        tsed = {f"tsed_{threshold:g}px": value for threshold, value in self.tsed.items()}
        values = {**asdict(self), "agreement": self.agreement, "code": self.code, **tsed}
        return {name: value for name, value in values.items() if name != "tsed"}


def pair_agreement(
    found: npt.ArrayLike,
    points: npt.ArrayLike,
    relative: npt.ArrayLike,
    intrinsics: npt.ArrayLike,
    depths_m: tuple[float, float] = (0.0, np.inf),
) -> PairAgreement:
    """Compare where points went with where a command can have sent them.

    Args:
        found: Pixels [n, 2] of the points in the second frame, n >= 1.
        points: Pixels [n, 2] of the same points in the first frame; centres at half-integers.
        relative: Commanded pose [4, 4] of the first camera in the second one's frame.
        intrinsics: (fx, fy, cx, cy) in pixels.
        depths_m: Nearest and farthest depth that a point may have in the first frame, metres; any
            by default, for commands of unknown unit. Then a still picture agrees with a straight
            walk, all of whose points may be infinitely far away.

    Raises:
        ValueError: Shapes differ, or the depths do not rise.
    """
    second, first = (np.asarray(xy, dtype=np.float64) for xy in (found, points))
    pose = np.asarray(relative, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 2 or first.shape[1:] != (2,) or not len(first):
        raise ValueError(
            f"given points of shapes {first.shape} and {second.shape}, expected [n, 2] twice"
        )
    if pose.shape != (4, 4):
        raise ValueError(f"relative pose has shape {pose.shape}, expected (4, 4)")
    require_range("depths_m", depths_m, 0.0, np.inf)
    fx, fy, cx, cy = np.asarray(intrinsics, dtype=np.float64)
    camera = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    inverse = np.array([[1 / fx, 0.0, -cx / fx], [0.0, 1 / fy, -cy / fy], [0.0, 0.0, 1.0]])
    rotation, translation = pose[:3, :3], pose[:3, 3]
    segments = _segments(
        _homogeneous(first) @ (camera @ rotation @ inverse).T, camera @ translation, depths_m
    )
    sampson = epipolar = None
    if np.linalg.norm(translation) > MIN_BASELINE_M:
        cross = np.cross(np.eye(3), translation)
        fundamental = inverse.T @ cross.T @ rotation @ inverse
        sampson, epipolar = _epipolar(_homogeneous(first), _homogeneous(second), fundamental)
    limit = 2 * max(cx, cy, 1.0)
    return PairAgreement(
        _median_distance(second, segments, limit),
        _median_distance(first, segments, limit),
        sampson,
        epipolar,
    )


def relative_command(c2w: Array, first: int, second: int) -> Array:
    """Pose [4, 4] of camera `first` of a path [n, 4, 4] in the frame of camera `second`."""
    return np.asarray(invert(c2w[second]) @ c2w[first])


def clip_agreement(
    span_s: float, pairs: Iterable[PairAgreement], left_out: int = 0
) -> CommandAgreement:
    """Agreement over pairs, of one clip or of many: sums of distances, so that pairs in which the
    command moves the picture more weigh more.

    Args:
        span_s: Time between the frames of each pair, seconds.
        pairs: What was measured.
        left_out: Pairs that had too few points.
    """
    pairs = list(pairs)
    sampson = [pair.sampson_px for pair in pairs if pair.sampson_px is not None]
    epipolar = np.array([pair.epipolar_px for pair in pairs if pair.epipolar_px is not None])
    return CommandAgreement(
        span_s=span_s,
        pairs=len(pairs),
        left_out=left_out,
        away_px=float(np.mean([pair.away_px for pair in pairs])) if pairs else 0.0,
        still_px=float(np.mean([pair.still_px for pair in pairs])) if pairs else 0.0,
        sampson_px=float(np.mean(sampson)) if sampson else None,
        tsed={t: float(np.mean(epipolar < t)) for t in TSED_PX} if len(epipolar) else {},
        epipolar_pairs=len(epipolar),
    )


def mean_agreement(clips: Iterable[CommandAgreement]) -> CommandAgreement:
    """Agreement over clips of one span: the ratio of the clips' summed mean distances.

    Raises:
        ValueError: There is no clip, or spans differ.
    """
    clips = list(clips)
    spans = sorted({clip.span_s for clip in clips})
    if len(spans) != 1:
        raise ValueError(f"given clips of spans {spans} s, expected one span")
    used = [clip for clip in clips if clip.code != "too_few_points"]
    counts = [clip.epipolar_pairs for clip in used]
    epipolar = [clip for clip in used if clip.epipolar_pairs]

    def weighted(values: list[float]) -> float:
        return float(np.average(values, weights=[clip.epipolar_pairs for clip in epipolar]))

    sampson = [clip.sampson_px for clip in epipolar if clip.sampson_px is not None]
    return CommandAgreement(
        span_s=spans[0],
        pairs=sum(clip.pairs for clip in used),
        left_out=sum(clip.left_out for clip in clips),
        away_px=float(np.mean([clip.away_px for clip in used])) if used else 0.0,
        still_px=float(np.mean([clip.still_px for clip in used])) if used else 0.0,
        sampson_px=weighted(sampson) if sampson else None,
        tsed={t: weighted([clip.tsed[t] for clip in epipolar]) for t in TSED_PX}
        if epipolar
        else {},
        epipolar_pairs=sum(counts),
    )


def _homogeneous(xy: Array) -> Array:
    return np.concatenate([xy, np.ones((len(xy), 1))], axis=1)


def _segments(far: Array, towards: Array, depths_m: tuple[float, float]) -> tuple[Array, Array]:
    """Ends [n, 2] of the image of each ray between two depths; NaN where it is never in front.

    Args:
        far: Homogeneous pixels [n, 3] of the rays' points at infinity.
        towards: Homogeneous pixel [3] of the first camera's centre.
        depths_m: Nearest and farthest depth along each ray.
    """
    nearest, farthest = depths_m
    lowest = np.full(len(far), 0.0 if np.isinf(farthest) else 1 / farthest)
    # A point at the first camera itself is seen at `towards`; any finite depth comes after it.
    highest = np.full(len(far), 1e6 if nearest == 0 else 1 / nearest)
    depth, slope = far[:, 2], towards[2]
    if slope != 0:
        boundary = (_IN_FRONT - depth) / slope
        if slope > 0:
            lowest = np.maximum(lowest, boundary)
        else:
            highest = np.minimum(highest, boundary)
    seen = (lowest <= highest) & (depth + slope * lowest > 0)

    def image(inverse_depth: Array) -> Array:
        point = far + inverse_depth[:, None] * towards
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(seen[:, None], point[:, :2] / point[:, 2:], np.nan))

    return image(lowest), image(highest)


def _median_distance(xy: Array, segments: tuple[Array, Array], limit: float) -> float:
    """Median distance of points [n, 2] from their segments, at most `limit` each."""
    start, end = segments
    along = end - start
    length = np.sum(along**2, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        place = np.where(length > 0, np.sum((xy - start) * along, axis=1) / length, 0.0)
    nearest = start + np.clip(place, 0.0, 1.0)[:, None] * along
    distance = np.linalg.norm(xy - nearest, axis=1)
    return float(np.median(np.where(np.isfinite(distance), np.minimum(distance, limit), limit)))


def _epipolar(first: Array, second: Array, fundamental: Array) -> tuple[float, float]:
    """Median Sampson distance and median symmetric epipolar distance, pixels."""
    lines, back = first @ fundamental.T, second @ fundamental
    residual = np.abs(np.sum(second * lines, axis=1))
    there, here = np.sum(lines[:, :2] ** 2, axis=1), np.sum(back[:, :2] ** 2, axis=1)
    tiny = np.finfo(np.float64).tiny
    sampson = residual / np.sqrt(np.maximum(there + here, tiny))
    symmetric = (
        residual / np.sqrt(np.maximum(there, tiny)) + residual / np.sqrt(np.maximum(here, tiny))
    ) / 2
    return float(np.median(sampson)), float(np.median(symmetric))
