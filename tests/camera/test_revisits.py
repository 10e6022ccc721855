"""Revisit pairs: those that qualify, best first, apart from each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.se3 import from_rotation_translation


def path(seed: int, frames: int, step: float, turn_deg: float):
    rng = np.random.default_rng(seed)
    centres = np.cumsum(rng.normal(0, step, (frames, 3)), axis=0)
    yaw_pitch = np.cumsum(rng.normal(0, turn_deg, (frames, 2)), axis=0)
    rotations = Rotation.from_euler("YX", yaw_pitch, degrees=True).as_matrix()
    return from_rotation_translation(rotations, centres)


def qualifying(c2w, fps):
    """Every pair by the definition, one at a time."""
    pairs = {}
    for a in range(len(c2w)):
        for b in range(a + 1, len(c2w)):
            distance = np.linalg.norm(c2w[a, :3, 3] - c2w[b, :3, 3])
            turn = Rotation.from_matrix(c2w[a, :3, :3].T @ c2w[b, :3, :3])
            angle = np.rad2deg(turn.magnitude())
            if (b - a) / fps >= 5 and distance < 0.5 and angle < 20:
                pairs[a, b] = distance / 0.5 + angle / 20
    return pairs


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.floats(0.01, 0.4), st.floats(0.1, 15))
def test_agrees_with_the_definition(seed, frames, step, turn_deg):
    fps = 2.0
    c2w = path(seed, frames, step, turn_deg)
    expected = qualifying(c2w, fps)
    pairs = find_revisits(c2w, fps)
    for pair in pairs:
        assert expected[pair.frame_a, pair.frame_b] == pytest.approx(pair.quality, abs=1e-6)
        assert pair.distance_m < 0.5
        assert pair.angle_deg < 20
        assert pair.frame_b - pair.frame_a >= 5 * fps
    qualities = [pair.quality for pair in pairs]
    assert qualities == sorted(qualities)

    def crowded(a, b, c, d):
        return abs(a - c) < fps or abs(b - d) < fps

    chosen = [(pair.frame_a, pair.frame_b) for pair in pairs]
    for i, one in enumerate(chosen):
        assert not any(crowded(*one, *other) for other in chosen[:i])
    # Greedy: whatever was left out is crowded by a pair at least as good.
    for (a, b), quality in expected.items():
        assert any(
            crowded(a, b, p.frame_a, p.frame_b) and p.quality <= quality + 1e-9 for p in pairs
        )


def still(frames: int):
    return np.tile(np.eye(4), (frames, 1, 1))


def test_a_still_camera_revisits_itself_in_frame_order():
    pairs = find_revisits(still(161), 16.0)
    assert [(p.frame_a, p.frame_b) for p in pairs] == [(16 * k, 80 + 16 * k) for k in range(6)]
    assert all(p.quality == 0 for p in pairs)


def test_both_inequalities_are_strict():
    c2w = still(2)
    c2w[1, 2, 3] = 0.5
    assert find_revisits(c2w, 0.2) == ()
    c2w[1, 2, 3] = np.nextafter(0.5, 0)
    assert len(find_revisits(c2w, 0.2)) == 1
    turned = still(2)
    turned[1, :3, :3] = Rotation.from_euler("Y", 20 + 1e-9, degrees=True).as_matrix()
    assert find_revisits(turned, 0.2) == ()
    turned[1, :3, :3] = Rotation.from_euler("Y", 20 - 1e-9, degrees=True).as_matrix()
    assert len(find_revisits(turned, 0.2)) == 1


def test_five_seconds_exactly_is_long_enough():
    assert len(find_revisits(still(81), 16.0)) == 1
    assert find_revisits(still(80), 16.0) == ()


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="shape"):
        find_revisits(np.eye(4), 16.0)
    with pytest.raises(ValueError, match="fps"):
        find_revisits(still(3), 0.0)
    broken = still(3)
    broken[1, :3, :3] *= 2
    with pytest.raises(ValueError, match="c2w frame 1"):
        find_revisits(broken, 16.0)
