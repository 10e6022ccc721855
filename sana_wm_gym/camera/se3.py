"""Rigid transforms as 4x4 matrices.

Conventions of the whole package: OpenCV camera axes (x right, y down, z forward), poses are
camera-to-world (c2w), angles are radians. Every function takes any leading batch axes.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def rotation_x(angle: float) -> Array:
    """Rotation about x, [3, 3]; a positive angle turns a camera's view up (y points down)."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])


def rotation_y(angle: float) -> Array:
    """Rotation about y, [3, 3]; a positive angle turns a camera's view right."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])


def rotation_z(angle: float) -> Array:
    """Rotation about z, [3, 3]; a positive angle tips a camera clockwise as seen from behind."""
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])


def from_rotation_translation(
    rotation: npt.NDArray[np.floating], translation: npt.NDArray[np.floating]
) -> Array:
    """Pose [..., 4, 4] with the given rotation [..., 3, 3] and translation [..., 3]."""
    batch = np.broadcast_shapes(rotation.shape[:-2], translation.shape[:-1])
    pose = np.zeros((*batch, 4, 4))
    pose[..., :3, :3] = rotation
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1.0
    return pose


def invert(pose: Array) -> Array:
    """Inverse of rigid transforms [..., 4, 4]: (R, t) becomes (R', -R't)."""
    rotation = np.swapaxes(pose[..., :3, :3], -1, -2)
    return from_rotation_translation(rotation, -(rotation @ pose[..., :3, 3, None])[..., 0])


def relative_to_first(c2w: Array) -> Array:
    """Poses [..., F, 4, 4] in the camera frame of pose 0; the first is exactly the identity.

    Source: SANA-WM conditions on camera poses relative to the first frame, without any scale
    normalisation (arXiv 2605.15178).
    """
    relative = invert(c2w[..., :1, :, :]) @ c2w
    relative[..., 0, :, :] = np.eye(4)
    return relative


def nearest_rotation(matrix: npt.NDArray[np.floating]) -> Array:
    """Proper rotations closest to [..., 3, 3] matrices in Frobenius norm."""
    u, _, vt = np.linalg.svd(matrix)
    sign = np.ones(u.shape[:-1])
    sign[..., 2] = np.sign(np.linalg.det(u @ vt))
    return np.asarray((u * sign[..., None, :]) @ vt)


def geodesic_angle(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> Array:
    """Angle of the rotation between `a` and `b` [..., 3, 3], radians in [0, pi], shape [...].

    Uses atan2 of the sine and cosine of the angle, which stays accurate near 0 and near pi where
    an arccosine of the trace loses half of its digits.
    """
    difference = np.swapaxes(a, -1, -2).astype(np.float64) @ b
    trace = np.trace(difference, axis1=-2, axis2=-1)
    skew = difference - np.swapaxes(difference, -1, -2)
    sine = np.linalg.norm(
        np.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], axis=-1), axis=-1
    )
    return np.asarray(np.arctan2(sine, trace - 1.0))
