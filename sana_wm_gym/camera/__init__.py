"""Cameras: actions to controls, controls to poses, poses to what the generator reads.

The benchmark's paths are in `synthesis` and `templates`, pairs of like views in `revisits`.
"""

from sana_wm_gym.camera.action_string import parse_action_string, rollout_action_string
from sana_wm_gym.camera.controls import TWIST_NAMES, Controls, MotionLimits, twist_to_controls
from sana_wm_gym.camera.image import (
    centre_crop,
    check_lens,
    crop_image,
    crop_intrinsics,
    intrinsics_per_frame,
    snap_num_frames,
)
from sana_wm_gym.camera.keys import (
    CONTROL_NAMES,
    DISCRETE_ACTIONS,
    KEY_MAPS,
    SANA_WM_2026_05,
    SANA_WM_2026_06,
    KeyMap,
    KeyState,
    Smoothing,
    discrete_to_held,
    keys_to_controls,
    pressed_to_held,
)
from sana_wm_gym.camera.rays import (
    LatentCameras,
    invert_ray_matrices,
    latent_cameras,
    latent_intrinsics,
    next_latent_cameras,
    plucker,
    plucker_windows,
    pose_vectors,
    ray_matrices,
    round_to_bfloat16,
)
from sana_wm_gym.camera.se3 import geodesic_angle, invert, relative_to_first
from sana_wm_gym.camera.trajectory import (
    CameraState,
    CameraTrajectory,
    integrate,
    rollout,
)

__all__ = [
    "CONTROL_NAMES",
    "DISCRETE_ACTIONS",
    "KEY_MAPS",
    "SANA_WM_2026_05",
    "SANA_WM_2026_06",
    "TWIST_NAMES",
    "CameraState",
    "CameraTrajectory",
    "Controls",
    "KeyMap",
    "KeyState",
    "LatentCameras",
    "MotionLimits",
    "Smoothing",
    "centre_crop",
    "check_lens",
    "crop_image",
    "crop_intrinsics",
    "discrete_to_held",
    "geodesic_angle",
    "integrate",
    "intrinsics_per_frame",
    "invert",
    "invert_ray_matrices",
    "keys_to_controls",
    "latent_cameras",
    "latent_intrinsics",
    "next_latent_cameras",
    "parse_action_string",
    "plucker",
    "plucker_windows",
    "pose_vectors",
    "pressed_to_held",
    "ray_matrices",
    "relative_to_first",
    "rollout",
    "rollout_action_string",
    "round_to_bfloat16",
    "snap_num_frames",
    "twist_to_controls",
]
