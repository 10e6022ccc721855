"""Stored floors: what is read, which one fits a score, and how new ones replace old ones."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from sana_wm_gym.evaluation.estimator_floors import floors_of, store_floors
from sana_wm_gym.evaluation.score import score_rollout
from sana_wm_gym.poses import (
    EstimatorInfo,
    Floor,
    LKBundleAdjustment,
    OracleEstimator,
    floor_of,
)
from sana_wm_gym.poses.floors import FLOORS, read_floors

FLOOR = Floor(
    "seer", "3", 64, False, 14, 13, 0.2, 0.9, 0.01, 0.04, 3.0, 97, "2026-01-02", "abc", "cpu", "x"
)
INFO = EstimatorInfo("seer", "3", "estimated", "full", 0.1, None, False)


def written(folder: Path, *rows: Floor) -> Path:
    path = folder / "floors.json"
    path.write_text(json.dumps({"floors": [asdict(row) for row in rows]}))
    return path


def test_the_widest_floor_that_is_no_wider_fits(tmp_path: Path) -> None:
    wide, soft = replace(FLOOR, width=128), replace(FLOOR, soft=True)
    path = written(tmp_path, FLOOR, wide, soft)
    assert floor_of(INFO, 64, path) == FLOOR
    assert floor_of(INFO, 127, path) == FLOOR
    assert floor_of(INFO, 1280, path) == wide
    assert floor_of(replace(INFO, look="sharp"), 64, path) == FLOOR
    assert floor_of(replace(INFO, look="faint"), 128, path) == soft


def test_no_floor_for_known_poses_other_versions_or_smaller_frames(tmp_path: Path) -> None:
    path = written(tmp_path, FLOOR)
    assert floor_of(replace(INFO, source="oracle"), 64, path) is None
    assert floor_of(replace(INFO, version="4"), 64, path) is None
    assert floor_of(replace(INFO, name="other"), 64, path) is None
    assert floor_of(INFO, 48, path) is None
    assert floor_of(INFO, 64, tmp_path / "none.json") is None


def test_a_row_that_lacks_a_field_is_refused(tmp_path: Path) -> None:
    row = asdict(FLOOR)
    del row["device"]
    path = tmp_path / "floors.json"
    path.write_text(json.dumps({"floors": [row]}))
    with pytest.raises(ValueError, match="row 0 lacks device"):
        read_floors(path)


def test_storing_replaces_the_same_version_width_and_softness(tmp_path: Path) -> None:
    path = written(tmp_path, FLOOR, replace(FLOOR, width=128))
    again, newer = replace(FLOOR, rot_err=0.1), replace(FLOOR, version="4", rot_err=0.1)
    store_floors([again, newer], path)
    assert read_floors(path) == (again, replace(FLOOR, width=128), newer)
    assert list(tmp_path.iterdir()) == [path]


def row(clip: str, rotation: float | None, **other: object) -> dict[str, object]:
    release = {"code": "too_few_valid"} if rotation is None else {
        "RotErr": rotation, "TransErr": rotation / 10
    }  # fmt: skip
    return {
        "clip": clip, "estimator": "seer", "version": "3", "degraded": False, "size": 64,
        "frames": 97, "release": release, "cpu_seconds": 1.0, "coverage": 1.0,
        **other,
    }  # fmt: skip


def test_floors_are_medians_over_the_clips_an_estimator_is_for() -> None:
    rows = [row("dolly", 0.1), row("orbit", 0.4), row("loop", 0.2), row("spiral", None)]
    rows.append(row("s_curve", 8.0, coverage=0.4))  # too few frames placed to count as scored
    rows += [row("pan", 9.0), row("orbit", 5.0, degraded=True)]
    rows += [row(clip, 0.3, estimator="rotation_only") for clip in ("pan", "orbit")]
    turned, sharp, soft = floors_of(rows, {"date": "2026-01-02"})
    assert (sharp.clips, sharp.scored, sharp.rot_err, sharp.rot_err_worst) == (5, 3, 0.2, 0.4)
    assert sharp.trans_err == pytest.approx(0.02) and sharp.date == "2026-01-02"
    assert soft.soft and soft.rot_err == 5.0
    assert turned.estimator == "rotation_only" and turned.clips == 1


def test_every_score_prints_its_floor() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (5, 48, 48, 3)).astype(np.uint8)
    known = score_rollout(frames, np.tile(np.eye(4), (5, 1, 1)), None, 16.0, LKBundleAdjustment())
    assert "floor" in str(known) and "stored_floor" in known.to_dict()
    path = np.tile(np.eye(4), (5, 1, 1))
    oracle = score_rollout(frames, path, None, 16.0, OracleEstimator(path))
    assert "stored floor" not in str(oracle)


def test_the_stored_floors_are_of_the_present_version() -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    info = LKBundleAdjustment().estimate(frames, None, 16.0).info
    stored = [floor for floor in read_floors(FLOORS) if floor.estimator == info.name]
    assert stored
    assert info.version in {floor.version for floor in stored}
    assert all(floor.commit and floor.device and floor.date for floor in stored)
