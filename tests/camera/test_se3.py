"""Laws of rigid transforms."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera import geodesic_angle, invert, relative_to_first
from sana_wm_gym.camera.se3 import (
    from_rotation_translation,
    rotation_x,
    rotation_y,
    rotation_z,
)

Array = npt.NDArray[np.float64]


@st.composite
def poses(draw: st.DrawFn, count: int = 1) -> Array:
    vectors = draw(arrays(np.float64, (count, 6), elements=st.floats(-10, 10, width=32)))
    return from_rotation_translation(
        Rotation.from_rotvec(vectors[:, :3]).as_matrix(), vectors[:, 3:]
    )


@settings(deadline=None)
@given(poses(3))
def test_group_axioms(pose: Array) -> None:
    a, b, c = pose
    assert np.allclose((a @ b) @ c, a @ (b @ c), atol=1e-9)
    assert np.allclose(invert(a) @ a, np.eye(4), atol=1e-9)
    assert np.allclose(invert(a @ b), invert(b) @ invert(a), atol=1e-9)
    assert np.allclose(invert(pose)[1], invert(b), atol=0)


@settings(deadline=None)
@given(poses(4), poses(1))
def test_relative_poses_do_not_depend_on_the_world(path: Array, world: Array) -> None:
    relative = relative_to_first(path)
    assert (relative[0] == np.eye(4)).all()
    assert np.allclose(relative_to_first(world @ path), relative, atol=1e-9)
    assert np.allclose(path[0] @ relative, path, atol=1e-9)


@settings(deadline=None)
@given(
    arrays(np.float64, 3, elements=st.floats(-1, 1, width=32)).filter(
        lambda axis: np.linalg.norm(axis) > 0.1
    ),
    st.floats(0.0, np.pi),
    poses(1),
)
def test_geodesic_angle_is_the_rotation_angle(axis: Array, angle: float, frame: Array) -> None:
    rotation = Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix()
    base = frame[0, :3, :3]
    assert abs(geodesic_angle(base, base @ rotation) - angle) < 1e-9
    assert abs(geodesic_angle(base @ rotation, base) - angle) < 1e-9


def test_geodesic_angle_keeps_its_digits_near_zero() -> None:
    # An arccosine of the trace would give 0 here.
    assert abs(geodesic_angle(np.eye(3), rotation_y(1e-9)) / 1e-9 - 1) < 1e-6


def test_positive_angles_turn_the_view_right_up_and_clockwise() -> None:
    ahead, down = np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 0.0])
    assert (rotation_y(0.1) @ ahead)[0] > 0
    assert (rotation_x(0.1) @ ahead)[1] < 0
    # The camera's own down axis swings to its left, as a head does that tips right.
    assert (rotation_z(0.1) @ down)[0] < 0
