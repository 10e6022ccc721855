"""From scenes to a split: plain means, each with what it covers, for json."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sana_wm_gym.evaluation.aggregate import Mean, aggregate_clips
from sana_wm_gym.metrics import (
    RELEASE,
    SCALE_ONLY,
    DriftScore,
    RevisitScore,
    summarise_drift,
    summarise_revisits,
)
from sana_wm_gym.poses import Floor

Result = Mapping[str, Any]
Summary = Mapping[str, Any]


def summarise(split: str, results: Sequence[Result]) -> dict[str, Any]:
    """Means over the scenes of one split, from their results as `run_scene` writes them.

    Returns:
        split, asked, scored: its name, scenes of the run, scenes with a result.
        failures: what has none (`scene`, or its `poses` alone), with code and message.
        release, strict: `AggregateScore` under the headline convention and with frame 0 shared.
        floor_frames: frames with a pose, and frames asked for, in the true videos behind the floor.
        stored_floor: what the estimator scores on true frames of other clips, in words, or None.
        revisit, drift: `RevisitSummary`, and `DriftSummary` or None; twin_revisit, twin_drift: the
            same of true videos, None without any.
        windows: PSNR to the true videos, and of the first frame repeated, by 10 s windows.
        cost: speed, largest memory and devices; None for existing videos.

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
        if pose["floor"] is not None
        and not any("code" in pose[key][RELEASE.name] for key in ("scores", "floor"))
    ]
    stored = [str(Floor(**pose["stored_floor"])) for pose in poses if pose["stored_floor"]]

    def revisits(rows: Mapping[str, Result]) -> dict[str, Any]:
        scores = {scene: RevisitScore.from_dict(row["revisit"]) for scene, row in rows.items()}
        return summarise_revisits(scores, lambda scene: kinds[scene]).to_dict()

    def drift(rows: Mapping[str, Result]) -> dict[str, Any] | None:
        scores = [DriftScore.from_dict(row["drift"]) for row in rows.values()]
        return asdict(summarise_drift(scores)) if scores else None

    return {
        "split": split,
        "asked": len(results),
        "scored": len(scored),
        "failures": [failure for result in results for failure in _failures(result)],
        "release": asdict(aggregate_clips(clips, RELEASE)),
        "strict": asdict(aggregate_clips(clips, SCALE_ONLY)),
        "floor_frames": [sum(floor[key] for floor in floors) for key in ("n", "n_asked")],
        "stored_floor": "; ".join(dict.fromkeys(stored)) or None,
        "revisit": revisits(scored),
        "twin_revisit": revisits(twins) if twins else None,
        "drift": drift(scored),
        "twin_drift": drift(twins),
        "windows": _windows(list(twins.values())),
        "cost": _cost([result for result in scored.values() if result["cost"] is not None]),
    }


def _failures(result: Result) -> list[dict[str, str]]:
    if result["status"] != "scored":
        what, code, message = "scene", result["code"], result["message"]
    else:
        pose = result["pose"]
        what, code = "poses", pose["scores"][RELEASE.name].get("code")
        message = f"{pose['frames_scored']} of {pose['frames_asked']} poses read"
    failure = {"scene": result["scene"], "what": what, "code": code, "message": message}
    return [failure] if code else []


def _windows(twins: Sequence[Result]) -> list[dict[str, Any]]:
    by_time = defaultdict[tuple[float, float], list[Result]](list)
    for window in (window for twin in twins for window in twin["windows"]):
        by_time[window["begin_s"], window["end_s"]].append(window)
    return [
        {"begin_s": begin, "end_s": end}
        | {key: _mean(found, key) for key in ("psnr_db", "repeat_db")}
        for (begin, end), found in sorted(by_time.items())
    ]


def _cost(results: Sequence[Result]) -> dict[str, Any] | None:
    if not results:
        return None
    costs = [result["cost"] for result in results]
    seconds = _mean(costs, "seconds")
    gpu = [cost["peak_gpu_mb"] for cost in costs if cost["peak_gpu_mb"] is not None]
    devices = [r["cost"]["accelerator"] or r["taken"]["device"] for r in results]
    return {
        "frames_per_s": _mean(costs, "frames_per_s"),
        "seconds": seconds,
        "videos_per_hour": 3600 / seconds["value"],
        "peak_memory_mb": max(cost["peak_memory_mb"] for cost in costs),
        "peak_gpu_mb": max(gpu, default=None),
        "devices": list(dict.fromkeys(devices)),
    }


def _mean(rows: Sequence[Result], key: str) -> dict[str, Any]:
    return asdict(Mean.of(row[key] for row in rows))
