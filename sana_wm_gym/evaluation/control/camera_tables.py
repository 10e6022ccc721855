"""Camera errors beside their yardsticks and the published ones."""

from __future__ import annotations

from sana_wm_gym.evaluation.aggregate import AggregateScore, ErrorMeans, Mean
from sana_wm_gym.evaluation.bench.layout import split_of
from sana_wm_gym.evaluation.control.cells import NONE, Row, Table, codes, show
from sana_wm_gym.evaluation.control.published import CAVEAT, published, source
from sana_wm_gym.evaluation.control.summary import SplitSummary
from sana_wm_gym.metrics import RELEASE

_FLOOR, _STILL, _LEVEL = "  floor: true frames", "  null: motionless", "  null: never turning"


def _errors(label: str, means: ErrorMeans, covers: str) -> Row:
    def cell(mean: Mean, digits: int) -> str:
        if mean.value is None:
            return codes(mean.codes) or NONE
        return show(mean.value, digits) + (f" ({codes(mean.codes)})" if mean.codes else "")

    errors = (cell(means.rot_err, 2), cell(means.trans_err, 3), cell(means.cam_mc, 3))
    return (label, *errors, covers)


def _pose_rows(name: str, score: AggregateScore, floor_frames: tuple[int, int]) -> list[Row]:
    covers = score.coverage + (f"; {codes(score.failures)}" if score.failures else "")
    rows = [_errors(f"{name} ({score.source or 'no pose'})", score.rollout, covers)]
    if score.floor.rot_err.clips or score.floor.rot_err.codes:
        clips = f"{score.floor.rot_err.clips}/{score.clips_scored} of these clips"
        clips += f", {floor_frames[0]}/{floor_frames[1]} frames"
        rows.append(_errors(_FLOOR, score.floor, clips))
    scored = f"{score.clips_scored}/{score.clips_asked} clips"
    rows.append(_errors(_STILL, score.motionless, scored))
    rows.append(_errors(_LEVEL, score.no_rotation, scored))
    return rows


def _pose_notes(score: AggregateScore) -> list[str]:
    notes = []
    if score.estimator is not None:
        modes = codes(score.modes) or "none"
        notes.append(f"Poses {score.source} by {score.estimator}; clips by mode: {modes}.")
    own, still = score.rollout.rot_err.value, score.motionless.rot_err.value
    if own is not None and still:
        notes.append(
            f"RotErr is {own / still:.2f} of what a camera that never moves scores on these clips "
            f"({still:.2f}); commands differ between benches, so read the ratio before the number."
        )
    if score.clips_scored < score.clips_asked:
        notes.append(
            f"Means are over {score.clips_scored} of {score.clips_asked} clips: those whose poses "
            "could be read, which are not the typical ones."
        )
    at_floor = [error for error, mark in score.floor_marks.items() if mark.mean_at_floor]
    if at_floor:
        notes.append(f"Under twice the floor, so no ranking on it: {', '.join(at_floor)}.")
    return notes


def camera_table(name: str, summary: SplitSummary) -> Table:
    """RotErr, TransErr, CamMC under the headline convention, beside the published ones."""
    rows = _pose_rows(name, summary.release, summary.floor_frames)
    ours = len(rows)
    for row in published("main", split_of(summary.split)):
        errors = (show(row.values[key], 2) for key in ("RotErr", "TransErr", "CamMC"))
        rows.append((f"{row.method} ({row.note})", *errors, "published"))
    notes = _pose_notes(summary.release)
    if summary.stored_floor is not None:
        notes.append(f"Stored floor of the estimator: {summary.stored_floor}.")
    return Table(
        f"Camera control, {summary.split} ({RELEASE.name}: orientation offset and scale forgiven)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "covers"),
        tuple(rows),
        ours,
        (*notes, CAVEAT, f"Published: {source()}."),
    )


def strict_table(name: str, summary: SplitSummary) -> Table:
    """The same errors with frame 0 shared, and the fitted scale; nobody publishes these."""
    score = summary.strict
    scales = {_FLOOR: show(score.floor.scale.value, 3), _STILL: NONE, _LEVEL: NONE}
    own = show(score.rollout.scale.value, 3)
    drawn = [
        (*row[:4], scales.get(row[0], own), row[4])
        for row in _pose_rows(name, score, summary.floor_frames)
    ]
    return Table(
        f"Camera control, {summary.split} (scale_only: frame 0 shared, one scale fitted)",
        ("method", "RotErr deg ↓", "TransErr m ↓", "CamMC ↓", "scale", "covers"),
        tuple(drawn),
        len(drawn),
        (
            "The scale brings the estimator's unit to metres, so it ranks nothing by itself where "
            "poses are estimated.",
        ),
    )
