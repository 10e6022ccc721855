"""Revisit pairs as json: `{frame_a, frame_b, distance_m, angle_diff_deg, quality_score}`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.evaluation.bench.files import BenchDataError, Row, count, need, number

Array = npt.NDArray[np.float64]


def read_pairs(row: Row, c2w: Array, path: Path, where: str) -> tuple[RevisitPair, ...]:
    """The pairs in a scene's row, best first.

    A pair may be just two frame numbers; distance and angle are then measured on the poses. A
    pair without a quality gets `inf` and comes last.

    Args:
        row: Has `evaluation_pairs`.
        c2w: Poses, [n, 4, 4].
        path: The file, for errors.
        where: The place in it.

    Raises:
        BenchDataError: The pairs are no list, or one lacks a frame or names one that is not there.
    """
    pairs = row["evaluation_pairs"]
    if not isinstance(pairs, list):
        raise BenchDataError("bad_value", path, f"{where}: evaluation_pairs is no list")
    read = [
        _read_pair(pair, c2w, path, f"{where}, evaluation_pairs[{index}]")
        for index, pair in enumerate(pairs)
    ]
    return tuple(sorted(read, key=lambda pair: pair.quality))


def _read_pair(pair: Any, c2w: Array, path: Path, where: str) -> RevisitPair:
    if isinstance(pair, list) and len(pair) == 2:
        pair = {"frame_a": pair[0], "frame_b": pair[1]}
    if not isinstance(pair, dict):
        message = f"{where} is {pair!r}, expected an object or two frame numbers"
        raise BenchDataError("bad_value", path, message)
    need(pair, ("frame_a", "frame_b"), path, where)
    a, b = (count(pair, key, path, where) for key in ("frame_a", "frame_b"))
    if max(a, b) >= len(c2w):
        message = f"{where}: frames {a} and {b}, expected below {len(c2w)}"
        raise BenchDataError("bad_value", path, message)

    def given(key: str, otherwise: float) -> float:
        return otherwise if pair.get(key) is None else number(pair, key, path, where)

    return RevisitPair(
        frame_a=a,
        frame_b=b,
        distance_m=given("distance_m", float(np.linalg.norm(c2w[a, :3, 3] - c2w[b, :3, 3]))),
        angle_deg=given(
            "angle_diff_deg", math.degrees(float(geodesic_angle(c2w[a, :3, :3], c2w[b, :3, :3])))
        ),
        quality=given("quality_score", math.inf),
    )


def pair_rows(pairs: Sequence[RevisitPair]) -> list[dict[str, float]]:
    """Pairs as json values; a quality that is not finite is left out."""
    rows = []
    for pair in pairs:
        row: dict[str, float] = {
            "frame_a": pair.frame_a,
            "frame_b": pair.frame_b,
            "distance_m": pair.distance_m,
            "angle_diff_deg": pair.angle_deg,
        }
        if math.isfinite(pair.quality):
            row["quality_score"] = pair.quality
        rows.append(row)
    return rows
