"""`metrics/`: pose errors under every convention, image errors, time matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.parity_checks.check import Array, Check, GoldenError, Outcome, Skip, equal
from benchmarks.parity_checks.files import entry, read_json, read_npz
from sana_wm_gym.camera.se3 import from_rotation_translation, geodesic_angle, invert
from sana_wm_gym.metrics import (
    CONVENTIONS,
    PAPER_SIM3,
    DegenerateTrajectoryError,
    PoseScore,
    match_frames,
    psnr,
    score_poses,
    ssim,
)
from sana_wm_gym.metrics.matching import video_index
from sana_wm_gym.metrics.pose import PathPair

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
                numbers: dict[str, float | None] = dict(_evo(estimate, reference))
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
    """What a score says beside its numbers."""
    yield equal(f"{prefix}/n", score.n_asked, case["n"])
    flags = set(score.flags) - {"negative_scale"}  # the reference does not flag the sign
    yield equal(f"{prefix}/flags", sorted(flags), sorted(case["flags"]))
    if "coverage" in case:
        yield _number(f"{prefix}/coverage", score.coverage, case["coverage"], 1e-12)


def _evo(estimate: Array, reference: Array) -> dict[str, float]:
    """RMSE of positions and of frame-to-frame motion after similarity alignment."""
    pair = PathPair.of(reference, estimate)
    aligned = PAPER_SIM3.align(pair)
    ours = from_rotation_translation(aligned.rotations, aligned.centres)
    theirs = pair.reference
    steps = [invert(poses[:-1]) @ poses[1:] for poses in (theirs, ours)]
    drift = invert(steps[0]) @ steps[1]
    angles = np.rad2deg(geodesic_angle(np.eye(3), drift[:, :3, :3]))
    lengths = np.linalg.norm(drift[:, :3, 3], axis=-1)
    apart = np.linalg.norm(ours[:, :3, 3] - theirs[:, :3, 3], axis=-1)
    named = {"rpe_trans_rmse": lengths, "rpe_rot_deg_rmse": angles, "ate_rmse": apart}
    return {name: float(np.sqrt(np.mean(values**2))) for name, values in named.items()}


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
    """`frame_metrics.json`: PSNR, SSIM, and which video frame shows an instant."""
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
    known = {"schema", "note", "tolerance", "pairs", "fps_remap"}
    for section in sorted(content.keys() - known):
        yield Skip(section, "nothing here computes it")


def check_synthesis(path: Path) -> Iterator[Outcome]:
    """`trajectory_synthesis.json`: not part of this package yet; its arrays are named."""
    names = read_npz(path.with_suffix(".npz"))
    if not names:
        raise GoldenError(f"{path.with_suffix('.npz').name}: holds no arrays")
    for name in names:
        yield Skip(name, "nothing here computes it")


def _number(name: str, ours: float | None, reference: float, allowed: float) -> Check:
    error = np.inf if ours is None else abs(float(ours) - float(reference))
    return Check(name, float(error), float(allowed), "absolute")
