"""From clips to a table row: plain means that say what they cover.

One number per clip first, then the plain mean over clips; frames of different clips are never
pooled. A clip that failed is counted by its reason code, a number that is undefined on a clip is
left out of that mean and counted by its code, and neither becomes 0 or NaN. Poses that a world
knows about itself (`source="oracle"`) and poses estimated from pixels are never mixed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from sana_wm_gym.evaluation.score import RolloutScore
from sana_wm_gym.metrics.conventions import RELEASE, Convention

ERRORS = {"rot_err": "RotErr", "trans_err": "TransErr", "cam_mc": "CamMC"}
AT_FLOOR = 2.0  # a score below this many floors ranks nothing


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


Clip = RolloutScore | FailedClip | Mapping[str, Any]


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
        numbers: list[float] = []
        codes: Counter[str] = Counter()
        for value in values:
            if isinstance(value, str):
                codes[value] += 1
            elif math.isfinite(value):
                numbers.append(float(value))
            else:
                raise ValueError(f"expected finite numbers or reason codes, given {value}")
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

    def to_dict(self) -> dict[str, Any]:
        """Plain values for json."""
        return asdict(self)


def aggregate_clips(clips: Mapping[str, Clip], convention: Convention = RELEASE) -> AggregateScore:
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
    rows = {name: _plain(name, clip) for name, clip in clips.items()}
    judged = {name: row for name, row in rows.items() if "code" not in row}
    source = _common(judged, "source", lambda row: str(row["source"]))
    estimator = _common(
        judged,
        "estimator",
        lambda row: f"{row['estimator']['name']} {row['estimator']['version']}",
    )
    own = {name: _score(name, row, "scores", convention) for name, row in judged.items()}
    scored = {name: row for name, row in judged.items() if "code" not in own[name]}
    failures = Counter(
        str(row["code"] if "code" in row else own[name]["code"])
        for name, row in rows.items()
        if name not in scored
    )

    def group(key: str) -> list[Mapping[str, Any]]:
        return [
            _score(name, row, key, convention)
            for name, row in scored.items()
            if row[key] is not None
        ]

    floors = {
        name: _score(name, row, "floor", convention)
        for name, row in scored.items()
        if row["floor"] is not None
    }
    return AggregateScore(
        convention=convention.name,
        rotation_unit=convention.rotation_unit,
        translation_unit=convention.translation_unit,
        source=source,
        estimator=estimator,
        clips_asked=len(rows),
        clips_scored=len(scored),
        frames_asked=sum(int(row["frames_asked"]) for row in rows.values()),
        frames_scored=sum(int(row["frames_scored"]) for row in scored.values()),
        failures=dict(failures),
        modes=dict(Counter(str(row["mode"]) for row in scored.values())),
        rollout=_means(group("scores")),
        floor=_means(list(floors.values())),
        motionless=_means(group("motionless")),
        no_rotation=_means(group("no_rotation")),
        floor_marks={
            error: _mark([(own[name], floor) for name, floor in floors.items()], error)
            for error in ERRORS
        },
    )


def _plain(name: str, clip: Clip) -> Mapping[str, Any]:
    if isinstance(clip, FailedClip):
        return asdict(clip)
    row = clip.to_dict() if isinstance(clip, RolloutScore) else clip
    needed = ["code", "frames_asked"] if "code" in row else _ROLLOUT_KEYS
    missing = [key for key in needed if key not in row]
    if missing:
        raise ValueError(f"clip {name} lacks {', '.join(missing)}")
    return row


_ROLLOUT_KEYS = [
    "source", "mode", "frames_asked", "frames_scored", "estimator",
    "scores", "motionless", "no_rotation", "floor",
]  # fmt: skip


def _common(
    rows: Mapping[str, Mapping[str, Any]], what: str, read: Callable[[Mapping[str, Any]], str]
) -> str | None:
    """The value that all clips share, or None without clips."""
    first: dict[str, str] = {}
    for name, row in rows.items():
        first.setdefault(read(row), name)
    if len(first) > 1:
        (one, clip), (other, other_clip), *_ = first.items()
        raise MixedScoresError(
            f"expected clips of one {what}, given '{one}' (clip {clip}) "
            f"and '{other}' (clip {other_clip})"
        )
    return next(iter(first), None)


def _score(
    name: str, row: Mapping[str, Any], group: str, convention: Convention
) -> Mapping[str, Any]:
    """One clip's numbers under the convention, or `{"code": reason}`."""
    scores = row[group]
    if convention.name not in scores:
        raise ValueError(f"clip {name} has no '{convention.name}' among its {group}")
    score: Mapping[str, Any] = scores[convention.name]
    units = {"RotErr_unit": convention.rotation_unit, "TransErr_unit": convention.translation_unit}
    for key, unit in units.items():
        if "code" not in score and score.get(key) != unit:
            raise MixedScoresError(
                f"clip {name}: {key} is {score.get(key)!r}, expected '{unit}' "
                f"under '{convention.name}'"
            )
    return score


def _value(score: Mapping[str, Any], error: str) -> float | str:
    """The number, or why there is none."""
    if "code" in score:
        return str(score["code"])
    if error != "rot_err" and "reference_static" in score["flags"]:
        # Nothing but rotation was commanded; what is left of the translation is no answer to it.
        return "reference_static"
    value = score[ERRORS[error]]
    return str(score["undefined"][error]) if value is None else float(value)


def _means(scores: list[Mapping[str, Any]]) -> ErrorMeans:
    rot_err, trans_err, cam_mc = (
        Mean.of(_value(score, error) for score in scores) for error in ERRORS
    )
    return ErrorMeans(
        rot_err=rot_err,
        trans_err=trans_err,
        cam_mc=cam_mc,
        scale=Mean.of(_scale(score) for score in scores),
    )


def _scale(score: Mapping[str, Any]) -> float | str:
    if "code" in score:
        return str(score["code"])
    return "not_fitted" if score["scale"] is None else float(score["scale"])


def _mark(pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]], error: str) -> FloorMark:
    both = [
        (value, floor)
        for value, floor in ((_value(s, error), _value(f, error)) for s, f in pairs)
        if not isinstance(value, str) and not isinstance(floor, str)
    ]
    return FloorMark(
        at_floor=sum(value < AT_FLOOR * floor for value, floor in both),
        with_floor=len(both),
        mean_at_floor=(
            fmean(value for value, _ in both) < AT_FLOOR * fmean(floor for _, floor in both)
            if both
            else None
        ),
    )
