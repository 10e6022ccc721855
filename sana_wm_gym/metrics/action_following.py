"""Whether each chunk moved as its action commands, whether inverse actions undo each other, and
WorldScore's camera error. All read poses, commanded and estimated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.se3 import geodesic_angle, invert
from sana_wm_gym.checks import require_integer
from sana_wm_gym.metrics.conventions import SCALE_ONLY
from sana_wm_gym.metrics.pose import score_or_code
from sana_wm_gym.metrics.pose_checks import DegenerateTrajectoryError, PathPair, checked_paths

MIN_TURN_DEG = 1.0
"""Chunks that are commanded to turn by less are left out of the turn's numbers, degrees."""
MIN_STEP_M = 0.02
"""Chunks that are commanded to move by less are left out of the step's numbers, metres."""
_VARIES = 0.1  # of the command's root mean square per frame, before a delay can be read

Array = npt.NDArray[np.float64]
Motion = Callable[[Array, npt.NDArray[np.int64], npt.NDArray[np.int64]], Array]
"""(poses, first frames, second frames) -> motion between them, [n, 3]."""


@dataclass(frozen=True)
class Following:
    """One kind of motion, turning or stepping, over the chunks that command it.

    Attributes:
        chunks: Chunks that command it; 0 leaves the rest None.
        sign: Fraction of them that moved to the commanded side rather than the other.
        ratio: Mean of (motion along the commanded one) / (commanded motion): 1 is right, 0 does
            not move, below 0 goes the other way.
        delay_frames: Frames by which the motion follows the command, the lag of the largest
            correlation; None where the command varies too little.
    """

    chunks: int
    sign: float | None = None
    ratio: float | None = None
    delay_frames: int | None = None


@dataclass(frozen=True)
class ActionFollowing:
    """`turn` in the camera's frame, and `step` between centres, both from the chunk's own start."""

    turn: Following
    step: Following

    def to_dict(self) -> dict[str, object]:
        """Plain values for json."""
        return asdict(self)


def action_following(
    estimate: npt.ArrayLike,
    reference: npt.ArrayLike,
    frames_per_chunk: int,
    valid: npt.ArrayLike | None = None,
) -> ActionFollowing:
    """Compare each chunk's motion with its command.

    Args:
        estimate: Camera-to-world poses [n, 4, 4], first frame included; brought to the reference's
            scale by one factor, as `scale_only` does, where one can be fitted.
        reference: Commanded poses at the same instants.
        frames_per_chunk: Frames of one action; frames after the last whole chunk are left out.
        valid: bool [n]; chunks that begin or end at a frame without an estimate are left out.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        ValueError: `frames_per_chunk` is not a whole number of at least 1.
    """
    require_integer("frames_per_chunk", frames_per_chunk, 1)
    est, ref, keep = checked_paths(estimate, reference, valid)
    est, ref = (np.where(keep[:, None, None], path, np.eye(4)) for path in (est, ref))
    score = score_or_code(est, ref, SCALE_ONLY, keep, 0.0)
    scale = 1.0 if isinstance(score, str) or score.scale is None else score.scale
    ends = np.arange(0, len(ref), frames_per_chunk)
    starts, stops = ends[:-1], ends[1:]
    whole = keep[starts] & keep[stops]
    starts, stops, frames = starts[whole], stops[whole], np.arange(len(ref) - 1)
    est[:, :3, 3] *= scale
    known = keep[:-1] & keep[1:]

    def follow(motion: Motion, least: float) -> Following:
        commanded, done = (
            (motion(path, starts, stops), motion(path, frames, frames + 1)) for path in (ref, est)
        )
        return _follow(commanded, done, known, least, frames_per_chunk)

    return ActionFollowing(follow(_turns, np.radians(MIN_TURN_DEG)), follow(_steps, MIN_STEP_M))


