"""Video files: one reader with true presentation times and one writer, both on PyAV (FFmpeg).

`read_video` streams frames as a player shows them: edit lists applied, deinterlaced, turned
upright, with square pixels. What FFmpeg cannot decode whole is an error, never a grey frame.
`VideoWriter` and `write_video` make H.264 in mp4; the file appears when it is complete.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from sana_wm_gym.checks import require_number
from sana_wm_gym.files import atomic_path

Frames = npt.NDArray[np.uint8]
PathLike = str | os.PathLike[str]

MAX_PIXELS = 2**25  # of a frame that is read; 8K fits
MAX_BYTES = 2**33  # of frames held at once; a minute of 1080p at 16 Hz has three quarters of that
# Pictures, text and lists of other files, which FFmpeg opens as if they were videos.
_NO_VIDEO = re.compile(r".*_pipe|image2|tty|hls|dash|concat|lavfi")
_BROADCAST = {"mpegts", "mpeg", "h264", "hevc"}  # may begin in the middle of a stream
# Errors, not concealed frames.
_STRICT = {"err_detect": "crccheck+bitstream+buffer+explode", "max_pixels": str(MAX_PIXELS)}
# Colour is interpolated: 2 dB nearer on photographs than FFmpeg's default, nearest neighbours.
_SCALING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class VideoError(ValueError):
    """A video that cannot be used, or could not be made.

    `code` is `missing_video`, `corrupt_video`, `truncated_video`, the writer's `not_written`, or a
    caller's own; `path` is the file, if there is one.
    """

    def __init__(self, code: str, path: Path | None, message: str) -> None:
        self.code, self.path = code, path
        super().__init__(f"{path}: {message}" if path else message)


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A frame as it is shown."""

    rgb: Frames  # uint8 [height, width, 3]
    time: float  # when it is shown, in seconds after the first frame


@dataclass(frozen=True)
class VideoInfo:
    """What a file contains, from its headers, time stamps and first frame."""

    height: int  # of the frames that `read_video` returns
    width: int
    frames: int  # time stamps of shown frames
    duration: float  # seconds from the start of the first frame to the end of the last
    rate: Fraction  # average, in frames per second
    varies: bool  # whether frames are unevenly spaced
    rotation: int  # degrees counter-clockwise by which the file's header turns its frames
    sample_aspect_ratio: Fraction  # width over height of a stored pixel


def probe(path: PathLike) -> VideoInfo:
    """What a video file contains. All time stamps are read, one frame is decoded.

    Raises:
        VideoError: The file is missing or no video, or its first frame cannot be decoded.
    """
    path = Path(path)
    with _opened(path) as (container, stream):
        frame = next(_decoded(container, stream, path))
        height, width, _ = _converter(frame, stream, path)(frame).shape
    with _opened(path) as (container, stream), _errors(path):
        shown = (p for p in container.demux(stream) if p.size and not p.is_discard)
        stamps = [p.dts if p.pts is None else p.pts for p in shown]
        tick = float(stream.time_base or 1)
        times = np.sort(np.array([t for t in stamps if t is not None])) * tick
        rate, varies = _rate(times, stream)
        duration = float(np.ptp(times) + 1 / rate if len(times) else len(stamps) / rate)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        return VideoInfo(height, width, len(stamps), duration, rate, varies, frame.rotation, aspect)


def read_video(path: PathLike) -> Iterator[VideoFrame]:
    """Frames of a video file in the order they are shown, one at a time.

    Frames outside the file's edit list are left out. Interlaced frames are deinterlaced (bwdif),
    rotated ones turned, anamorphic ones resized to square pixels at their height.

    Not detected: a cut where no header holds the length (transport stream, fragmented mp4), and
    damage that the codec decodes.

    Raises:
        VideoError: The file is missing or no video (at once), a stream is damaged (at the frame),
            or it is shorter than its header states (at the end).
    """
    path = Path(path)
    with _opened(path):
        return _shown(path)


