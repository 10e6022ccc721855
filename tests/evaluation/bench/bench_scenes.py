"""Small bench scenes, for the tests of reader and writer."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.revisits import RevisitPair
from sana_wm_gym.camera.se3 import from_rotation_translation, relative_to_first
from sana_wm_gym.evaluation.bench.layout import BenchScene

FRAMES = 12
INTRINSICS = (50.0, 51.0, 12.0, 8.5)


def poses(seed: int, frames: int = FRAMES) -> np.ndarray:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(rng.normal(0, 0.3, (frames, 3))).as_matrix()
    return relative_to_first(from_rotation_translation(turns, rng.normal(0, 1, (frames, 3))))


def scene(number: int, root) -> BenchScene:
    procedural = number % 2 == 0
    return BenchScene(
        id=f"indoor_{number:03d}",
        prompt=f"Raum {number} mit Türen",
        scene_type="indoor",
        trajectory_id="orbit",
        image_path=root,
        camera_path=root,
        image_size=(17, 24),
        c2w=poses(number),
        intrinsics=np.tile(INTRINSICS, (FRAMES, 1)) + np.arange(FRAMES)[:, None],
        fps=16.0,
        revisits=(RevisitPair(1, 9, 0.2, 3.0, 0.55), RevisitPair(0, 10, 0.4, 9.0, math.inf)),
        expected_video_frames=FRAMES - 1,
        trim_to_frames=FRAMES - 1,
        procedural_scene=8 if procedural else None,
        scene_c2w=poses(number + 100)[1] if procedural else None,
        extra={"note": {"any": [1, "thing"]}},
    )


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (17, 24, 3), np.uint8)
