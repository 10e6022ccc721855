"""Results in the files that other tools of SANA-WM-Bench read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sana_wm_gym.evaluation.bench.results import (
    EvalName,
    MethodFolder,
    ScenePoseErrors,
    write_eval,
    write_pose_errors,
)
from sana_wm_gym.evaluation.control.summary import SplitSummary
from sana_wm_gym.metrics import RELEASE


def write_evaluations(
    folder: MethodFolder, summary: SplitSummary, results: Sequence[Mapping[str, Any]]
) -> None:
    """Write eval_poses.json, revisit_consistency.json, temporal_degradation.json and
    summary.json of a split. Scenes without a number are absent, as their readers expect."""
    scored = [result for result in results if result["status"] == "scored"]
    write_pose_errors(folder.poses_file(summary.split), dict(_poses(scored)))
    document = summary.to_dict()
    revisit = {result["scene"]: result["revisit"] for result in scored}
    drift = {result["scene"]: result["drift"] for result in scored}
    parts: tuple[tuple[EvalName, dict[str, Any]], ...] = (
        ("revisit_consistency", {"summary": document["revisit"], "scenes": revisit}),
        ("temporal_degradation", {"summary": document["drift"], "scenes": drift}),
        ("summary", document),
    )
    for name, content in parts:
        write_eval(folder, summary.split, name, content)


def _poses(scored: Sequence[Mapping[str, Any]]) -> list[tuple[str, ScenePoseErrors]]:
    found = []
    for result in scored:
        score = result["pose"]["scores"][RELEASE.name]
        if "code" not in score and not score["undefined"]:
            errors = ScenePoseErrors(
                rot_err_deg=score["RotErr"],
                trans_err=score["TransErr"],
                cam_mc=score["CamMC"],
                scene_type=result["scene_type"],
                n_frames=score["n"],
                extra={"source": result["pose"]["source"], "flags": score["flags"]},
            )
            found.append((result["scene"], errors))
    return found
