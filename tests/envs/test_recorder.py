"""Videos hold every frame of every chunk, and appear only when they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import numpy.typing as npt
import pytest

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMEnv, write_video


def read(path: Path) -> tuple[npt.NDArray[np.uint8], float]:
    """RGB frames and rate of a video."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while (result := video.read())[0]:
        frames.append(result[1][..., ::-1])
    return np.array(frames), video.get(cv2.CAP_PROP_FPS)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_frames_of_an_episode(tmp_path: Path) -> None:
    env = ChunkVideoRecorder(
        gym.make("SanaWM/World-v0", world="procedural", horizon=2, render_mode="rgb_array_list"),
        tmp_path,
    )
    first, _ = env.reset(seed=0)
    seen = [first[None]]
    for _ in range(2):
        _, _, _, truncated, _ = env.step(np.array([0.5, 0, 0, 0, 1], np.float32))
        seen.append(np.stack(env.unwrapped.render()))
    assert truncated and names(tmp_path) == ["episode-0000.mp4"]
    frames, fps = read(tmp_path / "episode-0000.mp4")
    assert fps == 16.0
    assert frames.shape == (1 + 2 * 24, 64, 64, 3)
    # Lossy, but the right frame at every index: its neighbours fit worse.
    expected = np.concatenate(seen).astype(float)
    error = [np.abs(frames - np.roll(expected, shift, axis=0))[2:-2].mean() for shift in (0, 1, -1)]
    assert error[0] < 6 and error[0] < min(error[1:])


def test_one_file_per_episode(world: Any, tmp_path: Path) -> None:
    env = ChunkVideoRecorder(SanaWMEnv(world, render_mode="rgb_array_list"), tmp_path / "videos")
    env.reset(seed=0)
    env.step(np.zeros(5))
    assert names(tmp_path / "videos") == ["episode-0000.partial.mp4"]
    with pytest.raises(ValueError, match="yaw is nan"):
        env.step(np.full(5, np.nan))
    env.step(np.zeros(5))
    env.reset()
    assert len(read(tmp_path / "videos" / "episode-0000.mp4")[0]) == 49
    env.close()
    assert names(tmp_path / "videos") == ["episode-0000.mp4", "episode-0001.mp4"]
    assert len(read(tmp_path / "videos" / "episode-0001.mp4")[0]) == 1


def test_the_recorder_needs_all_frames(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'rgb_array', expected 'rgb_array_list'"):
        ChunkVideoRecorder(SanaWMEnv(world, render_mode="rgb_array"), tmp_path)


def test_write_video(tmp_path: Path) -> None:
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    frames[:, :, :, 0] = 20 + 40 * np.arange(5)[:, None, None]
    write_video(tmp_path / "a.mp4", frames, fps=8)
    back, fps = read(tmp_path / "a.mp4")
    assert fps == 8 and np.abs(back[..., 0].mean(axis=(1, 2)) - frames[:, 0, 0, 0]).max() < 5


@pytest.mark.parametrize(
    ("name", "frames", "fps", "message"),
    [
        ("a.mp4", np.zeros((0, 32, 32, 3), np.uint8), 16, "given no frames"),
        ("a.mp4", np.zeros((2, 33, 32, 3), np.uint8), 16, "33 x 32, expected even"),
        ("a.mp4", np.zeros((2, 32, 32, 3)), 16, "float64"),
        (
            "a.mp4",
            [np.zeros((32, 32, 3), np.uint8), np.zeros((30, 32, 3), np.uint8)],
            16,
            "frame 1",
        ),
        ("a.mp4", np.zeros((2, 32, 32, 3), np.uint8), 0, "fps is 0"),
        ("a.gif", np.zeros((2, 32, 32, 3), np.uint8), 16, "'.mp4'"),
    ],
)
def test_bad_videos_leave_no_file(
    tmp_path: Path, name: str, frames: Any, fps: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, frames, fps)
    assert names(tmp_path) == []
