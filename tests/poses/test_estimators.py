"""Poses from pixels on rendered clips, where the truth is known."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.se3 import (
    from_rotation_translation,
    geodesic_angle,
    invert,
    relative_to_first,
)
from sana_wm_gym.evaluation.estimator_floors import CLIPS, FPS, degrade, place
from sana_wm_gym.evaluation.score import ScoreOptions, score_rollout
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY, PoseScore, match_frames, score_poses
from sana_wm_gym.poses import (
    LKBundleAdjustment,
    OracleEstimator,
    RotationOnly,
    bundle,
    lk_bundle_adjustment,
)
from sana_wm_gym.poses.bundle import (
    Cameras,
    Observations,
    adjust_points,
    adjust_pose,
    bundle_adjust,
    project,
)
from sana_wm_gym.poses.refine import refine_tracks
from sana_wm_gym.poses.rotation_only import orientations
from sana_wm_gym.poses.tracks import (
    FAINT,
    SHARP,
    SOFT,
    Tracks,
    choose_settings,
    grey_frames,
    track_points,
)
from sana_wm_gym.poses.two_view import (
    bearings,
    fit_rotation,
    relative_poses,
    triangulate,
)
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import generate_scene

SIZE = 64
INTRINSICS = default_intrinsics(SIZE, SIZE)


@lru_cache
def clip(name: str, frames: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64]]:
    """Frames and camera-to-world poses of a benchmark clip in scene 1."""
    scene = generate_scene(1)
    truth = place(scene, CLIPS[name](np.arange(frames) / FPS), seed=1)
    return render(scene, truth, INTRINSICS, (SIZE, SIZE), samples=3), truth


@pytest.mark.parametrize(
    ("name", "frames", "mode", "rot_err_deg", "trans_err_m", "coverage"),
    [
        ("orbit", 65, "full", 0.7, 0.03, 1.0),
        ("spiral", 65, "full", 0.7, 0.03, 1.0),
        ("pan_then_dolly", 65, "full", 2.0, 1.0, 0.8),
        ("pan", 49, "rotation_only", 0.2, 1e-9, 1.0),
    ],
)
def test_clips_meet_their_bounds(
    name: str, frames: int, mode: str, rot_err_deg: float, trans_err_m: float, coverage: float
) -> None:
    video, truth = clip(name, frames)
    estimate = LKBundleAdjustment().estimate(video, INTRINSICS, FPS)
    assert estimate.info.mode == mode
    score = score_poses(estimate.poses, truth, RELEASE, estimate.valid)
    assert score.coverage >= coverage
    assert score.rot_err is not None and score.rot_err < rot_err_deg
    assert score.trans_err is not None and score.trans_err < trans_err_m
    if mode == "full":
        assert score.scale is not None and score.scale > 0
    else:
        assert not estimate.poses[:, :3, 3].any()


def test_a_soft_clip_is_looked_at_softly_and_still_read() -> None:
    frames, truth = clip("orbit", 49)
    assert choose_settings(frames) == SHARP
    soft = degrade(frames)
    assert choose_settings(soft) == SOFT
    estimate = LKBundleAdjustment().estimate(soft, INTRINSICS, FPS)
    assert (estimate.info.mode, estimate.info.look) == ("full", "soft")
    score = score_poses(estimate.poses, truth, RELEASE, estimate.valid)
    assert score.coverage == 1.0
    assert score.rot_err is not None and score.rot_err < 2.0


def test_faint_settings_undo_brightness_and_contrast() -> None:
    frames, _ = clip("orbit", 65)
    dim = np.rint(frames[:1] * 0.4 + 80).astype(np.uint8)
    gap = grey_frames(frames[:1], FAINT).astype(float) - grey_frames(dim, FAINT)
    assert np.abs(gap).mean() < 4.0
    before = frames[:1].astype(float) - dim
    assert np.abs(before).mean() > 20.0


def test_pictures_that_share_nothing_are_not_scored() -> None:
    _, truth = clip("orbit", 65)
    noise = np.random.default_rng(0).integers(0, 255, (33, SIZE, SIZE, 3)).astype(np.uint8)
    for estimator in (LKBundleAdjustment(), RotationOnly()):
        score = score_rollout(noise, truth[:33], INTRINSICS, FPS, estimator)
        assert isinstance(score.release, str)
        assert score.coverage < 0.5


def test_a_pan_by_the_rotation_estimator_leaves_centres_at_zero() -> None:
    frames, truth = clip("pan", 33)
    estimate = RotationOnly().estimate(frames, INTRINSICS, FPS)
    assert estimate.valid.all() and not estimate.poses[:, :3, 3].any()
    assert (estimate.info.name, estimate.info.mode) == ("rotation_only", "rotation_only")
    assert np.rad2deg(geodesic_angle(estimate.poses[-1, :3, :3], truth[-1, :3, :3])) > 15
    score = score_poses(estimate.poses, truth, RELEASE)
    assert score.rot_err is not None and score.rot_err < 0.2


def test_directions_that_do_not_agree_leave_frames_unoriented() -> None:
    rng = np.random.default_rng(0)
    xy = np.repeat(rng.uniform(4, 60, (1, 40, 2)), 9, axis=0)
    xy[6] = rng.uniform(4, 60, (40, 2))  # one frame shows something else
    rotations, valid, error = orientations(Tracks(xy), INTRINSICS)
    np.testing.assert_array_equal(valid, np.arange(9) != 6)
    np.testing.assert_allclose(rotations[5], np.eye(3), atol=0.02)
    assert error is not None and error < 0.5


def test_frames_between_key_frames_are_placed_on_the_points_of_a_long_clip(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lk_bundle_adjustment, "_ALL", 33)
    frames, truth = clip("strafe_yaw", 65)
    estimate = LKBundleAdjustment().estimate(frames, INTRINSICS, FPS)
    assert estimate.info.mode == "full" and estimate.valid.all()
    score = score_poses(estimate.poses, truth, RELEASE)
    assert score.rot_err is not None and score.rot_err < 0.7


@given(st.integers(2, 1000), st.integers(1, 40))
def test_key_frames_start_at_the_first_and_are_never_too_many(frames: int, length: int) -> None:
    xy = np.full((frames, 2, 2), np.nan)
    xy[:length] = 0.0
    keys = lk_bundle_adjustment._key_frames(Tracks(xy))
    assert keys[0] == 0 and len(keys) <= 241
    assert len(set(np.diff(keys))) <= 1
    assert frames - keys[-1] <= max(np.diff(keys, append=frames))


def test_a_still_clip_is_called_static() -> None:
    frames, _ = clip("still", 9)
    estimate = LKBundleAdjustment().estimate(frames, INTRINSICS, FPS)
    assert estimate.info.mode == "static"
    np.testing.assert_array_equal(estimate.poses, np.tile(np.eye(4), (9, 1, 1)))


def test_frames_without_texture_leave_only_the_first_valid() -> None:
    estimate = LKBundleAdjustment().estimate(
        np.full((8, SIZE, SIZE, 3), 90, np.uint8), INTRINSICS, FPS
    )
    np.testing.assert_array_equal(estimate.valid, np.arange(8) < 1)
    assert np.isnan(estimate.poses[1:]).all()


def test_same_frames_same_poses() -> None:
    frames, _ = clip("orbit", 33)
    first = LKBundleAdjustment().estimate(frames, INTRINSICS, FPS)
    again = LKBundleAdjustment().estimate(frames, INTRINSICS, FPS)
    np.testing.assert_array_equal(first.poses, again.poses)


def test_rollout_of_the_commanded_path_beats_its_null() -> None:
    frames, truth = clip("strafe_yaw", 49)
    score = score_rollout(frames, truth, INTRINSICS, FPS, LKBundleAdjustment(), truth_frames=frames)
    assert isinstance(score.release, PoseScore) and isinstance(score.scale_only, PoseScore)
    null = score.motionless["scale_only"]
    assert isinstance(null, PoseScore)
    assert score.scale_only.rot_err is not None and null.rot_err is not None
    assert score.scale_only.rot_err < 0.25 * null.rot_err
    assert score.info.source == "estimated"
    assert score.at_floor(SCALE_ONLY) is True
    assert score.to_dict()["coverage"] == 1.0
    lines = str(score).splitlines()
    assert lines[1].split()[:2] == ["convention", "video"]
    assert "do not rank" in lines[-1]
    assert score.info.look == "sharp"


def test_oracle_rollout_scores_zero_and_says_so() -> None:
    frames, truth = clip("strafe_yaw", 65)
    score = score_rollout(frames, truth, INTRINSICS, FPS, OracleEstimator(truth))
    assert score.info.source == "oracle"
    assert isinstance(score.release, PoseScore)
    assert score.release.rot_err == pytest.approx(0.0, abs=1e-9)
    assert score.release.trans_err == pytest.approx(0.0, abs=1e-12)
    assert score.at_floor(RELEASE) is None


def test_rollout_matches_by_time() -> None:
    _, truth = clip("strafe_yaw", 65)
    frames, oracle = np.zeros((33, 8, 8, 3), np.uint8), OracleEstimator(truth[::2])
    match = match_frames(65, 16.0, 33, 8.0, stride=2)
    score = score_rollout(frames, truth, None, 8.0, oracle, options=ScoreOptions(match))
    assert isinstance(score.release, PoseScore) and score.frames_asked == 33
    assert score.release.trans_err == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(ValueError, match="truncate=True"):
        score_rollout(frames, truth, None, 16.0, oracle)


def test_rollout_records_too_little_coverage_as_a_code() -> None:
    _, truth = clip("strafe_yaw", 65)

    class Sparse(OracleEstimator):
        def estimate(self, frames, intrinsics, fps):  # type: ignore[no-untyped-def]
            full = super().estimate(frames, intrinsics, fps)
            valid = np.arange(len(frames)) < 8
            poses = np.where(valid[:, None, None], full.poses, np.nan)
            return replace(full, poses=poses, valid=valid)

    frames = np.zeros((65, 8, 8, 3), np.uint8)
    score = score_rollout(frames, truth, None, FPS, Sparse(truth))
    assert score.release == "low_coverage"
    assert score.coverage == 8 / 65
    assert "low_coverage" in str(score)


@pytest.mark.parametrize(
    ("frames", "intrinsics", "fps", "message"),
    [
        (np.zeros((4, 8, 8, 3)), INTRINSICS, 16.0, "uint8"),
        (np.zeros((4, 8, 8), np.uint8), INTRINSICS, 16.0, "uint8"),
        (np.zeros((0, 8, 8, 3), np.uint8), INTRINSICS, 16.0, "uint8"),
        (np.zeros((4, 8, 8, 3), np.uint8), (1.0, 2.0), 16.0, "intrinsics"),
        (np.zeros((4, 8, 8, 3), np.uint8), (np.nan, 1.0, 1.0, 1.0), 16.0, "intrinsics"),
        (np.zeros((4, 8, 8, 3), np.uint8), INTRINSICS, 0.0, "fps"),
    ],
)
def test_bad_input_is_refused(
    frames: npt.NDArray[np.uint8], intrinsics: tuple[float, ...], fps: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        LKBundleAdjustment().estimate(frames, intrinsics, fps)


def synthetic(count: int = 7, points: int = 60) -> tuple[Cameras, npt.NDArray[np.float64]]:
    """World-to-camera poses, and world points in front of all cameras."""
    rng = np.random.default_rng(0)
    rotations = Rotation.from_rotvec(rng.normal(0, 0.05, (count, 3))).as_matrix()
    translations = rng.normal(0, 0.3, (count, 3))
    rotations[0], translations[0] = np.eye(3), 0.0
    return Cameras(rotations, translations), rng.uniform([-2, -2, 4], [2, 2, 8], (points, 3))


def images(cameras: Cameras, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return project(cameras[:, None], points[None], INTRINSICS)[0]


def test_bundle_adjustment_recovers_noisy_cameras_up_to_scale() -> None:
    cameras, points = synthetic()
    xy = images(cameras, points)
    xy[2:4, ::3] = np.nan
    rng = np.random.default_rng(1)
    noise = np.concatenate([rng.normal(0, 0.02, (7, 3)), rng.normal(0, 0.05, (7, 3))], axis=1)
    noise[0] = 0.0
    found, _ = bundle_adjust(
        cameras.moved(noise),
        points + rng.normal(0, 0.1, points.shape),
        Observations.of(xy, INTRINSICS),
        fixed_camera=0,
        iterations=100,
        tolerance=1e-14,
    )
    assert np.rad2deg(geodesic_angle(found.rotations, cameras.rotations)).max() < 1e-4
    scale = np.sum(found.translations * cameras.translations) / np.sum(found.translations**2)
    np.testing.assert_allclose(scale * found.translations, cameras.translations, atol=1e-6)


def test_bundle_adjustment_step_equals_dense_least_squares() -> None:
    """The Schur complement solves the same normal equations as one dense system."""
    cameras, points = synthetic(4, 15)
    rng = np.random.default_rng(2)
    xy = images(cameras, points) + rng.normal(0, 0.1, (4, 15, 2))
    xy[3, :5] = np.nan
    observed = Observations.of(xy, INTRINSICS)
    system = bundle._normal_equations(cameras, points, observed)
    pose_step, point_step = bundle._damped_step(system, observed, 0.1, np.arange(1, 4))

    def residuals(parameters: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        moved = cameras.moved(parameters[:24].reshape(4, 6))
        return observed.residuals(moved, points + parameters[24:].reshape(15, 3))[0].ravel()

    zero, step = np.zeros(24 + 45), 1e-6
    jacobian = np.stack(
        [
            (residuals(zero + step * e) - residuals(zero - step * e)) / (2 * step)
            for e in np.eye(len(zero))
        ],
        axis=1,
    )
    residual = residuals(zero)
    length = np.linalg.norm(residual.reshape(-1, 2), axis=1)
    weight = np.repeat(np.minimum(1.0, bundle.HUBER_PX / length), 2)
    free = np.arange(6, len(zero))
    normal = jacobian[:, free].T @ (weight[:, None] * jacobian[:, free])
    normal[np.diag_indices_from(normal)] *= 1.1
    dense = -np.linalg.solve(normal, jacobian[:, free].T @ (weight * residual))
    np.testing.assert_allclose(pose_step[1:].ravel(), dense[:18], rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(point_step.ravel(), dense[18:], rtol=1e-4, atol=1e-8)


def test_pose_from_known_points_ignores_outliers() -> None:
    cameras, points = synthetic()
    xy = images(cameras, points)
    xy[3, :6] += 8.0
    found = adjust_pose(cameras[0], points, xy[3], INTRINSICS, iterations=50)
    assert np.rad2deg(geodesic_angle(found.rotations, cameras.rotations[3])) < 0.3
    np.testing.assert_allclose(found.translations, cameras.translations[3], atol=0.02)


def test_triangulation_and_refinement_return_the_points() -> None:
    cameras, points = synthetic()
    xy = images(cameras, points)
    poses = invert(from_rotation_translation(cameras.rotations, cameras.translations))
    rays = points[None] - poses[:, None, :3, 3]
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    found, angle = triangulate(poses[:, :3, 3], rays, np.ones(xy.shape[:2], dtype=bool))
    np.testing.assert_allclose(found, points, atol=1e-5)
    assert (angle > 0).all()
    observed = Observations.of(xy, INTRINSICS)
    refined = adjust_points(cameras, points + 0.05, observed, iterations=30)
    np.testing.assert_allclose(refined, points, atol=1e-4)


def test_refinement_moves_shifted_tracks_back_onto_their_points() -> None:
    frames, truth = clip("orbit", 17)
    grey = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames])
    c2w = relative_to_first(truth)
    poses = invert(c2w)
    xy = track_points(frames).xy
    xy = xy[:, np.isfinite(xy).all(axis=(0, 2))]
    rays = np.einsum("nij,npj->npi", c2w[:, :3, :3], bearings(xy, INTRINSICS))
    points, _ = triangulate(c2w[:, :3, 3], rays, np.ones(xy.shape[:2], dtype=bool))
    moved = xy + np.random.default_rng(0).normal(0, 0.25, xy.shape)
    moved[8] = xy[8]  # the middle sight, which the others are compared with

    cameras = Cameras(poses[:, :3, :3], poses[:, :3, 3])
    found = refine_tracks(grey, moved, cameras, points, INTRINSICS)
    before = np.linalg.norm(moved - xy, axis=-1)
    after = np.linalg.norm(found - xy, axis=-1)
    assert np.isfinite(after).mean() > 0.8
    assert np.nanmedian(after) < 0.3 * np.median(before)


def test_points_on_a_plane_offer_the_true_motion_among_others() -> None:
    rotation = Rotation.from_rotvec([0.02, -0.08, 0.01]).as_matrix()
    translation = np.array([0.6, 0.0, -0.8])
    rng = np.random.default_rng(0)
    across = rng.uniform(-2, 2, (60, 2))
    points = np.column_stack([across, 5 + 0.4 * across[:, 0]])
    start, _ = project(Cameras(np.eye(3), np.zeros(3)), points, INTRINSICS)
    end, _ = project(Cameras(rotation, translation), points, INTRINSICS)
    motions = relative_poses(start, end, INTRINSICS, 0.3)
    errors = [np.rad2deg(geodesic_angle(turn, rotation)) for turn, _ in motions[1:]]
    assert len(motions) == 3
    assert min(errors) < 0.01
    assert max(errors) > 1.0


def test_rotation_fit_ignores_a_third_of_outliers() -> None:
    rng = np.random.default_rng(0)
    rays = rng.normal(size=(60, 3))
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    rotation = Rotation.from_rotvec([0.1, -0.2, 0.05]).as_matrix()
    turned = rays @ rotation.T
    turned[:20] = turned[20:40]
    found = fit_rotation(rays, turned, iterations=40)
    assert np.rad2deg(geodesic_angle(found, rotation)) < 0.05
