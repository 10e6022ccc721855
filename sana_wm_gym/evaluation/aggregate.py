"""Means of camera errors over clips: one number per clip first, then the plain mean over clips.
Failed clips and undefined numbers are left out and counted by their code; neither becomes 0 or NaN.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from sana_wm_gym.evaluation.score import AT_FLOOR, RolloutScore
from sana_wm_gym.metrics.conventions import RELEASE, Convention
from sana_wm_gym.tables import cell

ERRORS = {"rot_err": "RotErr", "trans_err": "TransErr", "cam_mc": "CamMC"}

_ROLLOUT_KEYS = (
    "source", "mode", "frames_asked", "frames_scored", "estimator",
    "scores", "motionless", "no_rotation", "floor",
)  # fmt: skip
_FAILURE_KEYS = ("code", "frames_asked")

Row = Mapping[str, Any]  # what `to_dict` makes of a clip or of one of its scores


class MixedScoresError(ValueError):
    """Clips whose numbers mean different things and must not share a mean."""


@dataclass(frozen=True)
class Mean:
    """Plain mean of one number over `clips` clips, None without any; `codes` counts the clips that
    lack the number, by reason."""

    value: float | None
    clips: int
    codes: Mapping[str, int]

    @staticmethod
    def of(values: Iterable[float | str]) -> Mean:
        """Mean of finite numbers, else `ValueError`; a string is why a clip has none."""
        given = list(values)
        numbers = [float(value) for value in given if not isinstance(value, str)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"expected finite numbers or reason codes, given {given}")
        codes = Counter(value for value in given if isinstance(value, str))
        return Mean(fmean(numbers) if numbers else None, len(numbers), dict(codes))


@dataclass(frozen=True)
class ErrorMeans:
    """RotErr, TransErr, CamMC and the fitted scale of a group of clips.

    Clips whose command does not translate enter RotErr only: their TransErr and CamMC carry the
    code `reference_static`. As a text, the three errors and of how many clips, or reason codes.
    """

    rot_err: Mean
    trans_err: Mean
    cam_mc: Mean
    scale: Mean

    @staticmethod
    def of(scores: Iterable[Row]) -> ErrorMeans:
        """Means of scores as `PoseScore.to_dict` returns them, or `{"code": reason}`."""
        rows = list(scores)
        return ErrorMeans(
            *(Mean.of(_value(row, key) for row in rows) for key in (*ERRORS, "scale"))
        )

    def __str__(self) -> str:
        scored, codes = self.rot_err.clips, code_counts(self.rot_err.codes)
        if not scored:
            return codes or "not requested"
        means = ((self.rot_err, 2), (self.trans_err, 3), (self.cam_mc, 3))
        errors = " / ".join(cell(mean.value, digits) for mean, digits in means)
        requested = scored + sum(self.rot_err.codes.values())
        return f"{errors} ({scored}/{requested}{': ' + codes if codes else ''})"


@dataclass(frozen=True)
class FloorMark:
    """How many of the clips with an error and a floor have an error below twice that floor, and
    whether the mean is below twice the mean floor, where it ranks nothing; None without clips."""

    at_floor: int
    with_floor: int
    mean_at_floor: bool | None

    @staticmethod
    def of(pairs: Iterable[tuple[Row, Row]], error: str) -> FloorMark:
        """Compare one error of scores with that of their floors."""
        values = ((_value(score, error), _value(floor, error)) for score, floor in pairs)
        both = [(v, f) for v, f in values if not isinstance(v, str) and not isinstance(f, str)]
        means = [fmean(column) for column in zip(*both, strict=True)]
        return FloorMark(
            at_floor=sum(value < AT_FLOOR * floor for value, floor in both),
            with_floor=len(both),
            mean_at_floor=means[0] < AT_FLOOR * means[1] if both else None,
        )


@dataclass(frozen=True)
class AggregateScore:
    """One table row under one convention.

    `source` (`estimated` or `oracle`) and `estimator` (name and version) are None where every clip
    failed. `frames_asked` counts the instants of all clips, `frames_scored` those with a pose in
    scored clips; `failures` clips without a score by reason, `modes` scored clips by the
    estimator's mode. Means are of the videos (`rollout`), of true frames where clips have a
    `floor`, and of videos that never move or have the right path and never turn. `floor_marks`
    has, per error name, whether it stands above the floor.
    """

    convention: str
    rotation_unit: str
    translation_unit: str
    source: str | None
    estimator: str | None
    clips_asked: int
    clips_scored: int
    frames_asked: int
    frames_scored: int
    failures: Mapping[str, int]
    modes: Mapping[str, int]
    rollout: ErrorMeans
    floor: ErrorMeans
    motionless: ErrorMeans
    no_rotation: ErrorMeans
    floor_marks: Mapping[str, FloorMark]

    @property
    def coverage(self) -> str:
        """The line to print next to every mean."""
        return (
            f"{self.clips_scored}/{self.clips_asked} clips, "
            f"{self.frames_scored}/{self.frames_asked} frames"
        )


def aggregate_clips(
    clips: Mapping[str, RolloutScore | Row], convention: Convention = RELEASE
) -> AggregateScore:
    """Means over clips under one convention.

    Args:
        clips: By name, a `RolloutScore` or its `to_dict()`; or `{"code": reason, "frames_asked":
            n}` for a clip without any score.
        convention: Which of the scores to read.

    Raises:
        MixedScoresError: Oracle and estimated poses, estimators of different names or versions,
            or another unit than the convention's; names the clips.
        ValueError: A clip lacks a key, or a number is not finite.

    Source: release evaluator (mean over scenes); coverage and codes are this project's.
    """
    rows = {name: _row(name, clip) for name, clip in clips.items()}
    made = {name: row for name, row in rows.items() if "code" not in row}
    own = {name: _score(name, row, "scores", convention) for name, row in made.items()}
    scored = {name: row for name, row in made.items() if "code" not in own[name]}
    groups: dict[str, dict[str, Row]] = {
        key: {
            name: _score(name, row, key, convention)
            for name, row in scored.items()
            if row[key] is not None
        }
        for key in ("scores", "floor", "motionless", "no_rotation")
    }
    pairs = [(own[name], floor) for name, floor in groups["floor"].items()]
    estimators = {
        name: f"{row['estimator']['name']} {row['estimator']['version']}"
        for name, row in made.items()
    }
    failed = (own.get(name, row)["code"] for name, row in rows.items() if name not in scored)
    return AggregateScore(
        convention=convention.name,
        rotation_unit=convention.rotation_unit,
        translation_unit=convention.translation_unit,
        source=_common("source", {name: row["source"] for name, row in made.items()}),
        estimator=_common("estimator", estimators),
        clips_asked=len(rows),
        clips_scored=len(scored),
        frames_asked=sum(int(row["frames_asked"]) for row in rows.values()),
        frames_scored=sum(int(row["frames_scored"]) for row in scored.values()),
        failures=dict(Counter(failed)),
        modes=dict(Counter(str(row["mode"]) for row in scored.values())),
        rollout=ErrorMeans.of(groups["scores"].values()),
        floor=ErrorMeans.of(groups["floor"].values()),
        motionless=ErrorMeans.of(groups["motionless"].values()),
        no_rotation=ErrorMeans.of(groups["no_rotation"].values()),
        floor_marks={error: FloorMark.of(pairs, error) for error in ERRORS},
    )


def code_counts(codes: Mapping[str, int]) -> str:
    """Reason codes and how often each occurs, as a text."""
    return ", ".join(f"{code} {count}" for code, count in sorted(codes.items()))


def _row(name: str, clip: RolloutScore | Row) -> Row:
    row = clip.to_dict() if isinstance(clip, RolloutScore) else clip
    missing = [k for k in (_FAILURE_KEYS if "code" in row else _ROLLOUT_KEYS) if k not in row]
    if missing:
        raise ValueError(f"clip {name} lacks {', '.join(missing)}")
    return row


def _common(what: str, values: Mapping[str, str]) -> str | None:
    """The value that all clips share, or None without clips."""
    first: dict[str, str] = {}
    for name, value in values.items():
        first.setdefault(value, name)
    if len(first) > 1:
        named = " and ".join(f"'{value}' (clip {name})" for value, name in first.items())
        raise MixedScoresError(f"expected clips of one {what}, given {named}")
    return next(iter(first), None)


def _score(name: str, row: Row, group: str, convention: Convention) -> Row:
    """One clip's numbers under the convention, or `{"code": reason}`."""
    if convention.name not in row[group]:
        raise ValueError(f"clip {name} has no '{convention.name}' among its {group}")
    score: Row = row[group][convention.name]
    units = {"RotErr_unit": convention.rotation_unit, "TransErr_unit": convention.translation_unit}
    for key, unit in units.items():
        if "code" not in score and score.get(key) != unit:
            raise MixedScoresError(
                f"clip {name}: {key} is {score.get(key)!r}, expected '{unit}' "
                f"under '{convention.name}'"
            )
    return score


def _value(score: Row, name: str) -> float | str:
    """An error or the scale, or why there is none."""
    if "code" in score:
        return str(score["code"])
    if name == "scale":
        return "not_fitted" if score["scale"] is None else float(score["scale"])
    if name != "rot_err" and "reference_static" in score["flags"]:
        # Only rotation was commanded; what is left of the translation is no answer to it.
        return "reference_static"
    value = score[ERRORS[name]]
    return str(score["undefined"][name]) if value is None else float(value)
