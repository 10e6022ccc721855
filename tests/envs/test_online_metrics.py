"""Camera error while a rollout runs: right numbers, and nothing else changes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest
from env_values import started
from gymnasium.utils.env_checker import check_env

import sana_wm_gym
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.evaluation.online_metrics import KnownCamera, OnlineCameraMetrics
from sana_wm_gym.metrics import SCALE_ONLY, PoseScore, score_poses
from sana_wm_gym.poses import EstimatorInfo, LKBundleAdjustment, PoseEstimate

FORWARD = np.array([0.3, 0.1, 0.4, 0.0, 1.0], np.float32)
TURN = np.array([0.5, 0.0, 0.0, 0.0, 0.0], np.float32)


@dataclass(frozen=True)
class Fixed:
    """Cheap and deterministic: moves steadily forward, whatever the frames show."""

    placed: float = 1.0
    seen: Any = None

    def estimate(self, frames: npt.NDArray[np.uint8], intrinsics: Any, fps: float) -> PoseEstimate:
        if self.seen is not None:
            self.seen.append((frames.copy(), tuple(np.asarray(intrinsics)), fps))
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, 2, 3] = 0.01 * np.arange(len(frames))
        valid = np.arange(len(frames)) < self.placed * len(frames)
        return PoseEstimate(
            poses, valid, EstimatorInfo("fixed", "1", "estimated", "full", None, None, False)
        )


def procedural(**options: Any) -> gym.Env[Any, Any]:
    return gym.make(sana_wm_gym.ENV_ID, world="procedural", **options)


@pytest.mark.parametrize("estimator", [KnownCamera(), Fixed()], ids=["oracle", "estimated"])
@pytest.mark.parametrize("render_mode", [None, "rgb_array_list"])
def test_gymnasium_accepts_it(estimator: Any, render_mode: str | None) -> None:
    env = OnlineCameraMetrics(procedural(render_mode=render_mode), estimator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # The checker would rather see bare environments; this one is checked with its wrapper.
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version")
        check_env(env)


def test_a_true_world_is_without_error() -> None:
    env = OnlineCameraMetrics(procedural(), KnownCamera())
    _, info = env.reset(seed=0)
    assert "camera_error" not in info
    for _ in range(2):
        *_, info = env.step(FORWARD)
        error = info["camera_error"]
        assert error["source"] == "oracle" and error["coverage"] == 1.0
        for key in ("rot_err_deg", "trans_err_m", "cam_mc"):
            assert error[key] == pytest.approx(0, abs=1e-6)
            assert error["strict_" + key] == pytest.approx(0, abs=1e-6)
        assert error["scale"] == pytest.approx(1)


def test_it_measures_the_whole_rollout_from_the_first_frame() -> None:
    seen: list[Any] = []
    env = OnlineCameraMetrics(procedural(), Fixed(seen=seen), every=2)
    observation, info = env.reset(seed=3)
    commanded, shown = [info["c2w"][:1]], [observation]
    for chunk in range(1, 5):
        observation, *_, info = env.step(FORWARD)
        commanded.append(info["c2w"])
        shown.append(observation)
        assert ("camera_error" in info) == (chunk % 2 == 0)
    frames, intrinsics, fps = seen[-1]
    assert len(seen) == 2 and frames.shape == (1 + 4 * 24, 64, 64, 3)
    assert intrinsics == tuple(info["intrinsics"]) and fps == 16.0
    for at, observation in zip(range(0, 97, 24), shown, strict=True):
        np.testing.assert_array_equal(frames[at], observation)
    estimate = Fixed().estimate(frames, intrinsics, fps).poses
    score = score_poses(estimate, np.concatenate(commanded), SCALE_ONLY)
    assert info["camera_error"]["strict_rot_err_deg"] == score.rot_err
    assert info["camera_error"]["strict_trans_err_m"] == score.trans_err
    assert env.score is not None and env.score.frames_asked == 97


def test_frames_are_the_same_in_every_render_mode() -> None:
    seen: list[Any] = []
    for render_mode in (None, "rgb_array", "rgb_array_list"):
        env = OnlineCameraMetrics(procedural(render_mode=render_mode), Fixed(seen=seen))
        env.reset(seed=1)
        env.step(FORWARD)
    for frames, *_ in seen[1:]:
        np.testing.assert_array_equal(frames, seen[0][0])


def test_nothing_else_changes(world: Any) -> None:
    bare = SanaWMEnv(world, max_episode_steps=3)
    wrapped = OnlineCameraMetrics(SanaWMEnv(world, max_episode_steps=3), Fixed(), every=5)
    one, other = bare.reset(seed=7), wrapped.reset(seed=7)
    np.testing.assert_array_equal(one[0], other[0])
    truncated = False
    while not truncated:
        before, after = bare.step(FORWARD), wrapped.step(FORWARD)
        np.testing.assert_array_equal(before[0], after[0])
        assert before[1:4] == after[1:4]
        extra = {"camera_error"} if after[3] else set()
        assert after[4].keys() - before[4].keys() == extra  # measured at the end in any case
        np.testing.assert_array_equal(before[4]["c2w"], after[4]["c2w"])
        truncated = after[3]


def test_pixels_and_oracle_are_distinguished() -> None:
    env = started(OnlineCameraMetrics(procedural(), LKBundleAdjustment()))
    *_, info = env.step(FORWARD)
    error = info["camera_error"]
    assert error["source"] == "estimated"
    assert env.score is not None and isinstance(env.score.motionless["scale_only"], PoseScore)
    motionless = env.score.motionless["scale_only"]
    assert error["strict_trans_err_m"] < 0.3 * motionless.trans_err  # type: ignore[operator]


def test_an_inaccurate_world_is_measured(world: Any) -> None:
    def half_as_far(state: Any) -> npt.NDArray[np.float64]:
        poses = state.c2w.copy()
        poses[:, :3, 3] *= 0.5
        return poses

    env = started(OnlineCameraMetrics(SanaWMEnv(world), KnownCamera(half_as_far)))
    *_, info = env.step(FORWARD)
    error = info["camera_error"]
    assert error["source"] == "oracle"
    # The headline forgives a wrong speed; the fitted scale shows it.
    assert error["trans_err_m"] == pytest.approx(0, abs=1e-9)
    assert (error["scale"], error["strict_scale"]) == (pytest.approx(2), pytest.approx(2))


def test_undefined_measurements_are_left_out_or_a_code(world: Any) -> None:
    env = started(OnlineCameraMetrics(procedural(), KnownCamera()))
    error = env.step(TURN)[4]["camera_error"]
    assert error["rot_err_deg"] == pytest.approx(0, abs=1e-6)
    assert not {"trans_err_m", "strict_cam_mc", "scale"} & error.keys()
    env = started(OnlineCameraMetrics(SanaWMEnv(world), Fixed(placed=0.2)))
    error = env.step(FORWARD)[4]["camera_error"]
    assert error["code"] == error["strict_code"] == "low_coverage"
    assert error["coverage"] == pytest.approx(0.2)
    assert not {"rot_err_deg", "strict_rot_err_deg"} & error.keys()


def test_a_replaced_rollout_is_not_measured_until_reset(world: Any) -> None:
    env = started(OnlineCameraMetrics(SanaWMEnv(world), Fixed()))
    env.step(FORWARD)
    here = env.unwrapped.snapshot()  # type: ignore[attr-defined]
    env.step(FORWARD)
    env.unwrapped.restore(here)  # type: ignore[attr-defined]
    for _ in range(2):
        *_, info = env.step(FORWARD)
        assert info["camera_error"] == {"source": "estimated", "code": "rollout_replaced"}
        assert env.score is None
    env.reset(seed=0)
    *_, info = env.step(FORWARD)
    assert "rot_err_deg" in info["camera_error"]


def test_a_refused_step_leaves_the_measurement_whole(world: Any) -> None:
    seen: list[Any] = []
    env = started(OnlineCameraMetrics(SanaWMEnv(world), Fixed(seen=seen)))
    env.step(FORWARD)
    with pytest.raises(ValueError, match="yaw is nan"):
        env.step(np.full(5, np.nan))
    env.step(FORWARD)
    assert len(seen[-1][0]) == 49


def test_it_runs_in_a_vector_environment(world: Any) -> None:
    envs = gym.vector.SyncVectorEnv(
        [lambda: OnlineCameraMetrics(SanaWMEnv(world), Fixed()) for _ in range(2)]
    )
    envs.reset(seed=0)
    *_, info = envs.step(np.stack([FORWARD, FORWARD]))
    assert info["camera_error"]["strict_rot_err_deg"].shape == (2,)
    envs.close()


def test_bad_arguments_are_refused(world: Any) -> None:
    with pytest.raises(ValueError, match="every is 0"):
        OnlineCameraMetrics(SanaWMEnv(world), Fixed(), every=0)
    with pytest.raises(ValueError, match="expected a SanaWMEnv"):
        OnlineCameraMetrics(gym.make("CartPole-v1"), Fixed())
    with pytest.raises(ValueError, match="'fake' does not know its camera"):
        OnlineCameraMetrics(SanaWMEnv(world), KnownCamera())
