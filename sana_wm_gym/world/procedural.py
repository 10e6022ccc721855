"""The procedural world: ground truth that answers cameras with exact renderings."""

from __future__ import annotations

import math

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.world.renderer import default_intrinsics, render, render_depth
from sana_wm_gym.world.scenes import Scene, free_space, generate_scene, sample_pose

__all__ = [
    "WALK_LIMITS",
    "Scene",
    "default_intrinsics",
    "free_space",
    "generate_scene",
    "render",
    "render_depth",
    "sample_pose",
]

WALK_LIMITS = MotionLimits(
    forward=0.05,
    right=0.05,
    down=0.02,
    yaw=math.radians(1.5),
    pitch=math.radians(0.75),
    pitch_limit=math.radians(15.0),
)
"""Walking pace at 16 frames per second: 0.8 m/s and 24 degrees/s."""
