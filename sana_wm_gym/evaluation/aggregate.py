"""From clips to a table row: plain means that say what they cover.

One number per clip first, then the plain mean over clips; frames of different clips are never
pooled. A clip that failed is counted by its reason code, a number that is undefined on a clip is
left out of that mean and counted by its code, and neither becomes 0 or NaN. Poses that a world
knows about itself (`source="oracle"`) and poses estimated from pixels are never mixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from sana_wm_gym.evaluation.score import AT_FLOOR, RolloutScore
from sana_wm_gym.metrics.conventions import RELEASE, Convention

ERRORS = {"rot_err": "RotErr", "trans_err": "TransErr", "cam_mc": "CamMC"}

_ROLLOUT_KEYS = (
    "source", "mode", "frames_asked", "frames_scored", "estimator",
    "scores", "motionless", "no_rotation", "floor",
)  # fmt: skip
_FAILURE_KEYS = ("code", "frames_asked")


class MixedScoresError(ValueError):
    """Clips whose numbers mean different things and must not share a mean."""


@dataclass(frozen=True)
class FailedClip:
    """A clip without any score.

    Attributes:
        code: Why, such as `truncated_video`.
        frames_asked: Instants that were to be scored.
    """

    code: str
    frames_asked: int


Row = Mapping[str, Any]  # what `to_dict` makes of a clip or of one of its scores


@dataclass(frozen=True)
class Mean:
    """Plain mean of one number over clips.

    Attributes:
        value: None where no clip has the number.
        clips: How many clips it is the mean of.
        codes: How many clips lack it, by reason.
    """

    value: float | None
    clips: int
    codes: Mapping[str, int]

    @staticmethod
    def of(values: Iterable[float | str]) -> Mean:
        """Mean of numbers; a string is the reason why a clip has none.

        Raises:
            ValueError: A number is NaN or infinite.
        """
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
    code `reference_static`.
    """

    rot_err: Mean
    trans_err: Mean
    cam_mc: Mean
    scale: Mean


@dataclass(frozen=True)
class FloorMark:
    """How many clips an estimator can still tell from perfect ones.

    Attributes:
        at_floor: Clips whose error is below twice their own floor.
        with_floor: Clips that have both numbers.
        mean_at_floor: Whether the mean of the error over those clips is below twice the mean of
            their floors; then it ranks nothing. None without such clips.
    """

    at_floor: int
    with_floor: int
    mean_at_floor: bool | None


@dataclass(frozen=True)
class AggregateScore:
    """One table row under one convention.

    Attributes:
        convention: Its name.
        rotation_unit: Of RotErr.
        translation_unit: Of TransErr.
        source: `estimated` or `oracle`; None where every clip failed.
        estimator: Name and version; None where every clip failed.
        clips_asked: Clips given.
        clips_scored: Of those, the ones with a score under this convention.
        frames_asked: Instants asked for, failed clips included.
        frames_scored: Of those, the ones in scored clips that have a pose.
        failures: Clips without a score, by reason.
        modes: Scored clips by the estimator's mode.
        rollout: What the videos score.
        floor: What the estimator makes of true frames, where clips have a floor.
        motionless: What videos that never move would score.
        no_rotation: What videos with the right path that never turn would score.
        floor_marks: Per error name, whether it stands above the floor.
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
    clips: Mapping[str, RolloutScore | FailedClip | Row], convention: Convention = RELEASE
) -> AggregateScore:
    """Means over clips under one convention.

    Args:
        clips: Keyed by name. A `RolloutScore` or its `to_dict()`, or a `FailedClip` or
            `{"code": reason, "frames_asked": n}`.
        convention: Which of the scores to read.

    Raises:
        MixedScoresError: Oracle and estimated poses, estimators of different names or versions,
            or another unit than the convention's; names two of the clips.
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
        rollout=_means(groups["scores"].values()),
        floor=_means(groups["floor"].values()),
        motionless=_means(groups["motionless"].values()),
        no_rotation=_means(groups["no_rotation"].values()),
        floor_marks={error: _mark(pairs, error) for error in ERRORS},
    )


def _row(name: str, clip: RolloutScore | FailedClip | Row) -> Row:
    if isinstance(clip, FailedClip):
        return asdict(clip)
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
        (one, clip), (other, other_clip), *_ = first.items()
        raise MixedScoresError(
            f"expected clips of one {what}, given '{one}' (clip {clip}) "
            f"and '{other}' (clip {other_clip})"
        )
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
        # Nothing but rotation was commanded; what is left of the translation is no answer to it.
        return "reference_static"
    value = score[ERRORS[name]]
    return str(score["undefined"][name]) if value is None else float(value)


def _means(scores: Iterable[Row]) -> ErrorMeans:
    rows = list(scores)
    return ErrorMeans(*(Mean.of(_value(row, name) for row in rows) for name in (*ERRORS, "scale")))


def _mark(pairs: Sequence[tuple[Row, Row]], error: str) -> FloorMark:
    values = ((_value(score, error), _value(floor, error)) for score, floor in pairs)
    both = [(v, f) for v, f in values if not isinstance(v, str) and not isinstance(f, str)]
    means = [fmean(column) for column in zip(*both, strict=True)]
    return FloorMark(
        at_floor=sum(value < AT_FLOOR * floor for value, floor in both),
        with_floor=len(both),
        mean_at_floor=means[0] < AT_FLOOR * means[1] if both else None,
    )