def read_frames(path: PathLike, limit: int | None = None) -> tuple[Frames, npt.NDArray[np.float64]]:
    """Frames of a video as uint8 [n, height, width, 3], at most the first `limit`, and their times
    as float64 [n] in seconds. Errors are those of `read_video`; more than MAX_BYTES are one."""
    info = probe(path)
    most = MAX_BYTES // (info.height * info.width * 3)
    count = min(info.frames, most, most if limit is None else limit)
    frames = np.empty((count, info.height, info.width, 3), np.uint8)
    times: list[float] = []
    for frame in read_video(path):
        if len(times) == limit:
            break
        if len(times) == most:
            raise VideoError("corrupt_video", Path(path), f"has more than {MAX_BYTES} bytes")
        if len(times) == len(frames):
            frames.resize((len(times) + 64, *frames.shape[1:]), refcheck=False)
        frames[len(times)] = frame.rgb
        times.append(frame.time)
    return frames[: len(times)], np.array(times)


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """An H.264 mp4 that grows frame by frame and gets its name when it is complete, in `close`.

    On any failure nothing is left and an older video of the name is kept; as a context manager it
    discards itself where an error ends it.

    Args:
        path: File to write, ending in ".mp4"; replaced if it exists. Its folder is made.
        fps: Frames per second. A `Fraction` is kept exactly.
        near_lossless: Full colour resolution and hardly any loss, for frames to be measured;
            otherwise a file that any player plays.

    Raises:
        ValueError: `fps` is not positive, the name does not end in ".mp4", or a frame is not
            uint8 [height, width, 3] of the first one's size, which must be even.
        VideoError: There is no H.264 encoder, or the file could not be written whole.
    """

    def __init__(
        self, path: PathLike, fps: float | Fraction, *, near_lossless: bool = False
    ) -> None:
        require_number("fps", fps, 0, ends="()")
        self.path = path = Path(path)
        if path.suffix.lower() != ".mp4":
            raise ValueError(f"video path is {path}, expected a name ending in '.mp4'")
        try:
            av.Codec("libx264", "w")
        except ValueError as error:
            raise VideoError("not_written", path, "PyAV has no encoder libx264") from error
        whole = isinstance(fps, Fraction)  # 29.97002997 is 30000/1001
        self.fps = Fraction(fps) if whole else Fraction(float(fps)).limit_denominator(2**15)
        self._near_lossless = near_lossless
        self._writing: atomic_path | None = None
        self._container: OutputContainer | None = None
        self._frames = 0

    def add(self, frames: Iterable[Frames]) -> None:
        """Append frames, each uint8 [height, width, 3] of the first one's even size."""
        for frame in frames:
            if self._container is None:
                self._start(frame)
            if frame.shape != self._shape or frame.dtype != np.uint8:
                given = f"frame {self._frames} is {frame.dtype} {frame.shape}"
                raise ValueError(f"{given}, expected uint8 {self._shape}")
            rgb = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")
            stored = rgb.reformat(format=self._stream.pix_fmt, interpolation=_SCALING, threads=1)
            stored.pts, stored.time_base, stored.duration = self._frames, 1 / self.fps, 1
            self._encode(stored)
            self._frames += 1

    def close(self) -> None:
        """Finish the file, count its frames and give it its name; without frames, leave none."""
        if self._container is None:
            return
        try:
            self._encode(None)
            with _errors(self.path, "not_written"):
                self._container.close()
            assert self._writing is not None
            partial = self._writing.partial
            with _opened(partial) as (container, stream), _errors(self.path, "not_written"):
                count = sum(bool(p.size) and not p.is_corrupt for p in container.demux(stream))
            if count != self._frames:
                message = f"{count} of {self._frames} frames are in the file"
                raise VideoError("not_written", self.path, message)
            self._writing.commit()
        finally:
            self.discard()

    def discard(self) -> None:
        """Stop and leave no file."""
        if self._container is not None:
            with suppress(av.FFmpegError):
                self._container.close()
            self._container = None
        if self._writing is not None:
            self._writing.discard()

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self.close() if kind is None else self.discard()

    def _start(self, frame: Frames) -> None:
        if np.ndim(frame) != 3 or frame.shape[2] != 3 or 0 in frame.shape:
            raise ValueError(f"frame 0 is {np.shape(frame)}, expected [height, width, 3]")
        self._shape = height, width, _ = frame.shape
        if height % 2 or width % 2:
            raise ValueError(f"video frames are {height} x {width}, expected even sizes")
        self._writing = atomic_path(self.path)
        with _errors(self.path, "not_written"):
            # "file:", or FFmpeg takes a colon in the name for a protocol.
            self._container = av.open(f"file:{self._writing.partial}", "w", format="mp4")
        crf, pixels = ("4", "yuv444p") if self._near_lossless else ("10", "yuv420p")
        # Without the second, libx264's rate control makes other bytes of the same frames at times.
        options = {"crf": crf, "x264-params": "cpu-independent=1"}
        self._stream = stream = self._container.add_stream("libx264", self.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.thread_count = 1  # libx264's lookahead threads cost more than they bring

    def _encode(self, frame: av.VideoFrame | None) -> None:
        assert self._container is not None
        with _errors(self.path, "not_written"):
            self._container.mux(self._stream.encode(frame))


def write_video(
    path: PathLike, frames: Iterable[Frames], fps: float | Fraction, *, near_lossless: bool = False
) -> None:
    """Write frames, at least one and taken one at a time. Errors are those of `VideoWriter`."""
    with VideoWriter(path, fps, near_lossless=near_lossless) as writer:
        writer.add(frames)
        if not writer._frames:
            raise ValueError("given no frames, expected uint8 [n, height, width, 3] with n >= 1")


@contextmanager
def _errors(path: Path, code: str = "corrupt_video") -> Iterator[None]:
    """FFmpeg's errors as one that names the file."""
    try:
        yield
    except av.FFmpegError as error:
        raise VideoError(code, path, error.strerror or type(error).__name__) from error


@contextmanager
def _opened(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """A file and its video."""
    if not path.is_file():  # neither a folder nor a pipe, which might block
        found = "not a file" if path.exists() else "no such file"
        raise VideoError("missing_video", path, f"{found}, expected a video")
    with _errors(path):
        container = av.open(f"file:{path}", metadata_errors="replace")
    with container:
        if _NO_VIDEO.fullmatch(kind := container.format.name):
            raise VideoError("corrupt_video", path, f"its format is {kind}, expected a video")
        stream = container.streams.best("video")
        cover = av.stream.Disposition.attached_pic
        if not isinstance(stream, VideoStream) or stream.disposition & cover:
            raise VideoError("corrupt_video", path, "has no video stream")
        if stream.codec_context is None:
            raise VideoError("corrupt_video", path, "FFmpeg has no decoder for its codec")
        yield container, stream


def _shown(path: Path) -> Iterator[VideoFrame]:
    convert, first, last = None, 0.0, 0.0
    with _opened(path) as (container, stream), _errors(path):
        tick, period = float(stream.time_base or 1), float(1 / (stream.guessed_rate or 25))
        for frame in _deinterlaced(_decoded(container, stream, path)):
            time: float | None = frame.time
            if container.format.name == "avi":  # has times of decoding alone
                time = None if frame.dts is None else frame.dts * tick
            if convert is None:
                convert, first = _converter(frame, stream, path), time or 0.0
            else:
                last = last + period if time is None or time - first <= last else time - first
            yield VideoFrame(convert(frame), last)


def _decoded(container: InputContainer, stream: VideoStream, path: Path) -> Iterator[av.VideoFrame]:
    """Frames as they are stored, at least one; what is damaged or missing is an error."""
    stream.codec_context.options = _STRICT
    packets, frames, end, dts, gap = 0, 0, 0, None, 0

    def broken(code: str, what: str) -> VideoError:
        total = f" of {stream.frames}" if stream.frames else ""
        return VideoError(code, path, f"{what} after {frames}{total} whole frames")

    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise broken("truncated_video", "its data break off")
        packets += bool(packet.size)
        end = max(end, packet.pts or packet.dts or 0)
        if packet.dts is not None:
            gap = max(gap, packet.dts - (packet.dts if dts is None else dts), packet.duration or 0)
            dts = packet.dts
        try:
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise broken("corrupt_video", "damaged")
                frames += 1
                yield frame
        except av.FFmpegError as error:
            if frames or container.format.name not in _BROADCAST:
                raise broken("corrupt_video", f"{error.strerror}".lower()) from error
    if not frames:
        raise VideoError("corrupt_video", path, "holds no frame that can be decoded")
    if "mp4" in container.format.name:  # lists its frames
        short = packets < sum(entry.size > 0 for entry in stream.index_entries)
    else:
        tick, rate = stream.time_base or 1, stream.guessed_rate or 25
        short = _declared_end(container, stream) - end * tick > 2 * max(gap * tick, 1 / rate)
    if short:
        raise broken("truncated_video", "ends")


def _declared_end(container: InputContainer, stream: VideoStream) -> float:
    """End of the video by its headers, in seconds; 0 where they have none."""
    if tag := re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "")):
        hours, minutes, seconds = map(float, tag.groups())
        return 3600 * hours + 60 * minutes + seconds
    if stream.frames and stream.average_rate:
        return float(stream.frames / stream.average_rate)
    alone = len(container.streams) == 1 and container.format.name not in _BROADCAST
    return (container.duration or 0) / av.time_base if alone else 0.0


