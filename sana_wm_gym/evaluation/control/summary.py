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
    """A scene, or one measurement of it, without a result.

    Attributes:
        scene: Its id.
        what: `scene` for everything, `poses` for the camera errors alone.
        code: Reason.
        message: In words; empty where the code says it all.
    """

    scene: str
    what: str
    code: str
    message: str


@dataclass(frozen=True)
class TwinWindow:
    """Likeness to the true video in one window of every scene that has it.

    Attributes:
        begin_s: Its first frame.
        end_s: Just after its last.
        psnr_db: Of the videos.
        repeat_db: Of the first frame, repeated.
    """

    begin_s: float
    end_s: float
    psnr_db: Mean
    repeat_db: Mean


@dataclass(frozen=True)
class CostSummary:
    """What making the videos took.

    Attributes:
        frames_per_s: Mean throughput.
        seconds: Mean time per video.
        videos_per_hour: One after the other.
        peak_memory_mb: Largest of all videos.
        peak_gpu_mb: Likewise on the CUDA device; None without one.
        devices: Where videos were made.
    """

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
        windows: Likeness to the true videos.
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
        return {
            **asdict(self),
            "revisit": self.revisit.to_dict(),
            "twin_revisit": None if self.twin_revisit is None else self.twin_revisit.to_dict(),
        }


def summarise(split: str, results: Sequence[Result]) -> SplitSummary:
    """Means over the scenes of one split.

    Args:
        split: Its name.
        results: One per scene asked for, as `run_job` writes them.

    Raises:
        MixedScoresError: Poses of different sources or estimators.
    """
    scored = [result for result in results if result["status"] == "scored"]
    twins = {result["scene"]: result["twin"] for result in scored if result["twin"]}
    kinds = {result["scene"]: result["scene_type"] for result in results}
    clips = {
        result["scene"]: result["pose"]
        if result["status"] == "scored"
        else {"code": result["code"], "frames_asked": result["frames_asked"]}
        for result in results
    }
    return SplitSummary(
        split=split,
        asked=len(results),
        scored=len(scored),
        failures=tuple(failure for result in results for failure in _failures(result)),
        release=aggregate_clips(clips, RELEASE),
        strict=aggregate_clips(clips, SCALE_ONLY),
        floor_frames=_floor_frames(scored),
        stored_floor=_stored_floor(scored),
        revisit=_revisits({result["scene"]: result for result in scored}, kinds),
        twin_revisit=_revisits(twins, kinds) if twins else None,
        drift=_drift(scored),
        twin_drift=_drift(list(twins.values())),
        windows=_windows(list(twins.values())),
        cost=_cost(scored),
    )


def _failures(result: Result) -> list[Failure]:
    if result["status"] != "scored":
        return [Failure(result["scene"], "scene", result["code"], result["message"])]
    headline = result["pose"]["scores"][RELEASE.name]
    if "code" not in headline:
        return []
    placed = f"{result['pose']['frames_scored']} of {result['pose']['frames_asked']} poses read"
    return [Failure(result["scene"], "poses", headline["code"], placed)]


def _floor_frames(scored: Sequence[Result]) -> tuple[int, int]:
    """Of clips with a score and a floor, which are those that the floor's mean is over."""
    floors = [
        pose["floor"][RELEASE.name]
        for pose in (result["pose"] for result in scored)
        if pose["floor"] is not None and "code" not in pose["scores"][RELEASE.name]
    ]
    counted = [floor for floor in floors if "code" not in floor]
    return sum(floor["n"] for floor in counted), sum(floor["n_asked"] for floor in counted)


def _stored_floor(scored: Sequence[Result]) -> str | None:
    floors = [result["pose"]["stored_floor"] for result in scored]
    texts = dict.fromkeys(str(Floor(**floor)) for floor in floors if floor is not None)
    return "; ".join(texts) or None


def _revisits(rows: Mapping[str, Result], kinds: Mapping[str, str]) -> RevisitSummary:
    scores = {scene: RevisitScore.from_dict(row["revisit"]) for scene, row in rows.items()}
    return summarise_revisits(scores, lambda scene: kinds[scene])


def _drift(rows: Sequence[Result]) -> DriftSummary | None:
    scores = [DriftScore.from_dict(row["drift"]) for row in rows]
    return summarise_drift(scores) if scores else None


def _windows(twins: Sequence[Result]) -> tuple[TwinWindow, ...]:
    by_time: dict[tuple[float, float], list[Result]] = {}
    for twin in twins:
        for window in twin["windows"]:
            by_time.setdefault((window["begin_s"], window["end_s"]), []).append(window)
    return tuple(
        TwinWindow(
            begin,
            end,
            Mean.of(window["psnr_db"] for window in found),
            Mean.of(window["repeat_db"] for window in found),
        )
        for (begin, end), found in sorted(by_time.items())
    )


def _cost(scored: Sequence[Result]) -> CostSummary | None:
    costs = [result["cost"] for result in scored if result["cost"] is not None]
    if not costs:
        return None
    seconds = Mean.of(cost["seconds"] for cost in costs)
    gpu = [cost["peak_gpu_mb"] for cost in costs if cost["peak_gpu_mb"] is not None]
    devices = [
        result["cost"]["accelerator"] or result["taken"]["device"]
        for result in scored
        if result["cost"] is not None
    ]
    assert seconds.value is not None
    return CostSummary(
        frames_per_s=Mean.of(cost["frames_per_s"] for cost in costs),
        seconds=seconds,
        videos_per_hour=3600 / seconds.value,
        peak_memory_mb=max(cost["peak_memory_mb"] for cost in costs),
        peak_gpu_mb=max(gpu) if gpu else None,
        devices=tuple(dict.fromkeys(devices)),
    )
