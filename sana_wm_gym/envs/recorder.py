"""Every frame of every chunk, to video. Gymnasium's `RecordVideo` keeps one frame per step."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any

import gymnasium as gym
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt


class VideoWriter:
    """An mp4 that grows frame by frame and gets its name when it is complete.

    Args:
        path: File to write, ending in ".mp4"; replaced if it exists. Its folder is made.
        height: Frame height in pixels, even.
        width: Frame width in pixels, even.
        fps: Frames per second.

    Raises:
        ValueError: A size is odd or not positive, `fps` is not positive, or the name does not
            end in ".mp4".
    """

    def __init__(self, path: str | os.PathLike[str], height: int, width: int, fps: float) -> None:
        if min(height, width) < 2 or height % 2 or width % 2:
            raise ValueError(f"video frames are {height} x {width}, expected even sizes")
        if not 0 < fps < float("inf"):
            raise ValueError(f"fps is {fps}, expected a positive number")
        self.path = Path(path)
        if self.path.suffix != ".mp4":
            raise ValueError(f"video path is {self.path}, expected a name ending in '.mp4'")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = self.path.with_name(f"{self.path.stem}.partial.mp4")
        self._shape = (height, width, 3)
        self._frames = 0
        self._pipe: Generator[None, bytes | None, None] = imageio_ffmpeg.write_frames(
            self._partial,
            (width, height),
            fps=fps,
            quality=8,
            macro_block_size=2,
            ffmpeg_log_level="error",
            # libx264's lookahead threads cost more than they bring at these sizes.
            output_params=["-threads", "1"],
        )
        self._pipe.send(None)

    def add(self, frames: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Append frames.

        Raises:
            ValueError: A frame is not uint8 [height, width, 3].
        """
        for frame in frames:
            if frame.shape != self._shape or frame.dtype != np.uint8:
                raise ValueError(
                    f"frame {self._frames} is {frame.dtype} {frame.shape}, "
                    f"expected uint8 {self._shape}"
                )
            self._pipe.send(np.ascontiguousarray(frame).tobytes())
            self._frames += 1

    def close(self) -> None:
        """Finish the file and give it its name. A video without frames leaves no file."""
        self._pipe.close()
        if self._frames:
            os.replace(self._partial, self.path)
        else:
            self.discard()

    def discard(self) -> None:
        """Stop and leave no file."""
        self._pipe.close()
        self._partial.unlink(missing_ok=True)


def write_video(
    path: str | os.PathLike[str], frames: Iterable[npt.NDArray[np.uint8]], fps: float
) -> None:
    """Write frames, each uint8 [height, width, 3] with even sizes, as an mp4.

    Raises:
        ValueError: There is no frame, frames differ in shape, or a size is odd.
    """
    frames = list(frames)
    if not frames or np.ndim(frames[0]) != 3:
        raise ValueError("given no frames, expected uint8 [n, height, width, 3] with n >= 1")
    height, width = frames[0].shape[:2]
    writer = VideoWriter(path, height, width, fps)
    try:
        writer.add(frames)
    except BaseException:
        writer.discard()
        raise
    writer.close()


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
        self,
        env: gym.Env[Any, Any],
        folder: str | os.PathLike[str],
        fps: float | None = None,
    ) -> None:
        if env.render_mode != "rgb_array_list":
            raise ValueError(
                f"render_mode is {env.render_mode!r}, expected 'rgb_array_list': "
                "the recorder needs every frame of a chunk"
            )
        super().__init__(env)
        self.folder = Path(folder)
        self.fps = float(env.metadata["render_fps"] if fps is None else fps)
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
            path = self.folder / f"episode-{self._episodes:04d}.mp4"
            height, width = frames[0].shape[:2]
            self._writer = VideoWriter(path, height, width, self.fps)
            self._episodes += 1
        self._writer.add(frames)

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
