"""Curves: they go where they should, at the pace they should."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.splines import (
    arc_length,
    catmull_rom,
    laplacian_smooth,
    limit_turn,
    resample,
    squad,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "metrics"
CASES = ("waypoints11", "waypoints15", "two_points")

coordinates = st.floats(-5, 5, width=32)
waypoints = st.integers(2, 8).flatmap(
    lambda n: arrays(np.float64, (n, 3), elements=coordinates, unique=True)
)
angles = st.lists(st.tuples(st.floats(-80, 80), st.floats(-60, 60)), min_size=2, max_size=8).map(
    lambda rows: Rotation.from_euler("YX", rows, degrees=True)
)


@pytest.fixture(scope="module")
def golden():
    facts = json.loads((GOLDEN / "trajectory_synthesis.json").read_text())
    with np.load(GOLDEN / "trajectory_synthesis.npz") as arrays_:
        return facts["tolerance"], dict(arrays_)


@pytest.mark.parametrize("case", CASES)
def test_golden(golden, case):
    tolerance, data = golden
    points, yaw_pitch = data[f"{case}__points"], data[f"{case}__yaw_pitch_deg"]
    at = np.arange((len(points) - 1) * 20 + 1) / 20
    curve = catmull_rom(points, at)
    turned = squad(Rotation.from_euler("YX", yaw_pitch, degrees=True), at)
    length = arc_length(curve)
    ours = {
        "catmull_rom": curve,
        "squad_matrix": turned.as_matrix(),
        "clamped_matrix": limit_turn(turned, np.deg2rad(12 / 16)).as_matrix(),
        "laplacian": laplacian_smooth(curve),
        "arclength_97": resample(curve, length, np.linspace(0, length[-1], 97)),
    }
    for name, values in ours.items():
        np.testing.assert_allclose(
            values, data[f"{case}__{name}"], rtol=0, atol=tolerance, err_msg=name
        )


@given(waypoints)
def test_catmull_rom_passes_through_its_waypoints(points):
    assume((np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3).all())
    through = catmull_rom(points, np.arange(len(points), dtype=float))
    np.testing.assert_allclose(through, points, atol=1e-9)


@given(waypoints, st.floats(0.1, 10.0))
def test_catmull_rom_scales_with_its_waypoints(points, scale):
    assume((np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3).all())
    at = np.linspace(0, len(points) - 1, 23)
    np.testing.assert_allclose(
        catmull_rom(scale * points, at), scale * catmull_rom(points, at), atol=1e-8
    )


def test_coincident_neighbours_are_named():
    points = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 0, 0]])
    with pytest.raises(ValueError, match="points 1 and 2 coincide"):
        catmull_rom(points, np.zeros(1))
    with pytest.raises(ValueError, match="n >= 2"):
        catmull_rom(points[:1], np.zeros(1))


@given(angles)
def test_squad_passes_through_its_waypoints(rotations):
    through = squad(rotations, np.arange(len(rotations), dtype=float))
    assert (through.inv() * rotations).magnitude().max() < 1e-7


@given(angles)
def test_squad_does_not_depend_on_the_hemisphere_of_a_quaternion(rotations):
    quaternions = rotations.as_quat()
    quaternions[::2] *= -1
    at = np.linspace(0, len(rotations) - 1, 17)
    flipped = squad(Rotation.from_quat(quaternions), at)
    assert (flipped.inv() * squad(rotations, at)).magnitude().max() < 1e-7


@given(angles, st.floats(0.001, 0.5))
def test_turns_are_limited_and_slow_ones_left_alone(rotations, largest):
    targets = squad(rotations, np.linspace(0, len(rotations) - 1, 40))
    result = limit_turn(targets, largest)
    turns = (result[:-1].inv() * result[1:]).magnitude()
    assert turns.max() <= largest + 1e-9
    turns = (targets[:-1].inv() * targets[1:]).magnitude()
    if turns.max() <= largest:
        assert (result.inv() * targets).magnitude().max() < 1e-9
    assert (result[0].inv() * targets[0]).magnitude() < 1e-12


def test_limited_turns_are_causal_and_arrive_late():
    targets = Rotation.from_euler("Y", [[0], [0], [3], [3], [3], [3]], degrees=True)
    yaw = np.rad2deg(limit_turn(targets, np.deg2rad(1)).as_euler("YXZ")[:, 0])
    np.testing.assert_allclose(yaw, [0, 0, 1, 2, 3, 3], atol=1e-9)


@given(waypoints)
def test_resampling_makes_equal_steps_and_again_changes_nothing(points):
    assume((np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3).all())
    dense = catmull_rom(points, np.linspace(0, len(points) - 1, 2001))
    length = arc_length(dense)
    even = resample(dense, length, np.linspace(0, length[-1], 501))
    again = resample(even, arc_length(even), np.linspace(0, arc_length(even)[-1], 501))
    # Chords across a sharp corner are shorter than the curve: a few steps at most.
    assert np.abs(again - even).max() < 0.05 * length[-1]
    on_curve = length[-1] / 500
    assert np.linalg.norm(np.diff(even, axis=0), axis=1).max() <= on_curve * (1 + 1e-9)
    np.testing.assert_array_equal(even[[0, -1]], dense[[0, -1]])


def test_smoothing_keeps_the_ends_and_straight_lines():
    line = np.linspace(0, 1, 20)[:, None] * [1.0, 2.0, 3.0]
    np.testing.assert_allclose(laplacian_smooth(line), line, atol=1e-12)
    corner = np.array([[0.0, 0, 0]] * 10 + [[0, 0, 1.0]] * 10)
    smooth = laplacian_smooth(corner)
    np.testing.assert_array_equal(smooth[[0, -1]], corner[[0, -1]])
    assert np.abs(np.diff(smooth, n=2, axis=0)).max() < np.abs(np.diff(corner, n=2, axis=0)).max()
    assert (corner == [[0.0, 0, 0]] * 10 + [[0, 0, 1.0]] * 10).all()  # the input is left alone
