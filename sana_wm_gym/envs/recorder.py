"""Videos of every frame of every chunk; Gymnasium's `RecordVideo` keeps one frame per step."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gymnasium as gym

from sana_wm_gym.video import VideoWriter


class ChunkVideoRecorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records each episode as one mp4: the first frame and then every frame of every chunk.

    The file of an episode appears when the episode ends: at termination, truncation, the next
    reset or `close`. Frames are streamed to the encoder, so long episodes need no more memory.

    Args:
        env: A `SanaWMEnv`, wrapped or not, with `render_mode="rgb_array_list"`.
        folder: Where "episode-0000.mp4", "episode-0001.mp4", ... are written; files of the same
            names are replaced.
        fps: Frames per second; None takes the world's.

    Raises:
        ValueError: The environment renders in another mode.
    """

    def __init__(
        self, env: gym.Env[Any, Any], folder: str | os.PathLike[str], fps: float | None = None
    ) -> None:
        if env.render_mode != "rgb_array_list":
            raise ValueError(
                f"render_mode is {env.render_mode!r}, expected 'rgb_array_list': "
                "the recorder needs every frame of a chunk"
            )
        super().__init__(env)
        self.folder = Path(folder)
        self.fps = float(env.get_wrapper_attr("world").spec.fps if fps is None else fps)
        self._episodes = 0
        self._writer: VideoWriter | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, finish the running video and start the next with the first frame."""
        result = self.env.reset(seed=seed, options=options)
        self._finish()
        self._record()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step and record the chunk."""
        result = self.env.step(action)
        self._record()
        if result[2] or result[3]:
            self._finish()
        return result

    def close(self) -> None:
        """Finish the running video and close the environment."""
        self._finish()
        super().close()

    def _record(self) -> None:
        frames: Any = self.env.render()
        if self._writer is None:
            self._writer = VideoWriter(self.folder / video_name(self._episodes), self.fps)
            self._episodes += 1
        self._writer.add(frames)

    def _finish(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def video_name(episode: int) -> str:
    """File name of an episode's video."""
    return f"episode-{episode:04d}.mp4"
