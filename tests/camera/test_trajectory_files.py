"""One path written as every tool writes it is read back as the same path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sana_wm_gym.camera.se3 import from_rotation_translation, invert
from sana_wm_gym.camera.trajectory_files import FORMATS, match_times, read_trajectory

N = 7
TURNS = Rotation.from_rotvec(np.linspace(0, 1, N)[:, None] * [0.3, 1.0, -0.2])
PATH = from_rotation_translation(
    TURNS.as_matrix(), np.random.default_rng(0).normal(size=(N, 3)).round(3)
)
TIMES = np.arange(N) * 0.25 + 12.0
LENS = [0.9, 1.6, 0.5, 0.5]


def numbers(values: Any) -> str:
    return " ".join(f"{value:.9g}" for value in values)


def tum() -> str:
    rows = np.column_stack([TIMES, PATH[:, :3, 3], TURNS.as_quat()])
    return "# timestamp tx ty tz qx qy qz qw\n" + "\n".join(map(numbers, rows))


def kitti() -> str:
    return "\n".join(numbers(pose[:3].ravel()) for pose in PATH)


def euroc() -> str:
    wxyz = TURNS.as_quat()[:, [3, 0, 1, 2]]
    rows = [
        ",".join([str(int(t * 1e9)), *(f"{v:.9g}" for v in (*p, *q, 0, 0, 0))])
        for t, p, q in zip(TIMES, PATH[:, :3, 3], wxyz, strict=True)
    ]
    return "#timestamp [ns],p_x [m],...\n" + "\n".join(rows)


def colmap() -> str:
    w2c = invert(PATH)
    wxyz = Rotation.from_matrix(w2c[:, :3, :3]).as_quat()[:, [3, 0, 1, 2]]
    lines = ["# Image list with two lines of data per image:"]
    for index in reversed(range(N)):  # the order of reconstruction is not that of the images
        pose = [*wxyz[index], *w2c[index, :3, 3]]
        lines += [f"{index + 1} {numbers(pose)} 1 frame {index:03}.png", "3.5 4.5 -1 6 7 12"]
    return "\n".join(lines)


def nerfstudio() -> str:
    opengl = PATH @ np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": f"images/{index:03}.png", "transform_matrix": pose.tolist()}
        for index, pose in enumerate(opengl)
    ]
    lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), LENS, strict=True))
    return json.dumps({**lens, "frames": frames[::-1]})


def realestate10k() -> str:
    rows = [
        f"{int(t * 1e6)} {numbers([*LENS, 0, 0, *pose[:3].ravel()])}"
        for t, pose in zip(TIMES, invert(PATH), strict=True)
    ]
    return "https://example.org/video\n" + "\n".join(rows)


WRITERS = {
    "tum": tum,
    "kitti": kitti,
    "euroc": euroc,
    "colmap": colmap,
    "nerfstudio": nerfstudio,
    "realestate10k": realestate10k,
}


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_format_gives_the_same_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "path").write_text(WRITERS[name]())
    poses = read_trajectory(tmp_path / "path", name)
    assert np.allclose(poses.c2w, PATH, atol=1e-7) and len(poses) == N
    if name in ("tum", "euroc", "realestate10k"):
        assert poses.times_s is not None and np.allclose(poses.times_s, TIMES)
    if name in ("nerfstudio", "realestate10k"):
        assert poses.intrinsics is not None and np.allclose(poses.intrinsics, LENS)
    if name == "colmap":
        assert poses.names == tuple(f"frame {index:03}.png" for index in range(N))


@pytest.mark.parametrize("name", sorted(FORMATS))
@pytest.mark.parametrize("text", ["", "1 2 3\n", "a b c d e f g h\n", "{}", "\x00", "nan " * 12])
def test_what_is_no_such_file_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "path").write_text(text)
    with pytest.raises(ValueError, match="path: .*" + name):
        read_trajectory(tmp_path / "path", name)


def test_binary_and_unknown_formats(tmp_path: Path) -> None:
    (tmp_path / "path").write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match="expected a text file"):
        read_trajectory(tmp_path / "path", "tum")
    with pytest.raises(ValueError, match="file_format is 'tmu'"):
        read_trajectory(tmp_path / "path", "tmu")


def test_rounded_matrices_are_taken(tmp_path: Path) -> None:
    rounded = "\n".join(" ".join(f"{v:.3f}" for v in pose[:3].ravel()) for pose in PATH)
    (tmp_path / "path").write_text(rounded)
    poses = read_trajectory(tmp_path / "path", "kitti").c2w
    assert np.allclose(poses, PATH, atol=2e-3)
    assert np.allclose(poses[:, :3, :3] @ np.swapaxes(poses[:, :3, :3], 1, 2), np.eye(3))


def test_times_pair_nearest_once() -> None:
    first, second = match_times([0.0, 0.1, 0.25, 5.0], [0.04, 0.11, 0.3], 0.1)
    assert first.tolist() == [0, 1, 2] and second.tolist() == [0, 1, 2]
    first, second = match_times([0.0, 0.1, 0.12], [0.11], 0.05)
    assert len(first) == 1 and second.tolist() == [0]
    assert [part.tolist() for part in match_times([], [1.0], 0.1)] == [[], []]
    with pytest.raises(ValueError, match="second_s"):
        match_times([0.0], [1.0, 1.0], 0.1)
