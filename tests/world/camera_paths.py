"""Cameras that tests move along."""

from __future__ import annotations

import numpy as np

from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.world.world_model import WorldSpec


def poses_ahead(frames: range, step: float = 0.02, turn: float = 0.0) -> np.ndarray:
    """Poses of a camera that moves `step` ahead and turns by `turn` in every frame."""
    c2w = np.tile(np.eye(4), (len(frames), 1, 1))
    c2w[:, 2, 3] = step * np.array(frames)
    c2w[:, :3, :3] = [rotation_y(turn * frame) for frame in frames]
    return c2w


def ahead(
    spec: WorldSpec, chunk: int = 0, step: float = 0.02, turn: float = 0.0
) -> CameraTrajectory:
    """The camera of one chunk of a world."""
    first, count = chunk * spec.frames_per_chunk, spec.frames_per_chunk + 1
    poses = poses_ahead(range(first, first + count), step, turn)
    return CameraTrajectory(poses, np.array(spec.intrinsics), *spec.size[::-1])
