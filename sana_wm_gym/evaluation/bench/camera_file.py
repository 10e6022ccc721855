"""A scene's camera in an npz: c2w [n, 4, 4], intrinsics [n, 3, 3], fps, num_frames."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.image import intrinsics_per_frame
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.evaluation.bench.files import BenchDataError, read_arrays
from sana_wm_gym.files import atomic_path

Array = npt.NDArray[np.float64]


def read_camera(path: Path) -> tuple[Array, Array, float]:
    """Read and check a camera.

    Intrinsics may also be one matrix for all frames, or (fx, fy, cx, cy), per frame or once.

    Returns:
        Poses relative to the first, float64 [n, 4, 4]; (fx, fy, cx, cy) in pixels of the first
        frame, float64 [n, 4]; poses per second.

    Raises:
        BenchDataError: The file is missing or damaged, lacks an array, or an array has another
            shape or values that no camera has.
    """
    arrays = read_arrays(path, ("c2w", "intrinsics", "fps", "num_frames"))
    for key, array in arrays.items():
        if array.dtype.kind not in "iuf":
            raise BenchDataError("bad_value", path, f"{key} is {array.dtype}, expected numbers")
    c2w, intrinsics = arrays["c2w"].astype(np.float64), arrays["intrinsics"]
    if c2w.ndim != 3 or c2w.shape[1:] != (4, 4) or len(c2w) == 0:
        raise BenchDataError("bad_value", path, f"c2w is {c2w.shape}, expected (n, 4, 4), n >= 1")
    if arrays["fps"].size != 1 or arrays["num_frames"].size != 1:
        raise BenchDataError("bad_value", path, "fps and num_frames are no scalars")
    fps, frames = float(arrays["fps"].item()), arrays["num_frames"].item()
    if not (math.isfinite(fps) and fps > 0):
        raise BenchDataError("bad_value", path, f"fps is {fps}, expected positive")
    if frames != len(c2w):
        raise BenchDataError("inconsistent", path, f"num_frames is {frames} for {len(c2w)} poses")
    shapes = ((len(c2w), 3, 3), (len(c2w), 4), (3, 3), (4,))
    if intrinsics.shape not in shapes:
        message = f"intrinsics are {intrinsics.shape}, expected {shapes[0]}, in pixels"
        raise BenchDataError("bad_value", path, message)
    try:
        check_rigid(c2w, "c2w")
    except ValueError as error:
        raise BenchDataError("bad_poses", path, str(error)) from error
    try:
        per_frame = intrinsics_per_frame(intrinsics, len(c2w))
    except ValueError as error:
        raise BenchDataError("bad_value", path, str(error)) from error
    return relative_to_first(c2w), per_frame, fps


def write_camera(path: Path, c2w: Array, intrinsics: Array, fps: float) -> None:
    """Write a camera whole.

    Args:
        path: Where.
        c2w: [n, 4, 4].
        intrinsics: (fx, fy, cx, cy) per pose in pixels, [n, 4].
        fps: Poses per second.
    """
    matrices = np.tile(np.eye(3), (len(intrinsics), 1, 1))
    matrices[:, (0, 1, 0, 1), (0, 1, 2, 2)] = intrinsics
    with atomic_path(path) as partial:
        np.savez_compressed(
            partial,
            c2w=c2w,
            intrinsics=matrices,
            fps=np.float64(fps),
            num_frames=np.int64(len(c2w)),
        )
