"""Camera errors of a running rollout, as a wrapper of the environment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Required, TypedDict, cast

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.utils import RecordConstructorArgs

from sana_wm_gym.checks import require_integer
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.evaluation.command_agreement import SPANS_S
from sana_wm_gym.evaluation.score import RolloutScore, score_rollout
from sana_wm_gym.metrics.pose import PoseScore
from sana_wm_gym.poses.protocol import OracleEstimator, PoseEstimator
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

KEY = "camera_error"
REPLACED = "rollout_replaced"

Poses = npt.NDArray[np.float64]
Info = dict[str, Any]


class CameraError(TypedDict, total=False):
    """`info["camera_error"]`: the rollout so far, from the first frame on.

    `source` is `estimated` from pixels, or `oracle` from the world's own camera; never mix the two.
    `mode` is the estimator's (`full`, `rotation_only` or `static`), `coverage` the fraction of
    frames with a pose. Four numbers follow under `release` (a mean turn and the scale are
    forgiven), four under `scale_only` (`strict_`: frame 0 is shared, only the scale is forgiven).
    An undefined number is missing, with the reason in `code` or `strict_code`; on a command that
    only turns there are no translation numbers.
    """

    source: Required[str]
    mode: str
    coverage: float
    rot_err_deg: float
    trans_err_m: float
    cam_mc: float
    scale: float
    code: str
    strict_rot_err_deg: float
    strict_trans_err_m: float
    strict_cam_mc: float
    strict_scale: float
    strict_code: str


@dataclass(frozen=True)
class KnownCamera:
    """Poses from the world itself, in place of an estimator. Scores say `source="oracle"`.

    Attributes:
        c2w_of: Poses of the last chunk relative to the first frame, [24, 4, 4], or [1, 4, 4] before
            any chunk, in a state of the world; by default of the procedural world.
    """

    c2w_of: Callable[[Any], Poses] = attrgetter("c2w")


class OnlineCameraMetrics(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Adds `info["camera_error"]`, a `CameraError`, to every n-th step and to the last.

    Everything else passes unchanged. The estimator sees all frames since reset each time, so a
    measurement after n chunks costs as much as scoring a clip of 24 n + 1 frames. `score` holds the
    same measurement in full, with the motionless camera next to it. After
    `env.unwrapped.restore`, the `code` is `rollout_replaced` until the next reset.

    Args:
        env: A `SanaWMEnv`, wrapped or not. Unless its render mode is "rgb_array_list", frames are
            decoded once more for this wrapper.
        estimator: Turns frames into poses; or `KnownCamera()` in a world that knows its own.
        every: Chunks between measurements.

    Raises:
        ValueError: `env` is no `SanaWMEnv`, `every` is below 1, or `KnownCamera()` is given for a
            world that does not know its camera. In `step`, whatever the estimator raises.
    """

    def __init__(
        self, env: gym.Env[Any, Any], estimator: PoseEstimator | KnownCamera, every: int = 1
    ) -> None:
        require_integer("every", every, 1)
        if not isinstance(env.unwrapped, SanaWMEnv):
            raise ValueError(f"given {type(env.unwrapped).__name__}, expected a SanaWMEnv")
        world = env.unwrapped.world
        world.spec.require_camera("OnlineCameraMetrics")
        if estimator == KnownCamera() and not isinstance(world, ProceduralWorld):
            expected = "expected the procedural world, or an estimator to measure from pixels"
            raise ValueError(f"world {world.spec.name!r} does not know its camera, {expected}")
        RecordConstructorArgs.__init__(self, estimator=estimator, every=every)
        gym.Wrapper.__init__(self, env)
        self.estimator = estimator
        self.every = every
        self.score: RolloutScore | None = None
        self._base: SanaWMEnv = env.unwrapped
        self._rollout: _Rollout | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, Info]:
        """Reset and forget the frames so far."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.score = None
        self._rollout = _Rollout(self._episode(), [], [])
        self._see(self._rollout, info)
        return observation, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, Info]:
        """Step, and measure when it is time."""
        if self._rollout is not None and self._episode() is not self._rollout.last:
            self._rollout = None
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._rollout is not None:
            self._rollout.last = self._episode()
            self._see(self._rollout, info)
        if info["chunk_index"] % self.every == 0 or terminated or truncated:
            info = {**info, KEY: self._measure(self._rollout, info)}
        return observation, reward, terminated, truncated, info

    def _episode(self) -> Episode:
        return self._base.snapshot().episode

    def _see(self, rollout: _Rollout, info: Info) -> None:
        """Keep the commanded poses and the frames of the last chunk."""
        poses = info["c2w"] if info["chunk_index"] else info["c2w"][:1]
        rollout.commanded.append(poses.copy())
        state = rollout.last.world
        if isinstance(self.estimator, KnownCamera):
            rollout.seen.append(self.estimator.c2w_of(state))
        elif self._base.render_mode == "rgb_array_list":
            rollout.seen.append(np.stack(self._base.render()))
        else:
            rollout.seen.extend(self._base.simulation.frames([rollout.last]))

    def _measure(self, rollout: _Rollout | None, info: Info) -> CameraError:
        known = isinstance(self.estimator, KnownCamera)
        if rollout is None:
            self.score = None
            return {"source": "oracle" if known else "estimated", "code": REPLACED}
        commanded, seen = np.concatenate(rollout.commanded), np.concatenate(rollout.seen)
        if isinstance(self.estimator, KnownCamera):
            # An oracle only counts frames.
            frames = np.zeros((len(seen), 1, 1, 3), np.uint8)
            estimator: PoseEstimator = OracleEstimator(seen)
        else:
            frames, estimator = seen, self.estimator
        fps = self._base.world.spec.fps
        self.score = score_rollout(frames, commanded, info["intrinsics"], fps, estimator)
        return camera_error(self.score)


def camera_error(score: RolloutScore) -> CameraError:
    """A rollout's score as flat plain values."""
    agreement = (score.agreement or {}).get(SPANS_S[0])
    values = {
        "source": score.info.source,
        "mode": score.info.mode,
        "coverage": score.coverage,
        **_flat(score.release, ""),
        **_flat(score.scale_only, "strict_"),
    }
    if agreement is not None and agreement.agreement is not None:
        values["agreement"] = agreement.agreement
    return cast(CameraError, values)


def _flat(score: PoseScore | str, prefix: str) -> dict[str, float | str]:
    if isinstance(score, str):
        return {f"{prefix}code": score}
    translates = "reference_static" not in score.flags
    numbers = {
        "rot_err_deg": score.rot_err,
        "trans_err_m": score.trans_err if translates else None,
        "cam_mc": score.cam_mc if translates else None,
        "scale": score.scale,
    }
    return {prefix + name: value for name, value in numbers.items() if value is not None}


@dataclass
class _Rollout:
    """Commanded poses and frames since reset; poses instead of frames where they are known."""

    last: Episode
    commanded: list[Poses]
    seen: list[npt.NDArray[Any]]
