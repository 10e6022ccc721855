"""Camera paths out of the files that other tools write, in this package's convention.

| format | what it is | poses in it |
|---|---|---|
| `tum` | text, `t tx ty tz qx qy qz qw` | camera to world |
| `kitti` | text, 12 numbers: the first three rows of a 4x4 matrix | camera to world |
| `euroc` | csv with a header line, `t[ns], px, py, pz, qw, qx, qy, qz, ...` | body to world |
| `colmap` | `images.txt`, alternately `id qw qx qy qz tx ty tz camera name` | world to camera |
| `nerfstudio` | `transforms.json`, `frames[].transform_matrix` | camera to world, OpenGL axes |
| `realestate10k` | text: a url, then `t[us] fx fy cx cy 0 0 r11 r12 ... t3` | world to camera |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.se3 import from_rotation_translation, invert, nearest_rotation
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.checks import require_choice, require_number
from sana_wm_gym.files import parse_json, read_text

Array = npt.NDArray[np.float64]

OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
"""Right factor on c2w poses: axes x right, y up, z back become x right, y down, z forward."""


@dataclass(frozen=True, eq=False)
class TimedPoses:
    """A camera path and when each pose holds.

    Attributes:
        c2w: Camera-to-world poses, float64 [n, 4, 4], OpenCV camera axes; in the file's world
            frame and unit.
        times_s: Seconds, float64 [n], rising; None where the file has no times.
        names: Image names, in the order of the poses; empty where the file has none.
        intrinsics: (fx, fy, cx, cy) [n, 4] as the file gives them (RealEstate10K's are fractions
            of width and height); None where it has none.
    """

    c2w: Array
    times_s: Array | None = None
    names: tuple[str, ...] = ()
    intrinsics: Array | None = None

    def __len__(self) -> int:
        return len(self.c2w)


def read_trajectory(path: str | Path, file_format: str) -> TimedPoses:
    """Read a camera path.

    Rotations are made orthonormal (files are rounded); EuRoC's are those of the body that the file
    is about, not of a camera mounted on it.

    Args:
        path: The file.
        file_format: A name of `FORMATS`.

    Raises:
        OSError: The file cannot be read.
        ValueError: The format is unknown, or the file does not have it; names the line.
    """
    require_choice("file_format", file_format, FORMATS)
    text = read_text(path, f"a text file of format {file_format}")
    try:
        poses = FORMATS[file_format](text)
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path}: not of format {file_format}: {error}") from error
    if not len(poses):
        raise ValueError(f"{path}: given no poses, expected at least one of format {file_format}")
    return poses


def match_times(
    first_s: npt.ArrayLike, second_s: npt.ArrayLike, tolerance_s: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pair each of the first times with the nearest of the second, each used once.

    Args:
        first_s: Seconds [n], rising.
        second_s: Seconds [m], rising.
        tolerance_s: Largest difference of a pair.

    Returns:
        Indices of the pairs, int64 [k] each, rising; the nearest pairs are kept where two of the
        first match the same of the second.

    Raises:
        ValueError: Times do not rise, or the tolerance is negative.
    """
    require_number("tolerance_s", tolerance_s, 0)
    first, second = (np.asarray(times, dtype=np.float64) for times in (first_s, second_s))
    for name, times in (("first_s", first), ("second_s", second)):
        if times.ndim != 1 or not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise ValueError(f"{name} has shape {times.shape}, expected finite rising times [n]")
    if not len(first) or not len(second):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    right = np.clip(np.searchsorted(second, first), 0, len(second) - 1)
    left = np.maximum(right - 1, 0)
    nearest = np.where(np.abs(second[left] - first) <= np.abs(second[right] - first), left, right)
    gap = np.abs(second[nearest] - first)
    pairs: dict[int, int] = {}
    for index in np.argsort(gap, kind="stable"):
        if gap[index] <= tolerance_s:
            pairs.setdefault(int(nearest[index]), int(index))
    kept = sorted((mine, theirs) for theirs, mine in pairs.items())
    return (
        np.array([mine for mine, _ in kept], np.int64),
        np.array([theirs for _, theirs in kept], np.int64),
    )


