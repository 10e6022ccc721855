"""Means over clips: coverage, codes, floors, and what must not be mixed."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.evaluation.aggregate import Mean, MixedScoresError, aggregate_clips
from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.metrics import PAPER_SIM3, SCALE_ONLY
from sana_wm_gym.poses import EstimatorInfo, OracleEstimator, PoseEstimate

N = 21
FRAMES = np.zeros((N, 16, 16, 3), np.uint8)


class FromPixels:
    """An estimator whose answer is known: `error` metres off sideways in the second half."""

    def __init__(
        self, path: npt.NDArray[np.float64], error: float, placed: int = N, version: str = "1"
    ) -> None:
        self.path, self.error, self.placed, self.version = path, error, placed, version

    def estimate(self, frames: Any, intrinsics: Any, fps: float) -> PoseEstimate:
        # True frames differ from generated ones in their first pixel.
        error = self.error * (0.25 if frames[0, 0, 0, 0] else 1.0)
        poses = self.path.copy()
        poses[N // 2 :, 0, 3] += error
        poses[N // 2 :, :3, :3] @= rotation_y(error / 4)
        info = EstimatorInfo("known", self.version, "estimated", "full", 0.3, None, False)
        return PoseEstimate(poses, np.arange(N) < self.placed, info)


def walk(seed: int = 0) -> npt.NDArray[np.float64]:
    poses = np.tile(np.eye(4), (N, 1, 1))
    steps = np.random.default_rng(seed).normal(0, 0.1, (N - 1, 3))
    poses[1:, :3, 3] = np.cumsum(steps, axis=0)
    return poses


def scored(error: float, seed: int = 0, placed: int = N, floor: bool = False) -> RolloutScore:
    path, truth = walk(seed), FRAMES + np.uint8(1) if floor else None
    estimator = FromPixels(path, error, placed)
    return score_rollout(FRAMES, path, None, 16, estimator, truth_frames=truth)


def stored(score: RolloutScore) -> dict[str, Any]:
    """As it is read back from json."""
    return dict(json.loads(json.dumps(score.to_dict())))


@settings(max_examples=10)
@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=4))
def test_plain_mean_over_clips_whatever_their_order(errors: list[float]) -> None:
    clips = {f"clip{i}": scored(error, seed=i) for i, error in enumerate(errors)}
    total = aggregate_clips(clips, SCALE_ONLY)
    numbers = [clip.scale_only.trans_err for clip in clips.values()]  # type: ignore[union-attr]
    assert total.rollout.trans_err.value == pytest.approx(np.mean(numbers))
    turned = aggregate_clips(dict(reversed(clips.items())), SCALE_ONLY)
    assert turned.rollout.trans_err.value == pytest.approx(total.rollout.trans_err.value)
    assert total.motionless.rot_err.clips == total.no_rotation.rot_err.clips == len(errors)


def test_values_read_back_from_json_give_the_same_row() -> None:
    clips = {"a": scored(0.1, 0, floor=True), "b": scored(0.3, 1, floor=True)}
    row = aggregate_clips({name: stored(clip) for name, clip in clips.items()})
    assert aggregate_clips(clips) == row
    json.dumps(asdict(row))


def test_failures_are_counted_not_averaged() -> None:
    clips = {"a": scored(0.1), "b": scored(0.3, 1, placed=15)}
    failed = {"code": "truncated_video", "frames_asked": 40}
    few = scored(0.1, 2, placed=2)  # too few frames for any convention
    row = aggregate_clips({**clips, "c": failed, "d": failed, "e": few})
    assert row.failures == {"truncated_video": 2, "too_few_valid": 1}
    assert (row.clips_scored, row.clips_asked) == (2, 5)
    assert (row.frames_scored, row.frames_asked) == (N + 15, 3 * N + 80)
    assert row.coverage == "2/5 clips, 36/143 frames"
    assert row.rollout == aggregate_clips(clips).rollout


def test_nothing_scored_is_none() -> None:
    row = aggregate_clips({"a": {"code": "missing_video", "frames_asked": N}})
    assert (row.source, row.estimator, row.rollout.rot_err.value) == (None, None, None)
    assert aggregate_clips({}).coverage == "0/0 clips, 0/0 frames"


def test_an_undefined_number_is_left_out_of_its_own_mean() -> None:
    values = stored(scored(0.1))
    values["scores"]["release"].update(TransErr=None, undefined={"trans_err": "collinear"})
    row = aggregate_clips({"a": values, "b": scored(0.3, 1)})
    assert row.rollout.trans_err.codes == {"collinear": 1}
    assert (row.rollout.trans_err.clips, row.rollout.rot_err.clips) == (1, 2)


def test_a_command_that_only_turns_enters_rot_err_alone() -> None:
    turn = np.tile(np.eye(4), (N, 1, 1))
    turn[:, :3, :3] = [rotation_y(angle) for angle in np.linspace(0, 0.5, N)]
    pan = score_rollout(FRAMES, turn, None, 16, FromPixels(turn, 0.0))
    row = aggregate_clips({"pan": pan, "walk": scored(0.2)})
    assert row.rollout.rot_err.clips == 2
    assert row.rollout.trans_err.clips == row.rollout.cam_mc.clips == 1
    assert row.rollout.trans_err.codes == {"reference_static": 1}
    assert row.rollout.scale.codes == {"not_fitted": 1}


def test_floor_marks() -> None:
    clips = {"a": scored(0.1, 0, floor=True), "b": scored(0.3, 1, floor=True), "c": scored(0.2, 2)}
    row = aggregate_clips(clips, SCALE_ONLY)
    mark = row.floor_marks["rot_err"]
    assert (mark.at_floor, mark.with_floor, mark.mean_at_floor) == (0, 2, False)  # four floors
    assert row.floor.rot_err.clips == 2
    values = stored(clips["a"])
    floor = values["floor"]["scale_only"]["RotErr"]
    values["scores"]["scale_only"]["RotErr"] = 1.9 * floor
    mark = aggregate_clips({"a": values}, SCALE_ONLY).floor_marks["rot_err"]
    assert (mark.at_floor, mark.with_floor, mark.mean_at_floor) == (1, 1, True)
    bare = aggregate_clips({"c": clips["c"]}, SCALE_ONLY).floor_marks["rot_err"]
    assert (bare.with_floor, bare.mean_at_floor) == (0, None)


def test_what_must_not_be_mixed() -> None:
    known = score_rollout(FRAMES, walk(), None, 16, OracleEstimator(walk()))
    with pytest.raises(MixedScoresError, match=r"one source.*clip a.*clip b"):
        aggregate_clips({"a": scored(0.1), "b": known})
    newer = score_rollout(FRAMES, walk(), None, 16, FromPixels(walk(), 0.1, version="2"))
    with pytest.raises(MixedScoresError, match="known 1.*known 2"):
        aggregate_clips({"a": scored(0.1), "b": newer})
    radians = stored(scored(0.1))
    radians["scores"]["release"]["RotErr_unit"] = "rad"
    with pytest.raises(MixedScoresError, match="RotErr_unit is 'rad', expected 'deg'"):
        aggregate_clips({"a": radians})
    row = aggregate_clips({"b": known})
    assert (row.source, row.estimator) == ("oracle", "oracle 1")
    assert row.rollout.trans_err.value == pytest.approx(0, abs=1e-12)


def test_incomplete_clips_are_named() -> None:
    values = scored(0.1).to_dict()
    with pytest.raises(ValueError, match="clip a lacks floor"):
        aggregate_clips({"a": {k: v for k, v in values.items() if k != "floor"}})
    with pytest.raises(ValueError, match="clip a lacks frames_asked"):
        aggregate_clips({"a": {"code": "missing_video"}})
    with pytest.raises(ValueError, match="clip a has no 'paper_sim3'"):
        aggregate_clips({"a": values}, PAPER_SIM3)


def test_a_mean_never_takes_nan() -> None:
    assert Mean.of([1.0, "lost", 3.0, "lost"]) == Mean(2.0, 2, {"lost": 2})
    with pytest.raises(ValueError, match="finite"):
        Mean.of([1.0, float("nan")])
