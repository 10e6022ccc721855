"""From controls to camera poses: one float64 integrator, and the trajectory it makes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.se3 import rotation_x, rotation_y, rotation_z
from sana_wm_gym.checks import require_integer, require_number

Array = npt.NDArray[np.float64]

PITCH_LIMIT = math.radians(60.0)
"""SANA-WM's bound on accumulated pitch, radians."""

# SANA-WM divides horizontal directions by (norm + this), so a step is a hair under its speed.
_DIRECTION_EPS = 1e-6
_ORTHONORMAL_TOLERANCE = 1e-4
_ROUNDED = 0.05  # poses written with one or more decimals are off by less


@dataclass(frozen=True, eq=False)
class CameraState:
    """The integrator's state: where the camera is. The default is the first frame of a rollout.

    Attributes:
        c2w: Camera-to-world pose relative to the rollout's first frame, float64 [4, 4].
        pitch: Accumulated pitch, radians, positive upwards.
        roll: Accumulated roll, radians, positive clockwise.

    Raises:
        ValueError: `c2w` is not a rigid transform, or an angle is not finite.
    """

    c2w: Array = field(default_factory=lambda: np.eye(4))
    pitch: float = 0.0
    roll: float = 0.0

    def __post_init__(self) -> None:
        c2w = np.array(self.c2w, dtype=np.float64)
        check_rigid(c2w[None], "CameraState.c2w")
        c2w.setflags(write=False)
        object.__setattr__(self, "c2w", c2w)
        for name in ("pitch", "roll"):
            require_number(f"CameraState.{name}", getattr(self, name))


def integrate(
    state: CameraState, controls: Controls, pitch_limit: float = PITCH_LIMIT
) -> tuple[Array, CameraState]:
    """Move the camera through `controls`.

    Each frame turns first and then walks: yaw about the world vertical, pitch about the camera's
    x axis, translation along the new heading in the horizontal plane. Pitch is clamped to
    `pitch_limit`. Moving down and rolling are additions of this package and leave every other
    frame's bits alone; roll tips the image without changing heading or pitch.

    Args:
        state: Camera before the first frame.
        controls: Motion of n frames.
        pitch_limit: Bound on the accumulated pitch, radians.

    Returns:
        Poses after each frame, float64 [n, 4, 4], and the state after the last.

    Source: the camera control of SANA-WM's released inference script.
    """
    c2w = np.array(state.c2w)
    pitch, roll = state.pitch, state.roll
    poses = np.zeros((len(controls), 4, 4))
    for frame in range(len(controls)):
        clamped = min(max(pitch + controls.pitch[frame], -pitch_limit), pitch_limit)
        tilt, pitch = clamped - pitch, clamped
        upright = c2w[:3, :3] @ rotation_z(-roll)
        upright = rotation_y(controls.yaw[frame]) @ upright @ rotation_x(tilt)
        roll = roll + controls.roll[frame]
        step = _horizontal(upright[:, 2]) * controls.forward[frame]
        step = step + _horizontal(upright[:, 0]) * controls.right[frame]
        step[1] += controls.down[frame]
        c2w[:3, :3] = upright @ rotation_z(roll)
        c2w[:3, 3] += step
        poses[frame] = c2w
    return poses, CameraState(c2w, float(pitch), float(roll))


def rollout(controls: Controls, pitch_limit: float = PITCH_LIMIT) -> Array:
    """Poses [n + 1, 4, 4] of a camera that starts at the identity and follows `controls`."""
    poses, _ = integrate(CameraState(), controls, pitch_limit)
    return np.concatenate([np.eye(4)[None], poses])


def _horizontal(direction: Array) -> Array:
    flat = direction * np.array([1.0, 0.0, 1.0])
    norm = float(np.linalg.norm(flat))
    return np.asarray(flat / (norm + _DIRECTION_EPS)) if norm > 0.0 else flat


@dataclass(frozen=True, eq=False)
class CameraTrajectory:
    """Where a camera was in each frame, and how it projects.

    Arrays are stored as read-only float64 copies.

    Attributes:
        c2w: Camera-to-world poses, [n, 4, 4], OpenCV axes, metres.
        intrinsics: (fx, fy, cx, cy) per frame in pixels of a `width` x `height` image, [n, 4];
            a single [4] is repeated for all frames.
        width: Image width in pixels.
        height: Image height in pixels.

    Raises:
        ValueError: Wrong shapes, intrinsics that `check_intrinsics` refuses, or a pose that is
            not a rigid transform (the first such frame is named).
    """

    c2w: Array
    intrinsics: Array
    width: int
    height: int

    def __post_init__(self) -> None:
        c2w = np.array(self.c2w, dtype=np.float64)
        check_rigid(c2w, "c2w")
        require_integer("number of poses", len(c2w), 1)
        intrinsics = np.array(self.intrinsics, dtype=np.float64)
        if intrinsics.shape == (4,):
            intrinsics = np.tile(intrinsics, (len(c2w), 1))
        if intrinsics.shape != (len(c2w), 4):
            raise ValueError(
                f"intrinsics have shape {intrinsics.shape}, expected ({len(c2w)}, 4) or (4,)"
            )
        check_intrinsics(intrinsics)
        for side in ("width", "height"):
            require_integer(side, getattr(self, side), 1)
        for name, values in (("c2w", c2w), ("intrinsics", intrinsics)):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.c2w)

    def __getitem__(self, frames: slice) -> CameraTrajectory:
        return CameraTrajectory(self.c2w[frames], self.intrinsics[frames], self.width, self.height)


def check_rigid(c2w: Array, name: str) -> None:
    """Check that [n, 4, 4] matrices are rigid transforms, to 1e-4.

    Raises:
        ValueError: Another shape; or names the first frame that is not rigid, and why.
    """
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4):
        raise ValueError(f"{name} has shape {c2w.shape}, expected (n, 4, 4)")
    with np.errstate(invalid="ignore", over="ignore"):
        rotation = c2w[:, :3, :3]
        gram = rotation @ np.swapaxes(rotation, -1, -2)
        off = np.abs(gram - np.eye(3)).max(axis=(1, 2))
        faults = {
            "has values that are not finite": ~np.isfinite(c2w).all(axis=(1, 2)),
            "has a last row other than (0, 0, 0, 1)": (c2w[:, 3] != (0, 0, 0, 1)).any(axis=1),
            "has a rotation part that is not orthonormal": ~(off <= _ORTHONORMAL_TOLERANCE),
            "is a reflection (negative determinant)": np.linalg.det(rotation) < 0,
        }
    bad = np.stack(list(faults.values()))
    if bad.any():
        frame = int(np.flatnonzero(bad.any(axis=0))[0])
        fault = list(faults)[int(np.flatnonzero(bad[:, frame])[0])]
        hint = ""
        if "orthonormal" in fault and off[frame] < _ROUNDED:
            hint = "; se3.nearest_rotation makes rounded rotation parts orthonormal again"
        raise ValueError(
            f"{name} frame {frame} {fault}; expected a rigid camera-to-world transform{hint}, "
            f"given\n{c2w[frame]}"
        )


def check_intrinsics(intrinsics: Array) -> None:
    """Check [n, 4] rows (fx, fy, cx, cy).

    Raises:
        ValueError: Names the first frame with a value that is not finite or a focal length <= 0.
    """
    good = np.isfinite(intrinsics).all(axis=1) & (intrinsics[:, :2] > 0).all(axis=1)
    if not good.all():
        frame = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"intrinsics of frame {frame} are {intrinsics[frame].tolist()}, "
            "expected finite (fx, fy, cx, cy) with positive focal lengths"
        )
