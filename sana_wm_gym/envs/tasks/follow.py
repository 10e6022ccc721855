"""Follow a given camera path under actuation noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.controls import TWIST_NAMES, Controls, twist_to_controls
from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import pose_box
from sana_wm_gym.envs.tasks.task import Arrays, Episodes, Numbers, Rngs, Setting, StepResult, Task
from sana_wm_gym.world.world_model import WorldSpec

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FollowState:
    """Where an episode stands on its path.

    Attributes:
        path: Poses to follow relative to the first frame, one per frame, float64 [n, 4, 4];
            path[0] is the first frame's.
        actuation_noise: What is added to the motion of each chunk, per frame in the order of
            `camera.TWIST_NAMES`, radians and metres, float64 [chunks, 5].
        frames: Frames of a chunk.
        chunk: Chunks so far.
    """

    path: Array
    actuation_noise: Array
    frames: int
    chunk: int = 0


@dataclass(frozen=True)
class Follow(Task):
    """Keep to a commanded camera path under noise and drift: observation part "path".

    The path is a smooth random walk of twists about a steady bend, one twist per chunk, so that
    without noise it could be followed exactly. Commands are disturbed by white noise and by a bias
    that drifts slowly, both drawn when the episode begins. The path has the task's
    `max_episode_steps` chunks, whatever the environment's limit; after that it stands still and
    nothing is disturbed.

    Compared are the poses of each chunk with the path's at the same instants, under the
    convention "scale_only" of `metrics` with scale 1: frame 0 is shared and nothing is fitted. The
    reward is exp(-(translation error / `scale` + rotation error / `turn_scale`)), in (0, 1], with
    both errors means over the chunk. An episode ends once the translation error exceeds `lost`.

    `info` has "rot_err_deg", "trans_err_m" and "is_success": whether the last chunk was within
    `success_distance_m` and `success_angle_deg`. The camera is the one that was commanded and
    disturbed; `metrics` measures how accurately a learned world follows it.

    Attributes:
        max_episode_steps: Chunks after which an episode is truncated.
        lookahead: Ends of how many next chunks are observed.
        forward: Mean forward speed of the path, as a fraction of the world's limit.
        yaw: Mean turning speed to one side or the other, as a fraction of the world's limit.
        wander: Standard deviation of forward, sideways and turning speeds about their means, as a
            fraction of the limits.
        noise: Standard deviation of the white noise, as a fraction of the limits.
        drift: Standard deviation of the bias, as a fraction of the limits.
        persistence: What is left of a deviation, of path or bias, a chunk later; 0 to 1.
        scale: Metres of translation error that cost a factor e.
        turn_scale: Radians of rotation error that cost a factor e.
        success_distance_m: Metres of error that count as success.
        success_angle_deg: Degrees of error that count as success.
        lost: Metres of error that end an episode.
    """

    name: ClassVar[str] = "follow"
    needs_camera: ClassVar[bool] = True
    State: ClassVar[type[Any]] = FollowState
    shapes: ClassVar = {"path": (None, 4, 4), "actuation_noise": (None, len(TWIST_NAMES))}
    max_episode_steps: int = 16
    lookahead: int = 2
    forward: float = 0.25
    yaw: float = 0.6
    wander: float = 0.1
    noise: float = 0.05
    drift: float = 0.1
    persistence: float = 0.8
    scale: float = 0.5
    turn_scale: float = math.radians(30.0)
    success_distance_m: float = 0.3
    success_angle_deg: float = 15.0
    lost: float = 1.0

    def __post_init__(self) -> None:
        require_integer("Follow.max_episode_steps", self.max_episode_steps, 1)
        require_integer("Follow.lookahead", self.lookahead, 1)
        require_number("Follow.forward", self.forward, -1.0, 1.0)
        for name in ("yaw", "wander", "noise", "drift", "persistence"):
            require_number(f"Follow.{name}", getattr(self, name), 0.0, 1.0)
        for name in ("scale", "turn_scale", "success_distance_m", "success_angle_deg", "lost"):
            require_number(f"Follow.{name}", getattr(self, name), 0.0, ends="(]")

    def spaces(self, setting: Setting) -> dict[str, spaces.Space[Any]]:
        """ "path": first three rows of the next poses relative to the first frame, flattened."""
        return {"path": pose_box(self.lookahead)}

    def begin(self, setting: Setting, episodes: Episodes, rngs: Rngs) -> list[FollowState]:
        """Draw paths and actuation noise."""
        return [self._draw(rng, setting.spec) for rng in rngs]

    def disturb(self, state: FollowState, chunk: int, controls: Controls) -> Controls:
        """The command plus the chunk's actuation noise."""
        if chunk >= len(state.actuation_noise):
            return controls
        added = dict(zip(TWIST_NAMES, state.actuation_noise[chunk], strict=True))
        return Controls(
            **{f.name: getattr(controls, f.name) + added.get(f.name, 0.0) for f in fields(Controls)}
        )

    def evaluate(
        self, setting: Setting, before: Episode, after: Episode
    ) -> tuple[FollowState, StepResult]:
        """How near the path the chunk was."""
        angle, metres = self._errors(after)
        reward = math.exp(-(metres / self.scale + angle / self.turn_scale))
        return replace(before.task, chunk=after.chunk), StepResult(reward, metres > self.lost)

    def info(self, setting: Setting, episode: Episode) -> Numbers:
        """Errors of the last chunk, and success at the end of the path."""
        angle, metres = self._errors(episode)
        degrees = math.degrees(angle)
        return {
            "rot_err_deg": degrees,
            "trans_err_m": metres,
            "is_success": metres <= self.success_distance_m and degrees <= self.success_angle_deg,
        }

    def _errors(self, episode: Episode) -> tuple[float, float]:
        """Mean angle (radians) and distance (metres) to the path over the last chunk's frames."""
        state, count = episode.task, len(episode.c2w)
        frames = np.arange(count) + (count * (episode.chunk - 1) + 1 if episode.chunk else 0)
        wanted = state.path[np.minimum(frames, len(state.path) - 1)]
        angles = geodesic_angle(wanted[:, :3, :3], episode.c2w[:, :3, :3])
        metres = np.linalg.norm(wanted[:, :3, 3] - episode.c2w[:, :3, 3], axis=1)
        return float(angles.mean()), float(metres.mean())

    def observe(self, state: FollowState) -> Arrays:
        """The path at the ends of the next chunks."""
        chunks = range(state.chunk + 1, state.chunk + 1 + self.lookahead)
        rows = np.stack([self.target(state, chunk)[:3] for chunk in chunks])
        box = pose_box(self.lookahead)
        return {"path": np.clip(rows.astype(np.float32).ravel(), box.low, box.high)}

    def target(self, state: FollowState, chunk: int) -> Array:
        """Pose of the path after `chunk` chunks, float64 [4, 4]."""
        return state.path[min(state.frames * chunk, len(state.path) - 1)]

    def _draw(self, rng: np.random.Generator, spec: WorldSpec) -> FollowState:
        limits, chunks = spec.limits, self.max_episode_steps + self.lookahead
        side = float(rng.choice((-1.0, 1.0)))
        mean = np.array([side * self.yaw, 0.0, 0.0, 0.0, self.forward])
        moves = np.array([1.0, 0.0, 1.0, 0.0, 1.0])
        twists = mean + self.wander * moves * self._wandering(rng, chunks)
        walk = [
            twist_to_controls(np.clip(t, -1.0, 1.0), limits, spec.frames_per_chunk) for t in twists
        ]
        # Noise is added to all that may be commanded, so pitch has to be held level.
        noise = self.noise * rng.standard_normal((self.max_episode_steps, len(TWIST_NAMES)))
        noise = noise + self.drift * self._wandering(rng, self.max_episode_steps)
        units = np.array([getattr(limits, name) for name in TWIST_NAMES])
        path = rollout(Controls.concatenate(walk))
        return FollowState(path, noise * units, spec.frames_per_chunk)

    def _wandering(self, rng: np.random.Generator, chunks: int) -> Array:
        """A stationary first-order process of unit variance in each component, [chunks, 5]."""
        kicks = rng.standard_normal((chunks, len(TWIST_NAMES)))
        values = np.empty_like(kicks)
        value = kicks[0]
        for chunk, kick in enumerate(kicks):
            if chunk:
                value = self.persistence * value + math.sqrt(1 - self.persistence**2) * kick
            values[chunk] = value
        return values
