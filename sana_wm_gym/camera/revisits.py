"""Where a camera path comes back to a view: pairs of frames that should show the same picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.checks import require_number

Array = npt.NDArray[np.float64]

MIN_GAP_S = 5.0
"""Least time between the two frames of a pair, seconds."""
SPACING_S = 1.0
"""Least time between two pairs, seconds."""
MAX_DISTANCE_M = 0.5
"""Centres of a pair are nearer than this, metres."""
MAX_ANGLE_DEG = 20.0
"""Orientations of a pair differ by less than this, degrees."""


@dataclass(frozen=True)
class RevisitPair:
    """Two frames that see almost the same.

    Attributes:
        frame_a: Index of the earlier frame.
        frame_b: Index of the later frame.
        distance_m: Between the camera centres.
        angle_deg: Between the orientations.
        quality: distance / 0.5 m + angle / 20 degrees; smaller is better, below 2.
    """

    frame_a: int
    frame_b: int
    distance_m: float
    angle_deg: float
    quality: float


def find_revisits(c2w: Array, fps: float, *, look_away_deg: float = 0.0) -> tuple[RevisitPair, ...]:
    """The revisits of a path, best first.

    Of all pairs at least `MIN_GAP_S` apart in time, nearer than `MAX_DISTANCE_M` and turned by
    less than `MAX_ANGLE_DEG`, the best is taken, then the best whose earlier frames are at least
    `SPACING_S` apart from those of all pairs taken and whose later frames are too, and so on.
    Equally good pairs are taken in order of their frames.

    Args:
        c2w: Camera-to-world poses, [n, 4, 4], metres.
        fps: Frames per second.
        look_away_deg: Keep only pairs between which the camera turned away from both views by at
            least this angle, degrees. A camera that stays needs no memory: with the horizontal
            field of view here, what a pair compares has been out of sight.

    Raises:
        ValueError: Wrong shape, a pose that is not a rigid transform, fps not above 0, or an angle
            outside [0, 180].

    Source: SANA-WM-Bench's evaluation pairs (arXiv 2605.15178); gap, spacing and quality are
        this project's, where the paper gives none.
    """
    require_number("fps", fps, 0, ends="()")
    require_number("look_away_deg", look_away_deg, 0, 180)
    check_rigid(c2w, "c2w")
    a, b, distance, angle = _candidates(c2w, fps)
    if look_away_deg:
        away = _looked_away(c2w, a, b, look_away_deg)
        a, b, distance, angle = a[away], b[away], distance[away], angle[away]
    quality = distance / MAX_DISTANCE_M + angle / MAX_ANGLE_DEG
    left = np.lexsort((b, a, quality))
    pairs = []
    while len(left):
        i = left[0]
        pairs.append(
            RevisitPair(
                int(a[i]), int(b[i]), float(distance[i]), float(angle[i]), float(quality[i])
            )
        )
        spacing = SPACING_S * fps
        left = left[(np.abs(a[left] - a[i]) >= spacing) & (np.abs(b[left] - b[i]) >= spacing)]
    return tuple(pairs)


def _candidates(
    c2w: Array, fps: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Array, Array]:
    """All pairs that qualify: frames a, frames b, metres, degrees."""
    centres, rotations = c2w[:, :3, 3], c2w[:, :3, :3]
    frame = np.arange(len(c2w))
    a, b = np.nonzero(frame[None, :] - frame[:, None] >= MIN_GAP_S * fps)
    distance = np.linalg.norm(centres[a] - centres[b], axis=1)
    near = distance < MAX_DISTANCE_M
    a, b, distance = a[near], b[near], distance[near]
    angle = np.rad2deg(geodesic_angle(rotations[a], rotations[b]))
    alike = angle < MAX_ANGLE_DEG
    return a[alike], b[alike], distance[alike], angle[alike]


def _looked_away(
    c2w: Array, a: npt.NDArray[np.int64], b: npt.NDArray[np.int64], least_deg: float
) -> npt.NDArray[np.bool_]:
    """Whether the orientation was at least this far from both frames of a pair in between."""
    rotations = c2w[:, :3, :3]
    kept = np.zeros(len(a), dtype=bool)
    for pair, (first, last) in enumerate(zip(a, b, strict=True)):
        between = rotations[first : last + 1]
        angles = [geodesic_angle(between, rotations[end]) for end in (first, last)]
        kept[pair] = bool(np.degrees(np.minimum(*angles)).max() >= least_deg)
    return kept
