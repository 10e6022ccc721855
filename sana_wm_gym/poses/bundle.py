"""Bundle adjustment: cameras and points that explain all tracks at once.

Gauss-Newton with Levenberg damping and Huber weights. Points are eliminated with the Schur
complement, which leaves a dense system of six unknowns per camera. With known cameras the same
derivatives refine points alone, with known points a camera alone.

Source: Triggs et al., "Bundle Adjustment - A Modern Synthesis", 1999.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.spatial.transform import Rotation

from sana_wm_gym.poses.protocol import Intrinsics

Array = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]

HUBER_PX = 0.5
_MIN_DEPTH = 1e-6
_BATCH = 256  # points eliminated per matrix product


@dataclass(frozen=True)
class Cameras:
    """World-to-camera poses: x_camera = R x + t, with R [..., 3, 3] and t [..., 3]."""

    rotations: Array
    translations: Array

    def __getitem__(self, index: Any) -> Cameras:
        return Cameras(self.rotations[index], self.translations[index])

    def __setitem__(self, index: Any, cameras: Cameras) -> None:
        self.rotations[index], self.translations[index] = cameras.rotations, cameras.translations

    def __len__(self) -> int:
        return len(self.rotations)

    def moved(self, twist: Array) -> Cameras:
        """Turned from the left by rotation vectors and shifted, [..., 6]."""
        return Cameras(turn(self.rotations, twist[..., :3]), self.translations + twist[..., 3:])


@dataclass(frozen=True)
class Observations:
    """Image points: camera index [m], point index [m], pixels [m, 2], sorted by point, and the
    (fx, fy, cx, cy) in pixels of all cameras."""

    camera: Index
    point: Index
    xy: Array
    intrinsics: Intrinsics

    @staticmethod
    def of(xy: Array, intrinsics: Intrinsics) -> Observations:
        """From tracks [cameras, points, 2] with NaN where unseen."""
        point, camera = np.nonzero(np.isfinite(xy[..., 0]).T)
        return Observations(camera, point, xy[camera, point], intrinsics)

    def residuals(self, cameras: Cameras, points: Array) -> tuple[Array, Array]:
        """Reprojection errors in pixels [m, 2] and camera-frame points [m, 3]."""
        pixels, local = project(cameras[self.camera], points[self.point], self.intrinsics)
        return pixels - self.xy, local

    @property
    def starts(self) -> Index:
        """Where the observations of each point begin; every point has one."""
        return np.searchsorted(self.point, np.arange(self.point[-1] + 1))


def project(cameras: Cameras, points: Array, intrinsics: Intrinsics) -> tuple[Array, Array]:
    """Pixels [..., 2] and camera-frame points [..., 3] of world points [..., 3]."""
    local = np.einsum("...ij,...j->...i", cameras.rotations, points) + cameras.translations
    fx, fy, cx, cy = intrinsics
    depth = np.where(np.abs(local[..., 2]) < _MIN_DEPTH, _MIN_DEPTH, local[..., 2])
    u = fx * local[..., 0] / depth + cx
    v = fy * local[..., 1] / depth + cy
    return np.stack([u, v], axis=-1), local


def turn(rotation: Array, twist: Array) -> Array:
    """Apply left rotation vectors [..., 3] to rotations [..., 3, 3]."""
    return np.asarray(Rotation.from_rotvec(twist).as_matrix() @ rotation)


def _image_jacobian(local: Array, intrinsics: Intrinsics) -> Array:
    """Derivative of pixels by the camera-frame point, [..., 2, 3]."""
    fx, fy, _, _ = intrinsics
    x, y, z = np.moveaxis(local, -1, 0)
    z = np.where(np.abs(z) < _MIN_DEPTH, _MIN_DEPTH, z)
    jacobian = np.zeros((*local.shape[:-1], 2, 3))
    jacobian[..., 0, 0] = fx / z
    jacobian[..., 0, 2] = -fx * x / z**2
    jacobian[..., 1, 1] = fy / z
    jacobian[..., 1, 2] = -fy * y / z**2
    return jacobian


def _pose_jacobian(image: Array, rotated: Array) -> Array:
    """Derivative by a left twist (rotation about the world origin's image, translation),
    [..., 2, 6]: a turn w moves the camera-frame point by w x (R x)."""
    x, y, z = np.moveaxis(rotated, -1, 0)
    zero = np.zeros_like(x)
    # Column k is e_k x rotated.
    cross = np.stack([zero, z, -y, -z, zero, x, y, -x, zero], axis=-1).reshape(*x.shape, 3, 3)
    return np.concatenate([image @ cross, image], axis=-1)


def _huber(residual: Array) -> tuple[Array, float]:
    """Square-root weights [m] and total Huber cost of residuals [m, 2]."""
    length = np.linalg.norm(residual, axis=-1)
    weight = np.minimum(1.0, HUBER_PX / np.maximum(length, 1e-12))
    cost = np.where(length <= HUBER_PX, 0.5 * length**2, HUBER_PX * (length - 0.5 * HUBER_PX))
    return np.sqrt(weight), float(np.sum(cost))


def adjust_pose(
    camera: Cameras, points: Array, xy: Array, intrinsics: Intrinsics, iterations: int = 15
) -> Cameras:
    """Pose of one camera that sees known points [m, 3] at pixels [m, 2], from a nearby pose."""
    damping = 1e-4
    pixels, local = project(camera, points, intrinsics)
    weight, cost = _huber(pixels - xy)
    for _ in range(iterations):
        jacobian = _pose_jacobian(_image_jacobian(local, intrinsics), local - camera.translations)
        jacobian = (jacobian * weight[:, None, None]).reshape(-1, 6)
        residual = ((pixels - xy) * weight[:, None]).ravel()
        hessian = jacobian.T @ jacobian
        hessian[np.diag_indices(6)] *= 1 + damping
        step = -np.linalg.solve(hessian + 1e-12 * np.eye(6), jacobian.T @ residual)
        candidate = camera.moved(np.asarray(step))
        pixels_new, local_new = project(candidate, points, intrinsics)
        weight_new, cost_new = _huber(pixels_new - xy)
        if cost_new > cost:
            damping *= 10
            continue
        converged = cost - cost_new < 1e-6 * cost
        camera, damping = candidate, damping / 5
        pixels, local, weight, cost = pixels_new, local_new, weight_new, cost_new
        if converged:
            break
    return camera


def adjust_points(
    cameras: Cameras, points: Array, observed: Observations, iterations: int = 4
) -> Array:
    """Points [p, 3] refined under known cameras."""
    starts, rotation = observed.starts, cameras.rotations[observed.camera]
    for _ in range(iterations):
        residual, local = observed.residuals(cameras, points)
        weight, _ = _huber(residual)
        jacobian = _image_jacobian(local, observed.intrinsics) @ rotation * weight[:, None, None]
        block = np.add.reduceat(np.einsum("mki,mkj->mij", jacobian, jacobian), starts)
        gradient = np.add.reduceat(
            np.einsum("mki,mk->mi", jacobian, residual * weight[:, None]), starts
        )
        block += 1e-3 * block.trace(axis1=1, axis2=2)[:, None, None] / 3 * np.eye(3)
        points = points - np.linalg.solve(block, gradient[..., None])[..., 0]
    return points


def bundle_adjust(
    cameras: Cameras,
    points: Array,
    observed: Observations,
    fixed_camera: int,
    iterations: int,
    tolerance: float = 1e-4,
) -> tuple[Cameras, Array]:
    """Move all cameras but one, and all points, to the least Huber cost.

    Args:
        cameras: c of them.
        points: World points [p, 3]; each needs at least two observations.
        observed: Image points.
        fixed_camera: Index of the camera that stays put. Scale is held by the damping alone.
        iterations: Most accepted or refused steps.
        tolerance: Stop when a step lowers the cost by a smaller fraction.
    """
    damping, free = 1e-3, np.delete(np.arange(len(cameras)), fixed_camera)
    system: tuple[Array, ...] | None = None
    cost = _cost(cameras, points, observed)
    for _ in range(iterations):
        if system is None:
            system = _normal_equations(cameras, points, observed)
        try:
            pose_step, point_step = _damped_step(system, observed, damping, free)
        except np.linalg.LinAlgError:  # not positive definite to rounding: damp more
            new_cost = np.inf
        else:
            candidate = cameras.moved(pose_step), points + point_step
            new_cost = _cost(*candidate, observed)
        if not new_cost < cost:
            damping *= 8
            if damping > 1e6:
                break
            continue
        gained, cost = cost - new_cost, new_cost
        cameras, points = candidate
        damping, system = damping / 8, None
        if gained < tolerance * cost:
            break
    return cameras, points


def _cost(cameras: Cameras, points: Array, observed: Observations) -> float:
    residual, local = observed.residuals(cameras, points)
    if (local[:, 2] <= 0).any():
        return np.inf  # a point has passed behind a camera that observes it
    return _huber(residual)[1]


def _normal_equations(cameras: Cameras, points: Array, observed: Observations) -> tuple[Array, ...]:
    """Camera blocks [c, 6, 6], point blocks [p, 3, 3], cross blocks [m, 6, 3], and the two
    gradients [c, 6] and [p, 3]."""
    camera, starts = observed.camera, observed.starts
    residual, local = observed.residuals(cameras, points)
    weight, _ = _huber(residual)
    image = _image_jacobian(local, observed.intrinsics) * weight[:, None, None]
    by_pose = _pose_jacobian(image, local - cameras.translations[camera])
    by_point = image @ cameras.rotations[camera]
    residual = residual * weight[:, None]

    order = np.argsort(camera, kind="stable")
    bounds = np.searchsorted(camera[order], np.arange(len(cameras) + 1))
    pose_block, pose_gradient = np.zeros((len(cameras), 6, 6)), np.zeros((len(cameras), 6))
    for index, (low, high) in enumerate(zip(bounds, bounds[1:], strict=False)):
        rows = order[low:high]
        jacobian = by_pose[rows].reshape(-1, 6)
        pose_block[index] = jacobian.T @ jacobian
        pose_gradient[index] = jacobian.T @ residual[rows].ravel()

    transposed = by_point.transpose(0, 2, 1)
    point_block = np.add.reduceat(transposed @ by_point, starts)
    point_gradient = np.add.reduceat((transposed @ residual[..., None])[..., 0], starts)
    cross = by_pose.transpose(0, 2, 1) @ by_point
    return pose_block, point_block, cross, pose_gradient, point_gradient


def _damped_step(
    system: tuple[Array, ...], observed: Observations, damping: float, free: Index
) -> tuple[Array, Array]:
    """Solve the damped normal equations for all cameras [c, 6] and points [p, 3]."""
    pose_block, point_block, cross, pose_gradient, point_gradient = system
    n_cameras, n_points = len(pose_block), len(point_block)
    point_block = point_block.copy()
    diagonal = np.arange(3)
    point_block[:, diagonal, diagonal] *= 1 + damping
    point_block[:, diagonal, diagonal] += 1e-12
    # With V = L L', W V^-1 W' = (W L'^-1)(W L'^-1)': one triangular factor per point.
    inverse_factor = np.linalg.inv(np.linalg.cholesky(point_block))
    half_gradient = np.einsum("pij,pj->pi", inverse_factor, point_gradient)
    half_cross = cross @ inverse_factor[observed.point].transpose(0, 2, 1)

    reduced = np.zeros((n_cameras, 6, n_cameras, 6))
    right = -pose_gradient.copy()
    starts = np.append(observed.starts, len(observed.point))
    for low in range(0, n_points, _BATCH):
        high = min(low + _BATCH, n_points)
        rows = slice(starts[low], starts[high])
        camera, point = observed.camera[rows], observed.point[rows] - low
        # Neighbouring tracks live in neighbouring frames; the rest of the rows are zero.
        first, last = camera.min(), camera.max() + 1
        dense = np.zeros((last - first, 6, high - low, 3))
        dense[camera - first, :, point] = half_cross[rows]
        matrix = dense.reshape(6 * (last - first), -1)
        reduced[first:last, :, first:last] -= (matrix @ matrix.T).reshape(
            last - first, 6, last - first, 6
        )
        right[first:last] += (matrix @ half_gradient[low:high].ravel()).reshape(-1, 6)
    for index in range(n_cameras):
        damped = pose_block[index] + damping * np.diag(np.diag(pose_block[index]))
        reduced[index, :, index] += damped + 1e-12 * np.eye(6)

    size = 6 * len(free)
    matrix = reduced[free][:, :, free].reshape(size, size)
    pose_step = np.zeros((n_cameras, 6))
    pose_step[free] = cho_solve(cho_factor(matrix), right[free].ravel()).reshape(-1, 6)

    moved = np.einsum("mij,mi->mj", half_cross, pose_step[observed.camera])
    moved = np.add.reduceat(moved, starts[:-1])
    point_step = -np.einsum("pji,pj->pi", inverse_factor, half_gradient + moved)
    return pose_step, point_step