def _rows(text: str, count: int, separator: str | None = None, exact: bool = True) -> Array:
    """Numbers of each line that is neither empty nor a comment, [n, count]."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        words = line.split(separator)
        if len(words) < count or (exact and len(words) != count):
            raise ValueError(f"line {number} has {len(words)} values, expected {count}")
        try:
            rows.append([float(word) for word in words[:count]])
        except ValueError as error:
            raise ValueError(
                f"line {number} has a value that is not a number: {line[:60]!r}"
            ) from error
    return np.array(rows).reshape(-1, count)


def _poses(rotation: Array, translation: Array) -> Array:
    poses = from_rotation_translation(nearest_rotation(rotation), translation)
    check_rigid(poses, "the file's pose of")
    return poses


def _matrices(rows: Array) -> Array:
    matrices = rows.reshape(-1, 3, 4)
    if not np.isfinite(matrices).all() or (np.linalg.det(matrices[:, :, :3]) <= 0).any():
        raise ValueError("a 3x4 matrix holds no rotation")
    return _poses(matrices[:, :, :3], matrices[:, :, 3])


def _quaternions(xyzw: Array, translation: Array) -> Array:
    return _poses(Rotation.from_quat(xyzw).as_matrix(), translation)


def _tum(text: str) -> TimedPoses:
    rows = _rows(text, 8)
    if not len(rows):
        return TimedPoses(np.empty((0, 4, 4)))
    return TimedPoses(_quaternions(rows[:, 4:8], rows[:, 1:4]), rows[:, 0])


def _kitti(text: str) -> TimedPoses:
    return TimedPoses(_matrices(_rows(text, 12)))


def _euroc(text: str) -> TimedPoses:
    lines = text.splitlines()
    body = "\n".join(lines[1:] if lines and not re.match(r"\s*-?\d", lines[0]) else lines)
    rows = _rows(body, 8, ",", exact=False)
    if not len(rows):
        return TimedPoses(np.empty((0, 4, 4)))
    return TimedPoses(_quaternions(rows[:, [5, 6, 7, 4]], rows[:, 1:4]), rows[:, 0] * 1e-9)


def _colmap(text: str) -> TimedPoses:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in lines[::2]:  # every other line lists the image's points
        words = line.split(maxsplit=9)
        if not words:
            continue
        if len(words) != 10:
            raise ValueError(f"an image has {len(words)} values, expected 10: {line[:60]!r}")
        found.append((words[9], [float(word) for word in words[1:8]]))
    found.sort()
    if not found:
        return TimedPoses(np.empty((0, 4, 4)))
    rows = np.array([row for _, row in found])
    w2c = _quaternions(rows[:, [1, 2, 3, 0]], rows[:, 4:7])
    return TimedPoses(invert(w2c), names=tuple(name for name, _ in found))


def _array(values: Any) -> Array:
    try:
        return np.array(values, dtype=np.float64)
    except TypeError as error:
        raise ValueError(f"expected numbers: {error}") from error


def _nerfstudio(text: str) -> TimedPoses:
    values = parse_json(text, "the document")
    frames = values["frames"]
    if not isinstance(frames, list) or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError("frames is no list of objects")
    frames.sort(key=lambda frame: str(frame["file_path"]))
    matrices = _array([frame["transform_matrix"] for frame in frames])
    if not len(matrices):
        return TimedPoses(np.empty((0, 4, 4)))
    if matrices.shape[1:] not in ((3, 4), (4, 4)):
        raise ValueError(f"transform_matrix has shape {matrices.shape[1:]}, expected (4, 4)")
    keys = ("fl_x", "fl_y", "cx", "cy")
    lenses = [[frame.get(key, values.get(key)) for key in keys] for frame in frames]
    known = all(number is not None for lens in lenses for number in lens)
    return TimedPoses(
        _matrices(matrices[:, :3].reshape(-1, 12)) @ OPENGL_TO_OPENCV,
        names=tuple(str(frame["file_path"]) for frame in frames),
        intrinsics=_array(lenses) if known else None,
    )


def _realestate10k(text: str) -> TimedPoses:
    lines = text.splitlines()
    rows = _rows("\n".join(lines[1:] if lines and "://" in lines[0] else lines), 19)
    return TimedPoses(invert(_matrices(rows[:, 7:19])), rows[:, 0] * 1e-6, intrinsics=rows[:, 1:5])


FORMATS: dict[str, Callable[[str], TimedPoses]] = {
    "tum": _tum,
    "kitti": _kitti,
    "euroc": _euroc,
    "colmap": _colmap,
    "nerfstudio": _nerfstudio,
    "realestate10k": _realestate10k,
}
"""Readers by format."""