def _deinterlaced(frames: Iterator[av.VideoFrame]) -> Iterator[av.VideoFrame]:
    """Frames, through bwdif from the first interlaced one on."""
    graph = None
    for frame in chain(frames, [None]):
        if graph is None and frame is not None:
            if not frame.interlaced_frame:
                yield frame
                continue
            graph = Graph()
            source = graph.add_buffer(
                None, frame.width, frame.height, frame.format, time_base=frame.time_base
            )
            bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
            graph.link_nodes(source, bwdif, graph.add("buffersink")).configure()
        if graph is not None:
            graph.vpush(frame)
            with suppress(av.BlockingIOError, av.EOFError):
                while True:
                    yield graph.vpull()


def _converter(
    first: av.VideoFrame, stream: VideoStream, path: Path
) -> Callable[[av.VideoFrame], Frames]:
    """Stored frame to RGB as it is shown; size and rotation are those of the first frame."""
    width, height = max(1, round(first.width * (stream.sample_aspect_ratio or 1))), first.height
    if width * height > MAX_PIXELS:
        raise VideoError("corrupt_video", path, f"its frames are {width} x {height}, too large")
    a, b, c, d = 1, 0, 0, 1  # shown x = a x + c y, y = b x + d y
    with suppress(KeyError, ValueError):  # there is none, or data that PyAV has no name for
        sides: Any = first.side_data
        a, b, _, c, d = np.frombuffer(bytes(sides["DISPLAYMATRIX"]), np.int32)[:5].tolist()
    swapped = abs(b) + abs(c) > abs(a) + abs(d)  # the nearest quarter turn
    across, down = (c, b) if swapped else (a, d)

    def convert(frame: av.VideoFrame) -> Frames:
        rgb: Any = frame.to_ndarray(
            format="rgb24", width=width, height=height, interpolation=_SCALING, threads=1
        )
        rgb = rgb.swapaxes(0, 1) if swapped else rgb
        return np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])

    return convert


def _rate(times: npt.NDArray[np.float64], stream: VideoStream) -> tuple[Fraction, bool]:
    """Average rate by the time stamps, and whether it varies."""
    declared = stream.average_rate or stream.guessed_rate or Fraction(25)
    gaps, tick = np.diff(times), float(stream.time_base or 0)
    if not gaps.any():
        return declared, False
    middle, span = np.median(gaps), times[-1] - times[0]
    varies = bool((np.abs(gaps - middle) > 0.1 * middle + 1.5 * tick).any())
    # The declared rate is exact where time stamps are rounded, but some containers are wrong.
    if abs(span * declared - len(gaps)) < 0.05 + 2 * tick * declared:
        return declared, varies
    return Fraction(len(gaps) / span).limit_denominator(2**15) or declared, varies
