"""RotErr, TransErr and CamMC: golden parity, laws, degenerate paths, bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sana_wm_gym.metrics import (
    CONVENTIONS,
    RELEASE,
    SCALE_ONLY,
    DegenerateTrajectoryError,
    InvalidPosesError,
    PoseScore,
    match_frames,
    null_scores,
    score_poses,
    trajectory_error,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "trajectory_metrics.json").read_text())
CASES: dict[str, Any] = EXPECTED["cases"]
POSES = dict(np.load(GOLDEN / "trajectory_metrics.npz"))
KEYS = {"RotErr": "rot_err", "TransErr": "trans_err", "CamMC": "cam_mc", "scale": "scale"}
PAIRS = [
    (case, name)
    for case, entry in CASES.items()
    for name in entry["expected"]
    if name != "evo_sim3"
]


def golden_inputs(case: str) -> dict[str, Any]:
    entry = CASES[case]
    source = entry.get("uses", case)
    estimate, reference = POSES[f"{source}__est"], POSES[f"{source}__gt"]
    if "fps_ref" in entry:
        match = match_frames(
            len(reference),
            entry["fps_ref"],
            len(estimate),
            entry["fps_est"],
            stride=entry["interval"],
        )
        np.testing.assert_array_equal(match.reference, POSES[f"{case}__ref_idx"])
        np.testing.assert_array_equal(match.video, POSES[f"{case}__est_idx"])
        estimate, reference = estimate[match.video], reference[match.reference]
    return {
        "estimate": estimate,
        "reference": reference,
        "valid": POSES.get(f"{case}__valid"),
        "skip_first_frame": case == "skip_first_sample",
    }


@pytest.mark.parametrize(("case", "name"), PAIRS)
def test_golden(case: str, name: str) -> None:
    expected = CASES[case]["expected"][name]
    numbers = [expected.get(key) for key in ("RotErr", "TransErr", "CamMC")]
    if all(number is None for number in numbers):
        with pytest.raises(DegenerateTrajectoryError) as caught:
            score_poses(**golden_inputs(case), convention=CONVENTIONS[name])
        assert caught.value.convention == name
        assert caught.value.n == CASES[case]["n"]
        assert caught.value.code in CASES[case]["flags"]
        return
    score = score_poses(**golden_inputs(case), convention=CONVENTIONS[name])
    tolerance = EXPECTED["tolerance"]
    for key, attribute in KEYS.items():
        if key not in expected and key == "scale":
            assert score.scale is None
        elif expected[key] is None:
            assert getattr(score, attribute) is None
            assert key == "scale" or attribute in score.undefined
        else:
            absolute = tolerance["RotErr_abs" if key == "RotErr" else "abs"]
            assert getattr(score, attribute) == pytest.approx(
                expected[key], rel=tolerance["rel"], abs=absolute
            )
    golden_flags = set(CASES[case]["flags"])
    assert set(score.flags) - {"negative_scale"} == golden_flags
    assert score.n_asked == CASES[case]["n"]
    assert score.coverage == pytest.approx(CASES[case].get("coverage", 1.0))


@pytest.mark.parametrize("case", [c for c in CASES if "evo_sim3" in CASES[c]["expected"]])
def test_golden_trajectory_error(case: str) -> None:
    inputs, tolerance = golden_inputs(case), EXPECTED["tolerance"]
    error = trajectory_error(inputs["estimate"], inputs["reference"])
    for name, expected in CASES[case]["expected"]["evo_sim3"].items():
        absolute = tolerance["RotErr_abs" if "_rot_" in name else "abs"]
        assert getattr(error, name) == pytest.approx(expected, rel=tolerance["rel"], abs=absolute)
    assert error.scale == pytest.approx(CASES[case]["expected"]["paper_sim3"]["scale"])


def test_trajectory_error_needs_motion_but_not_a_curve() -> None:
    straight = np.tile(np.eye(4), (9, 1, 1))
    straight[:, 0, 3] = np.arange(9.0)
    assert trajectory_error(straight, straight).ate_rmse == pytest.approx(0, abs=1e-12)
    still = np.tile(np.eye(4), (9, 1, 1))
    for one, other, code in (
        (still, straight, "estimate_static"),
        (straight, still, "reference_static"),
        (straight[:1], straight[:1], "too_few_frames"),
    ):
        with pytest.raises(DegenerateTrajectoryError, match=code):
            trajectory_error(one, other)
    with pytest.raises(InvalidPosesError, match="one shape"):
        trajectory_error(straight[:5], straight)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.1, 10.0))
def test_trajectory_error_forgives_any_similarity(seed: int, scale: float) -> None:
    reference, estimate = random_path(seed), random_path(seed + 1)
    moved = estimate.copy()
    moved[:, :3, 3] *= scale
    moved = random_path(seed + 2)[7] @ moved
    one, other = trajectory_error(estimate, reference), trajectory_error(moved, reference)
    for name in ("ate_rmse", "rpe_trans_rmse", "rpe_rot_deg_rmse"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-8)


def random_path(seed: int, n: int = 24, size: float = 1.0) -> npt.NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    poses = np.tile(np.eye(4), (n, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(
        np.cumsum(rng.normal(0, 0.05, (n, 3)), axis=0)
    ).as_matrix()
    poses[:, :3, 3] = size * np.cumsum(rng.normal(0, 0.1, (n, 3)), axis=0)
    return poses


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), name=st.sampled_from(sorted(CONVENTIONS)))
def test_world_frames_do_not_matter(seed: int, name: str) -> None:
    reference, estimate = random_path(seed), random_path(seed + 1)
    moved = random_path(seed + 2)[5] @ estimate
    elsewhere = random_path(seed + 3)[5] @ reference
    one = score_poses(estimate, reference, CONVENTIONS[name])
    other = score_poses(moved, elsewhere, CONVENTIONS[name])
    for attribute in ("rot_err", "trans_err", "cam_mc"):
        assert getattr(one, attribute) == pytest.approx(getattr(other, attribute), rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(0.05, 20.0),
    name=st.sampled_from(["release", "paper_sim3", "scale_only"]),
)
def test_fitted_scale_undoes_any_unit(seed: int, scale: float, name: str) -> None:
    reference, estimate = random_path(seed), random_path(seed + 1)
    scaled = estimate.copy()
    scaled[:, :3, 3] *= scale
    one = score_poses(estimate, reference, CONVENTIONS[name])
    other = score_poses(scaled, reference, CONVENTIONS[name])
    assert other.trans_err == pytest.approx(one.trans_err, rel=1e-9)
    assert one.scale is not None and other.scale is not None
    assert other.scale * scale == pytest.approx(one.scale, rel=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_cammc_joins_translation_and_rotation(seed: int) -> None:
    reference, estimate = random_path(seed, n=2), random_path(seed + 1, n=2)
    # Two frames, frame 0 shared: the sum over frames is the error of frame 1.
    score = score_poses(estimate, reference, CONVENTIONS["cameractrl_sum"])
    assert score.rot_err is not None and score.trans_err is not None and score.cam_mc is not None
    joined = score.trans_err**2 + 8 * np.sin(score.rot_err / 2) ** 2
    assert score.cam_mc**2 == pytest.approx(joined, rel=1e-9)


def test_release_forgives_a_turned_start_that_scale_only_counts() -> None:
    inputs = golden_inputs("half_turn")
    lenient = score_poses(**inputs, convention=RELEASE)
    strict = score_poses(**inputs, convention=SCALE_ONLY)
    assert lenient.rot_err is not None and strict.rot_err is not None
    assert strict.rot_err > 20 * lenient.rot_err
    assert "negative_scale" in lenient.flags


def test_null_scores_of_a_turning_walk() -> None:
    reference = random_path(3)
    nulls = null_scores(reference, SCALE_ONLY)
    motionless, no_rotation = nulls["motionless"], nulls["no_rotation"]
    assert isinstance(motionless, PoseScore) and isinstance(no_rotation, PoseScore)
    extent = np.linalg.norm(reference[:, :3, 3] - reference[0, :3, 3], axis=1)
    assert motionless.trans_err == pytest.approx(extent.mean())
    assert motionless.scale is None
    assert no_rotation.trans_err == pytest.approx(0.0, abs=1e-12)
    assert no_rotation.rot_err == pytest.approx(motionless.rot_err)


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (
            lambda p: p.__setitem__((4, 0, 3), np.nan),
            "frame 4 has values that are not finite",
        ),
        (lambda p: p.__setitem__((4, 3, 3), 2.0), "estimate frame 4 has a last row"),
        (lambda p: p.__setitem__((4, 0, 0), 3.0), "estimate frame 4 .* orthonormal"),
        (
            lambda p: p.__setitem__((4, slice(3), slice(3)), np.diag([1.0, 1.0, -1.0])),
            "estimate frame 4 .*negative determinant",
        ),
    ],
)
@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_bad_poses_are_named(spoil: Any, fault: str, name: str) -> None:
    estimate = random_path(1)
    spoil(estimate)
    with pytest.raises(InvalidPosesError, match=fault):
        score_poses(estimate, random_path(0), CONVENTIONS[name])


def test_masked_frames_are_not_read() -> None:
    reference, estimate = random_path(0), random_path(1)
    valid = np.ones(24, dtype=bool)
    valid[[0, 7]] = False
    spoiled = estimate.copy()
    spoiled[~valid] = np.nan
    masked = score_poses(spoiled, reference, RELEASE, valid)
    kept = score_poses(estimate[valid], reference[valid], RELEASE)
    assert masked.rot_err == kept.rot_err
    assert masked.trans_err == kept.trans_err
    assert (masked.n, masked.n_asked) == (22, 24)
    assert masked.flags == (*kept.flags, "partial")


@pytest.mark.parametrize(("left", "code"), [(2, "too_few_valid"), (10, "low_coverage")])
def test_too_little_left(left: int, code: str) -> None:
    valid = np.arange(24) < left
    with pytest.raises(DegenerateTrajectoryError, match=code):
        score_poses(random_path(1), random_path(0), RELEASE, valid)


def test_shapes_and_masks_are_checked() -> None:
    with pytest.raises(InvalidPosesError, match="one shape"):
        score_poses(random_path(0)[:5], random_path(0), RELEASE)
    with pytest.raises(InvalidPosesError, match="bool"):
        score_poses(random_path(1), random_path(0), RELEASE, np.ones(24))
