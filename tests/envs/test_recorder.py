"""Videos hold every frame of every chunk, and appear only when they are whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMEnv
from sana_wm_gym.video import probe, read_frames


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_frames_of_an_episode(tmp_path: Path) -> None:
    env = ChunkVideoRecorder(
        gym.make(
            "SanaWM/World-v0", world="procedural", max_episode_steps=2, render_mode="rgb_array_list"
        ),
        tmp_path,
    )
    first, _ = env.reset(seed=0)
    seen = [first[None]]
    for _ in range(2):
        _, _, _, truncated, _ = env.step(np.array([0.5, 0, 0, 0, 1], np.float32))
        seen.append(np.stack(env.unwrapped.render()))
    assert truncated and names(tmp_path) == ["episode-0000.mp4"]
    frames, times = read_frames(tmp_path / "episode-0000.mp4")
    np.testing.assert_allclose(times, np.arange(49) / 16)
    assert frames.shape == (1 + 2 * 24, 64, 64, 3)
    # Lossy, but the right frame at every index: its neighbours fit worse.
    expected = np.concatenate(seen).astype(float)
    error = [np.abs(frames - np.roll(expected, shift, axis=0))[2:-2].mean() for shift in (0, 1, -1)]
    assert error[0] < 6 and error[0] < min(error[1:])


def test_one_file_per_episode(world: Any, tmp_path: Path) -> None:
    env = ChunkVideoRecorder(SanaWMEnv(world, render_mode="rgb_array_list"), tmp_path / "videos")
    env.reset(seed=0)
    env.step(np.zeros(5))
    assert "episode-0000.mp4" not in names(tmp_path / "videos")
    with pytest.raises(ValueError, match="yaw is nan"):
        env.step(np.full(5, np.nan))
    env.step(np.zeros(5))
    env.reset()
    assert probe(tmp_path / "videos" / "episode-0000.mp4").frames == 49
    env.close()
    assert names(tmp_path / "videos") == ["episode-0000.mp4", "episode-0001.mp4"]
    assert probe(tmp_path / "videos" / "episode-0001.mp4").frames == 1


def test_the_recorder_needs_all_frames(world: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'rgb_array', expected 'rgb_array_list'"):
        ChunkVideoRecorder(SanaWMEnv(world, render_mode="rgb_array"), tmp_path)
