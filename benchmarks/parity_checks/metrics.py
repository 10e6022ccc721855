"""`metrics/`: pose errors under every convention, image errors, time matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parity_checks.check import Array, Check, Outcome, Skip, equal
from benchmarks.parity_checks.files import entry, read_json, read_npz
from sana_wm_gym.metrics import (
    CONVENTIONS,
    DegenerateTrajectoryError,
    PoseScore,
    match_frames,
    psnr,
    score_poses,
    ssim,
    trajectory_error,
)
from sana_wm_gym.metrics.drift import first_to_last, windows
from sana_wm_gym.metrics.matching import video_index

EVO = "evo_sim3"
FIELDS = {"RotErr": "rot_err", "TransErr": "trans_err", "CamMC": "cam_mc", "scale": "scale"}


def check_trajectories(path: Path) -> Iterator[Outcome]:
    """`trajectory_metrics.json`: every convention on every pair of paths."""
    content = read_json(path)
    arrays = read_npz(path.with_suffix(".npz"))
    tolerance = entry(content, "tolerance", dict, path.name)
    for name, case in entry(content, "cases", dict, path.name).items():
        source = case.get("uses", name)
        if not {f"{source}__est", f"{source}__gt"} <= arrays.keys():
            yield Skip(name, "its paths are absent from the npz file")
            continue
        estimate, reference = arrays[f"{source}__est"], arrays[f"{source}__gt"]
        if "fps_ref" in case:
            match = match_frames(
                len(reference),
                case["fps_ref"],
                len(estimate),
                case["fps_est"],
                stride=case["interval"],
            )
            for side, ours in (("ref", match.reference), ("est", match.video)):
                if f"{name}__{side}_idx" in arrays:
                    indices = arrays[f"{name}__{side}_idx"].tolist()
                    yield equal(f"{name}/{side}_idx", ours.tolist(), indices)
            estimate, reference = estimate[match.video], reference[match.reference]
        valid = arrays.get(f"{name}__valid")
        skip_first = "uses" in case and case["n"] == len(reference) - 1
        for convention, expected in case["expected"].items():
            if convention == EVO:
                numbers: dict[str, float | None] = asdict(trajectory_error(estimate, reference))
            elif convention in CONVENTIONS:
                score = _score(estimate, reference, convention, valid, skip_first)
                numbers = {key: getattr(score, field, None) for key, field in FIELDS.items()}
                if score is not None:
                    yield from _facts(f"{name}/{convention}", score, case)
            else:
                yield Skip(f"{name}/{convention}", "not a known convention")
                continue
            yield from _compare(f"{name}/{convention}", numbers, expected, tolerance)


def _score(
    estimate: Array, reference: Array, convention: str, valid: Array | None, skip_first: bool
) -> PoseScore | None:
    """The score, or None where the convention is undefined on these paths."""
    try:
        return score_poses(
            estimate, reference, CONVENTIONS[convention], valid, skip_first_frame=skip_first
        )
    except DegenerateTrajectoryError:
        return None


def _facts(prefix: str, score: PoseScore, case: Mapping[str, Any]) -> Iterator[Outcome]:
    """What a score contains besides its numbers."""
    yield equal(f"{prefix}/n", score.n_asked, case["n"])
    flags = set(score.flags) - {"negative_scale"}  # the reference does not flag the sign
    yield equal(f"{prefix}/flags", sorted(flags), sorted(case["flags"]))
    if "coverage" in case:
        yield _number(f"{prefix}/coverage", score.coverage, case["coverage"], 1e-12)


def _compare(
    prefix: str,
    ours: Mapping[str, float | None],
    expected: Mapping[str, Any],
    tolerance: Mapping[str, Any],
) -> Iterator[Outcome]:
    for name, reference in expected.items():
        full = f"{prefix}/{name}"
        if name == "undefined":
            errors = [ours[key] for key in FIELDS if key != "scale"]
            yield equal(full, None in errors, bool(reference))
        elif name not in ours:
            yield Skip(full, "nothing here computes it")
        elif reference is None or ours[name] is None:
            yield equal(full, ours[name], reference)
        else:
            is_angle = name == "RotErr" or "_rot_" in name
            floor = tolerance["RotErr_abs"] if is_angle else tolerance["abs"]
            allowed = max(floor, tolerance["rel"] * abs(reference))
            yield _number(full, ours[name], reference, allowed)


def check_frames(path: Path) -> Iterator[Outcome]:
    """`frame_metrics.json`: PSNR, SSIM, which video frame shows an instant, drift windows."""
    content = read_json(path)
    arrays = read_npz(path.with_suffix(".npz"))
    tolerance = entry(content, "tolerance", dict, path.name)
    for name, expected in content.get("pairs", {}).items():
        if not {f"{name}__a", f"{name}__b"} <= arrays.keys():
            yield Skip(f"pairs/{name}", "its images are absent from the npz file")
            continue
        a, b = arrays[f"{name}__a"], arrays[f"{name}__b"]
        for key, measure, allowed in (
            ("psnr_db", psnr, tolerance["psnr"]),
            ("ssim_uniform11", ssim, tolerance["ssim"]),
        ):
            if key in expected:
                yield _number(f"pairs/{name}/{key}", measure(a, b), expected[key], allowed)
    for case in content.get("fps_remap", []):
        index, rate, video_rate = case["ref_index"], case["ref_fps"], case["video_fps"]
        ours = video_index(index, rate, video_rate, case["n_video_frames"])
        name = f"fps_remap/{index} at {rate} in {case['n_video_frames']} at {video_rate}"
        yield equal(name, ours, case["index"])
    for case in content.get("temporal_windows", []):
        count, rate, seconds = case["n_frames"], case["fps"], case["window_sec"]
        ranges = [list(window) for window in windows(count, rate, seconds)]
        name = f"temporal_windows/{seconds} s of {count} at {rate}"
        yield equal(name, ranges, case["windows"])
    if "delta_iq_example" in content:
        example = content["delta_iq_example"]
        lost = first_to_last(example["per_window"])
        yield _number("delta_iq_example/delta", lost, example["delta"], 1e-9)
    known = {"schema", "note", "tolerance", "pairs", "fps_remap"}
    known |= {"temporal_windows", "delta_iq_example"}
    for section in sorted(content.keys() - known):
        yield Skip(section, "nothing here computes it")


def _number(name: str, ours: float | None, reference: float, allowed: float) -> Check:
    error = np.inf if ours is None else abs(float(ours) - float(reference))
    return Check(name, float(error), float(allowed), "absolute")
