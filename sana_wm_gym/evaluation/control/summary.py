"""From scenes to a split: plain means, each with what it covers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sana_wm_gym.evaluation.aggregate import AggregateScore, Mean, aggregate_clips
from sana_wm_gym.metrics import (
    RELEASE,
    SCALE_ONLY,
    DriftScore,
    DriftSummary,
    RevisitScore,
    RevisitSummary,
    summarise_drift,
    summarise_revisits,
)
from sana_wm_gym.poses import Floor

Result = Mapping[str, Any]


@dataclass(frozen=True)
class Failure:
    """What has no result: a scene, or its `poses` alone; with a code and, in words, the reason."""

    scene: str
    what: str
    code: str
    message: str


@dataclass(frozen=True)
class TwinWindow:
    """PSNR to the true video in one window, of the videos and of their first frame repeated."""

    begin_s: float
    end_s: float
    psnr_db: Mean
    repeat_db: Mean


@dataclass(frozen=True)
class CostSummary:
    """Mean speed, one video after the other; the largest memory; and where videos were made."""

    frames_per_s: Mean
    seconds: Mean
    videos_per_hour: float
    peak_memory_mb: float
    peak_gpu_mb: float | None
    devices: tuple[str, ...]


@dataclass(frozen=True)
class SplitSummary:
    """One split.

    Attributes:
        split: `simple` or `hard`.
        asked: Scenes of the run.
        scored: Scenes with a result.
        failures: What has none.
        release: Camera errors, headline convention.
        strict: Camera errors, frame 0 shared.
        floor_frames: Frames with a pose, and frames asked for, in the true videos behind the floor.
        stored_floor: What the estimator scores on true frames of other clips, as stored with the
            package, in words; None where nothing of its version and resolution is.
        revisit: Do places look the same again?
        twin_revisit: The same of true videos; None without any.
        drift: Own no-reference proxies by 10 s windows; None without a scored scene.
        twin_drift: The same of true videos.
        windows: PSNR to the true videos.
        cost: None for videos that somebody else made.
    """

    split: str
    asked: int
    scored: int
    failures: tuple[Failure, ...]
    release: AggregateScore
    strict: AggregateScore
    floor_frames: tuple[int, int]
    stored_floor: str | None
    revisit: RevisitSummary
    twin_revisit: RevisitSummary | None
    drift: DriftSummary | None
    twin_drift: DriftSummary | None
    windows: tuple[TwinWindow, ...]
    cost: CostSummary | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for json."""
        twin = None if self.twin_revisit is None else self.twin_revisit.to_dict()
        return {**asdict(self), "revisit": self.revisit.to_dict(), "twin_revisit": twin}


def summarise(split: str, results: Sequence[Result]) -> SplitSummary:
    """Means over the scenes of one split, from their results as `run_scene` writes them.

    Raises:
        MixedScoresError: Poses of different sources or estimators.
    """
    scored = {result["scene"]: result for result in results if result["status"] == "scored"}
    twins = {scene: result["twin"] for scene, result in scored.items() if result["twin"]}
    kinds = {result["scene"]: result["scene_type"] for result in results}
    clips = {
        result["scene"]: result["pose"]
        if result["status"] == "scored"
        else {"code": result["code"], "frames_asked": result["frames_asked"]}
        for result in results
    }
    poses = [result["pose"] for result in scored.values()]
    # Of clips with a score and a floor, which are those that the floor's mean is over.
    floors = [
        pose["floor"][RELEASE.name]
        for pose in poses
        if pose["floor"] is not None and "code" not in pose["scores"][RELEASE.name]
    ]
    counted = [floor for floor in floors if "code" not in floor]
    stored = [str(Floor(**pose["stored_floor"])) for pose in poses if pose["stored_floor"]]

    def revisits(rows: Mapping[str, Result]) -> RevisitSummary:
        scores = {scene: RevisitScore.from_dict(row["revisit"]) for scene, row in rows.items()}
        return summarise_revisits(scores, lambda scene: kinds[scene])

    def drift(rows: Mapping[str, Result]) -> DriftSummary | None:
        scores = [DriftScore.from_dict(row["drift"]) for row in rows.values()]
        return summarise_drift(scores) if scores else None

    return SplitSummary(
        split=split,
        asked=len(results),
        scored=len(scored),
        failures=tuple(failure for result in results for failure in _failures(result)),
        release=aggregate_clips(clips, RELEASE),
        strict=aggregate_clips(clips, SCALE_ONLY),
        floor_frames=(sum(f["n"] for f in counted), sum(f["n_asked"] for f in counted)),
        stored_floor="; ".join(dict.fromkeys(stored)) or None,
        revisit=revisits(scored),
        twin_revisit=revisits(twins) if twins else None,
        drift=drift(scored),
        twin_drift=drift(twins),
        windows=_windows(list(twins.values())),
        cost=_cost([result for result in scored.values() if result["cost"] is not None]),
    )


def _failures(result: Result) -> list[Failure]:
    if result["status"] != "scored":
        return [Failure(result["scene"], "scene", result["code"], result["message"])]
    pose = result["pose"]
    headline = pose["scores"][RELEASE.name]
    if "code" not in headline:
        return []
    placed = f"{pose['frames_scored']} of {pose['frames_asked']} poses read"
    return [Failure(result["scene"], "poses", headline["code"], placed)]


def _windows(twins: Sequence[Result]) -> tuple[TwinWindow, ...]:
    by_time: dict[tuple[float, float], list[Result]] = {}
    for twin in twins:
        for window in twin["windows"]:
            by_time.setdefault((window["begin_s"], window["end_s"]), []).append(window)
    return tuple(
        TwinWindow(*span, *(Mean.of(w[key] for w in found) for key in ("psnr_db", "repeat_db")))
        for span, found in sorted(by_time.items())
    )


def _cost(results: Sequence[Result]) -> CostSummary | None:
    if not results:
        return None
    costs = [result["cost"] for result in results]
    seconds = Mean.of(cost["seconds"] for cost in costs)
    assert seconds.value is not None
    gpu = [cost["peak_gpu_mb"] for cost in costs if cost["peak_gpu_mb"] is not None]
    devices = [r["cost"]["accelerator"] or r["taken"]["device"] for r in results]
    return CostSummary(
        frames_per_s=Mean.of(cost["frames_per_s"] for cost in costs),
        seconds=seconds,
        videos_per_hour=3600 / seconds.value,
        peak_memory_mb=max(cost["peak_memory_mb"] for cost in costs),
        peak_gpu_mb=max(gpu, default=None),
        devices=tuple(dict.fromkeys(devices)),
    )