def _turns(path: Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Array:
    relative = np.swapaxes(path[first, :3, :3], -1, -2) @ path[second, :3, :3]
    if not len(relative):
        return np.empty((0, 3))
    return np.asarray(Rotation.from_matrix(relative).as_rotvec())


def _steps(path: Array, first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> Array:
    return np.asarray((invert(path[first]) @ path[second])[:, :3, 3])


def _follow(
    commanded: tuple[Array, Array],
    done: tuple[Array, Array],
    known: npt.NDArray[np.bool_],
    least: float,
    longest: int,
) -> Following:
    """Compare motions [chunks, 3] and, for the delay, those of each frame [n - 1, 3]."""
    moves = np.linalg.norm(commanded[0], axis=1) >= least
    if not moves.any():
        return Following(0)
    target, made = commanded[0][moves], done[0][moves]
    ratio = np.sum(target * made, axis=1) / np.sum(target**2, axis=1)
    return Following(
        int(moves.sum()),
        float(np.mean(ratio > 0)),
        float(np.mean(ratio)),
        _delay(known[:, None] * commanded[1], known[:, None] * done[1], longest),
    )


def _delay(commanded: Array, done: Array, longest: int) -> int | None:
    """Lag in [0, longest] frames at which per-frame motions [n, 3] correlate most."""
    spread, size = commanded.std(axis=0), np.sqrt(np.mean(np.sum(commanded**2, axis=1)))
    if np.linalg.norm(spread) < _VARIES * size or not done.any():
        return None
    best, lag_of_best = 0.0, None
    for lag in range(min(longest, len(commanded) - 2) + 1):
        a, b = commanded[: len(commanded) - lag], done[lag:]
        norm = np.sqrt(np.sum(a**2) * np.sum(b**2))
        correlation = float(np.sum(a * b) / norm) if norm > 0 else 0.0
        if correlation > best + 1e-12:
            best, lag_of_best = correlation, lag
    return lag_of_best


@dataclass(frozen=True)
class ReturnError:
    """How far a path out and back by inverse actions is from its own mirror image.

    Attributes:
        rotation_deg: Mean angle between the orientations at the same distance from the turning
            frame, degrees.
        translation: Mean distance between the centres there, over the path's largest distance from
            its first frame; None for a path that does not move.
    """

    rotation_deg: float
    translation: float | None


def forward_backward_error(estimate: npt.ArrayLike, turning_frame: int) -> ReturnError:
    """Forward-backward symmetry of a path whose second half is commanded to undo the first.

    Args:
        estimate: Estimated camera-to-world poses [2 k + 1, 4, 4].
        turning_frame: k, the frame after which actions are undone.

    Raises:
        ValueError: There are not 2 k + 1 poses, k >= 1.
        InvalidPosesError: A frame is not a finite rigid pose.
    """
    require_integer("turning_frame", turning_frame, 1)
    path, _, _ = checked_paths(estimate, estimate)
    if len(path) != 2 * turning_frame + 1:
        raise ValueError(
            f"given {len(path)} poses and turning frame {turning_frame}, "
            f"expected {2 * turning_frame + 1} poses"
        )
    there, back = path[:turning_frame], path[:turning_frame:-1]
    angle = np.degrees(geodesic_angle(there[:, :3, :3], back[:, :3, :3]))
    gap = np.linalg.norm(there[:, :3, 3] - back[:, :3, 3], axis=1)
    extent = float(np.linalg.norm(path[:, :3, 3] - path[0, :3, 3], axis=1).max())
    return ReturnError(float(angle.mean()), float(gap.mean() / extent) if extent > 1e-6 else None)


@dataclass(frozen=True)
class WorldScoreCameraError:
    """WorldScore's camera controllability, before it is mapped to 0 to 100.

    Attributes:
        rotation_deg: Mean angle between orientations.
        translation: Mean distance between centres after one factor fitted by least absolute
            deviation, in units of the reference.
        error: Their geometric mean, sqrt(rotation_deg * translation).
        scale: The fitted factor, of either sign.
    """

    rotation_deg: float
    translation: float
    error: float
    scale: float


def worldscore_camera_error(
    estimate: npt.ArrayLike, reference: npt.ArrayLike, valid: npt.ArrayLike | None = None
) -> WorldScoreCameraError:
    """Camera error as WorldScore defines it; both paths relative to their first valid frame.

    Args:
        estimate: Camera-to-world poses [n, 4, 4].
        reference: Commanded poses at the same instants.
        valid: bool [n], frames to read, on both sides; all by default.

    Raises:
        InvalidPosesError: Shapes differ, or a frame is not a finite rigid pose.
        DegenerateTrajectoryError: Fewer than 2 valid frames, or the estimate does not move.

    Source: Duan et al., WorldScore, arXiv 2504.00983: controllability, camera error.
    """
    est, ref, keep = checked_paths(estimate, reference, valid)
    if keep.sum() < 2:
        raise DegenerateTrajectoryError("too_few_frames", "worldscore", int(keep.sum()))
    pair = PathPair.of(ref[keep], est[keep])
    if pair.estimate_spread.static:
        raise DegenerateTrajectoryError("estimate_static", "worldscore", int(keep.sum()), pair)
    true, seen = pair.reference[:, :3, 3], pair.estimate[:, :3, 3]
    scale = _least_absolute_factor(seen.ravel(), true.ravel())
    angle = np.degrees(geodesic_angle(pair.reference[:, :3, :3], pair.estimate[:, :3, :3]))
    rotation = float(angle.mean())
    translation = float(np.linalg.norm(scale * seen - true, axis=1).mean())
    return WorldScoreCameraError(
        rotation, translation, float(np.sqrt(rotation * translation)), scale
    )


def _least_absolute_factor(source: Array, target: Array) -> float:
    """The c that minimises sum |c source - target|: a median of ratios, weighted by |source|."""
    used = np.abs(source) > 1e-12
    ratio, weight = target[used] / source[used], np.abs(source[used])
    order = np.argsort(ratio)
    total = np.cumsum(weight[order])
    return float(ratio[order][np.searchsorted(total, total[-1] / 2)])
