"""A scripted policy that looks around a room and stays clear of its walls."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import twist_to_controls
from sana_wm_gym.camera.trajectory import CameraState, integrate
from sana_wm_gym.world.procedural.scenes import Scene, cast, free_space
from sana_wm_gym.world.world_model import WorldSpec

Array = npt.NDArray[np.float64]

MARGIN = 0.4
"""Metres to every surface."""
VIEW = 1.2
"""Metres to what is straight ahead, at least, at the end of a chunk."""

_DRAWS = 64
# Largest (yaw, pitch, right, down, forward) as a fraction of the world's limits: a slow walk.
_PACE = np.array([0.45, 0.15, 0.3, 0.0, 0.6])


def plan_tour(
    scene: Scene, c2w: Array, spec: WorldSpec, chunks: int, rng: np.random.Generator
) -> Array:
    """Choose one action per chunk.

    Random slow twists are drawn until one keeps the camera clear; the scene serves this check
    alone. Where none does, the camera turns on the spot.

    Args:
        scene: Where the camera is.
        c2w: Its first pose there, float64 [4, 4].
        spec: Of the world: motion that actions of +-1 stand for, frames of a chunk.
        chunks: Number of actions.
        rng: Source of the draws.

    Returns:
        Actions (yaw, pitch, right, down, forward) in [-1, 1], float64 [chunks, 5].
    """
    state, actions = CameraState(), []
    for _ in range(chunks):
        for _ in range(_DRAWS):
            action = _PACE * rng.uniform(-1, 1, 5)
            # Mostly ahead; pitch comes back to level.
            action[4] = _PACE[4] * rng.uniform(-0.2, 1.0)
            action[1] = -np.sign(state.pitch) * abs(action[1])
            poses, after = _move(state, action, spec)
            if _is_clear(scene, c2w @ poses):
                break
        else:
            action = np.array([_PACE[0], 0.0, 0.0, 0.0, 0.0])
            _, after = _move(state, action, spec)
        actions.append(action)
        state = after
    return np.stack(actions)


def _move(state: CameraState, action: Array, spec: WorldSpec) -> tuple[Array, CameraState]:
    controls = twist_to_controls(action, spec.limits, spec.frames_per_chunk)
    return integrate(state, controls, spec.limits.pitch_limit)


def _is_clear(scene: Scene, poses: Array) -> bool:
    last = poses[-1]
    ahead = cast(scene, last[None, :3, 3], last[None, :3, 2])[0]
    return bool(ahead > VIEW and free_space(scene, poses[:, :3, 3], MARGIN).all())
