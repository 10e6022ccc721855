"""Walks stay in free space, inside their limits, and show motion a tracker can follow."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import free_space, generate_scene
from sana_wm_gym.world.procedural.walks import HEIGHT_RANGE, MARGIN, sample_walk

Array = npt.NDArray[np.float64]

SLOW = MotionLimits(0.02, 0.01, 0.005, math.radians(0.6), math.radians(0.3), math.radians(6))
FRAMES = 960


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limits", [WALK_LIMITS, SLOW])
def test_long_walks_stay_in_free_space_and_within_limits(seed: int, limits: MotionLimits) -> None:
    scene = generate_scene(seed)
    c2w = sample_walk(scene, np.random.default_rng(seed), FRAMES, limits)
    assert c2w.shape == (FRAMES + 1, 4, 4)
    position, heading = c2w[:, :3, 3], c2w[:, :3, 2]
    assert free_space(scene, position, MARGIN).all()
    assert np.abs(position[:, 1]).max() <= HEIGHT_RANGE

    step = np.diff(position, axis=0)
    right = c2w[1:, :3, 0]
    ahead = np.cross(right, [0.0, 1.0, 0.0])
    assert np.abs((step * ahead).sum(-1)).max() <= limits.forward + 1e-9
    assert np.abs((step * right).sum(-1)).max() <= limits.right + 1e-9
    assert np.abs(step[:, 1]).max() <= limits.down + 1e-9

    # Upright: the camera's x axis stays horizontal.
    np.testing.assert_allclose(c2w[:, 1, 0], 0, atol=1e-9)
    yaw = np.unwrap(np.arctan2(heading[:, 0], heading[:, 2]))
    pitch = -np.arcsin(heading[:, 1])
    assert np.abs(np.diff(yaw)).max() <= limits.yaw + 1e-9
    assert np.abs(np.diff(pitch)).max() <= limits.pitch + 1e-9
    assert np.abs(pitch).max() <= limits.pitch_limit + 1e-9


def test_walks_go_somewhere() -> None:
    walks = [sample_walk(generate_scene(s), np.random.default_rng(s), FRAMES) for s in range(6)]
    steps = np.stack([np.linalg.norm(np.diff(w[:, :3, 3], axis=0), axis=-1) for w in walks])
    assert (steps > 0.005).mean() > 0.6
    assert min(np.ptp(w[:, :3, 3], axis=0)[[0, 2]].max() for w in walks) > 1.5
    turned = [np.ptp(np.unwrap(np.arctan2(w[:, 0, 2], w[:, 2, 2]))) for w in walks]
    assert min(turned) > math.pi


def test_walk_is_a_function_of_its_generator() -> None:
    scene = generate_scene(1)
    first, again, other = (sample_walk(scene, np.random.default_rng(s), 48) for s in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_walk_of_no_steps_is_its_start_and_fewer_are_refused() -> None:
    scene = generate_scene(1)
    assert sample_walk(scene, np.random.default_rng(0), 0).shape == (1, 4, 4)
    with pytest.raises(ValueError, match="frames is -1"):
        sample_walk(scene, np.random.default_rng(0), -1)


def test_corners_survive_half_a_second() -> None:
    # 128 px is the least resolution at which pose scores rank worlds. At 64 px the median is 50:
    # patterns are as large as the embedded world can learn (docs/embedded_world.md).
    survivors = []
    for seed in range(4):
        scene = generate_scene(seed)
        walk = sample_walk(scene, np.random.default_rng(seed), 240)
        frames = render(scene, walk, size=(128, 128))
        grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
        for at in range(0, 232, 24):
            start = cv2.goodFeaturesToTrack(grey[at], 200, 0.005, 2)
            points = start
            steps = [(k, k + 1) for k in range(at, at + 8)]
            for old, new in steps + [(new, old) for old, new in reversed(steps)]:
                points, _, _ = cv2.calcOpticalFlowPyrLK(
                    grey[old], grey[new], points, np.empty(0), winSize=(9, 9), maxLevel=2
                )
            survivors.append((np.linalg.norm(points - start, axis=-1) < 0.5).sum())
    assert np.median(survivors) >= 60
