"""Random camera walks through procedural scenes, as from a keyboard, without collisions.

A walk is a sequence of segments of 8 to 40 frames with constant commands. Velocities follow the
commands at once or with inertia. A segment that would hit something is drawn again; where nothing
fits, the camera stops and turns to the open side.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import Controls, MotionLimits
from sana_wm_gym.camera.trajectory import CameraState, integrate
from sana_wm_gym.world.procedural.appearance import draw_appearance
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.scenes import (
    Scene,
    cast,
    free_space,
    generate_scene,
    sample_pose,
    with_appearance,
)

Array = npt.NDArray[np.float64]

MARGIN = 0.3
"""Distance to every surface in metres."""
VIEW = (0.7, 2.2)
"""A segment is drawn again if something is nearer ahead, in metres, than a number drawn from this
range: close views stay rare."""
HEIGHT_RANGE = 0.15
"""Largest distance of the camera from y = 0 in metres."""

_ATTEMPTS = 12


def draw_walk(
    scene: int,
    index: int,
    frames: int,
    start_radius: float | None = None,
    limits: MotionLimits = WALK_LIMITS,
    held_out: bool = False,
) -> tuple[Scene, Array]:
    """A numbered walk: the scene in the walk's own appearance, and the walk's poses.

    A walk is a function of its arguments, and held-out walks are never training walks. `frames`,
    `start_radius` and `limits` as in `sample_walk`.
    """
    stream = 2 if held_out else 1
    rng, place = np.random.default_rng([stream, scene, index]), generate_scene(scene)
    place = with_appearance(place, draw_appearance(place.surfaces, rng))
    return place, sample_walk(place, rng, frames, limits, start_radius)


def sample_walk(
    scene: Scene,
    rng: np.random.Generator,
    frames: int,
    limits: MotionLimits = WALK_LIMITS,
    start_radius: float | None = None,
) -> Array:
    """Draw a walk of `frames` steps from a random start.

    Args:
        scene: Where to walk.
        rng: Source of the start and of all commands.
        frames: Number of steps, >= 0.
        limits: Fastest motion per frame and largest pitch.
        start_radius: How far from the scene's most open spot it may begin, in metres; None for
            anywhere.

    Returns:
        Camera-to-world poses in scene axes, float64 [frames + 1, 4, 4], start first. Every
        position is free with `MARGIN`.

    Raises:
        ValueError: `frames` is negative, or the scene has no free start.
    """
    if frames < 0:
        raise ValueError(f"frames is {frames}, expected >= 0")
    state = CameraState(sample_pose(scene, rng, radius=start_radius))
    velocity = np.zeros(5)
    parts = [state.c2w[None]]
    left = frames
    while left > 0:
        count = min(int(rng.integers(8, 41)), left)
        for attempt in range(_ATTEMPTS):
            command, view = _command(rng, state, limits), rng.uniform(*VIEW)
            if attempt >= _ATTEMPTS // 2:
                # Blocked: shorter, slower segments that curve to the open side.
                count, view = min(count, int(rng.integers(8, 20))), VIEW[0]
                command[:3] *= rng.uniform(0.3, 0.8)
                command[3] = _open_side(scene, state.c2w) * rng.uniform(0.6, 1.0) * limits.yaw
            speeds = _follow(velocity, command, rng, count)
            poses, end = integrate(state, _controls(speeds), limits.pitch_limit)
            if _is_clear(scene, poses, view):
                break
        else:
            count = min(count, 20)
            turn = _open_side(scene, state.c2w) * rng.uniform(0.5, 1.0) * limits.yaw
            speeds = np.tile([0.0, 0.0, 0.0, turn, 0.0], (count, 1))
            poses, end = integrate(state, _controls(speeds), limits.pitch_limit)
        state, velocity = end, speeds[-1]
        parts.append(poses)
        left -= count
    return np.concatenate(parts)


def _command(rng: np.random.Generator, state: CameraState, limits: MotionLimits) -> Array:
    """Velocity (forward, right, down, yaw, pitch) to hold, within the limits."""
    scale = np.array([limits.forward, limits.right, limits.down, limits.yaw, limits.pitch])
    kind = rng.random()
    if kind < 0.04:
        return np.zeros(5)
    if kind < 0.16:
        return scale * rng.uniform(-1, 1, 5)
    speed = rng.uniform(0.35, 1.0, 5)
    speed[rng.random(5) < 0.25] = 1.0
    # Probability of moving forwards, sideways and vertically, of turning and of pitching.
    used = rng.random(5) < (0.85, 0.25, 0.12, 0.6, 0.25)
    sign = np.where(rng.random(5) < (0.88, 0.5, 0.5, 0.5, 0.5), 1.0, -1.0)
    # Height and pitch return towards zero more often than not.
    if rng.random() < 0.7:
        sign[2] = -math.copysign(1.0, state.c2w[1, 3])
        sign[4] = -math.copysign(1.0, state.pitch)
    return scale * speed * used * sign


def _follow(velocity: Array, command: Array, rng: np.random.Generator, count: int) -> Array:
    """Velocities [count, 5] on the way from `velocity` to `command`: at once, or exponentially."""
    remaining = 0.0 if rng.random() < 0.4 else rng.uniform(0.6, 0.9)
    decay = remaining ** np.arange(1, count + 1)
    return command + (velocity - command) * decay[:, None]


def _controls(speeds: Array) -> Controls:
    forward, right, down, yaw, pitch = speeds.T
    return Controls(forward, right, down, yaw, pitch, np.zeros(len(speeds)))


def _is_clear(scene: Scene, poses: Array, view: float) -> bool:
    positions = poses[:, :3, 3]
    if np.abs(positions[:, 1]).max() > HEIGHT_RANGE:
        return False
    if not free_space(scene, positions, MARGIN).all():
        return False
    ahead = poses[::-4]
    return bool(cast(scene, ahead[:, :3, 3], ahead[:, :3, 2]).min() > view)


def _open_side(scene: Scene, c2w: Array) -> float:
    """+1 where there is more room to the right, -1 to the left."""
    heading = np.array([c2w[:3, 2] + side * c2w[:3, 0] for side in (-1.0, 1.0)])
    left, right = cast(scene, np.repeat(c2w[None, :3, 3], 2, axis=0), heading)
    return 1.0 if right > left else -1.0
