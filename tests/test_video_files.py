"""Videos come back frame by frame as a player shows them, whole or with an error."""

from __future__ import annotations

import os
import resource
import tracemalloc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest

from sana_wm_gym.video import VideoError, VideoWriter, probe, read_frames, read_video, write_video
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.walks import draw_walk

HEIGHT, WIDTH = 64, 96
Array = npt.NDArray[Any]


def pan(n: int, step: int = 2) -> Array:
    """A smooth picture that moves `step` pixels to the left per frame, uint8 [n, H, W, 3]."""
    y, x = np.mgrid[:HEIGHT, : WIDTH + step * n]
    waves = [np.sin(x / 7 + 2 * c) + np.cos(y / (5 + c)) + np.sin((x + y) / 11) for c in range(3)]
    picture = (127 + 40 * np.stack(waves, -1)).astype(np.uint8)
    return np.stack([picture[:, step * i : step * i + WIDTH] for i in range(n)])


def encode(
    path: Path,
    frames: Array,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    pts: Sequence[int] | None = None,
    rate: Fraction = Fraction(16),
    container: dict[str, str] | None = None,
    rotation: int | None = None,
    aspect: Fraction | None = None,
    **options: str,
) -> Path:
    """Any file that PyAV can write; `pts` count periods of `rate`."""
    with av.open(str(path), "w", options=container or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.thread_count = 1  # the same bytes each time
        if rotation is not None:
            stream.set_display_rotation(rotation)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb)
            frame.pts, frame.time_base = i if pts is None else pts[i], 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def flipped(path: Path, count: int = 60) -> Path:
    """A copy with bytes of its first half inverted, though not of its header."""
    data = bytearray(path.read_bytes())
    for i in np.random.default_rng(1).integers(len(data) // 8, len(data) // 2, count):
        data[i] ^= 0xFF
    broken = path.with_stem("flipped")
    broken.write_bytes(data)
    return broken


def error(one: Array, other: Array) -> float:
    return float(np.abs(one.astype(int) - other).mean())


# Reading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "codec", "pixels"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("MP4", "libx264", "yuv444p"),
        ("mov", "prores_ks", "yuv422p10le"),
        ("m4v", "mpeg4", "yuv420p"),
        ("mp4", "libx265", "yuv420p10le"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("webm", "libvpx-vp9", "yuv420p"),
        ("mkv", "ffv1", "yuv444p"),
        ("mkv", "libx264", "yuv420p"),
        ("avi", "libx264", "yuv420p"),
        ("avi", "huffyuv", "rgb24"),
        ("ts", "libx264", "yuv420p"),
        ("flv", "libx264", "yuv420p"),
        ("h264", "libx264", "yuv420p"),
    ],
)
def test_containers_codecs_and_pixel_formats(
    tmp_path: Path, suffix: str, codec: str, pixels: str
) -> None:
    quality = {"libsvtav1": {"crf": "8", "preset": "10"}, "mpeg4": {"qscale": "1", "b": "8000000"}}
    options = quality.get(codec, {} if codec in {"ffv1", "huffyuv", "prores_ks"} else {"crf": "5"})
    rate = Fraction(25) if suffix == "h264" else Fraction(16)  # raw streams are taken for 25 Hz
    path = encode(tmp_path / f"a.{suffix}", pan(20), codec, pixels, rate=rate, **options)
    frames, times = read_frames(path)
    assert frames.shape == (20, HEIGHT, WIDTH, 3) and error(frames, pan(20)) < 4
    np.testing.assert_allclose(times, np.arange(20) / float(rate), atol=1e-3)
    info = probe(path)
    assert (info.frames, info.height, info.width) == (20, HEIGHT, WIDTH)
    assert info.rate == rate or suffix == "h264"
    assert not info.varies and info.duration == pytest.approx(20 / float(info.rate), abs=2e-3)


def test_times_are_those_of_the_file(tmp_path: Path) -> None:
    pts = [0, 1, 2, 3, 4, 6, 9, 12, 15]
    path = encode(tmp_path / "a.mp4", pan(9), pts=pts, rate=Fraction(30))
    np.testing.assert_allclose([frame.time for frame in read_video(path)], np.array(pts) / 30)
    info = probe(path)
    assert info.varies and info.rate == Fraction(8 * 30, 15)


def test_frames_count_from_the_first_one_shown(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mkv", pan(4), pts=[7, 8, 9, 10])
    np.testing.assert_allclose(read_frames(path)[1], np.arange(4) / 16, atol=1e-3)


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_outside_the_edit_list_are_left_out(tmp_path: Path, codec: str) -> None:
    """As `ffmpeg -ss 1.0 -c copy` cuts: from the keyframe on, its lead-in hidden."""
    whole = encode(tmp_path / "whole.mp4", pan(64), codec, crf="4", g="24")
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        second = int(1 / stream.time_base)
        source.seek(second, stream=stream)
        for packet in source.demux(stream):
            if packet.dts is not None and packet.pts is not None:
                packet.dts, packet.pts = packet.dts - second, packet.pts - second
                packet.stream = copy
                target.mux(packet)
    with av.open(str(cut)) as source:
        assert source.streams.video[0].frames > 48  # more are stored than shown
    frames, times = read_frames(cut)
    assert error(frames, pan(64)[16:]) < 4
    np.testing.assert_allclose(times, np.arange(48) / 16, atol=1e-6)
    assert probe(cut).frames == 48


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotated_frames_are_turned(tmp_path: Path, turns: int) -> None:
    path = encode(tmp_path / "a.mp4", pan(4), crf="5", rotation=90 * turns)
    frames, _ = read_frames(path)
    assert error(frames, np.rot90(pan(4), turns, axes=(1, 2))) < 4
    info = probe(path)
    assert (info.height, info.width) == frames.shape[1:3]
    assert (info.rotation - 90 * turns) % 360 == 0


def test_mirrored_frames_are_mirrored(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=16, options={"crf": "5"})
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        output.mux(stream.encode(av.VideoFrame.from_ndarray(pan(1)[0])))
        output.mux(stream.encode())
    assert error(read_frames(path)[0], pan(1)[:, :, ::-1]) < 4


def test_anamorphic_frames_get_square_pixels(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", pan(4), crf="5", aspect=Fraction(4, 3))
    frames, _ = read_frames(path)
    assert frames.shape == (4, HEIGHT, WIDTH * 4 // 3, 3)
    assert probe(path).sample_aspect_ratio == Fraction(4, 3)
    # Every fourth column lies on every third stored one.
    assert error(frames[:, :, 4:-4].mean(2), pan(4)[:, :, 3:-3].mean(2)) < 4


def test_interlaced_frames_are_deinterlaced(tmp_path: Path) -> None:
    fields = pan(40, step=4)
    woven = fields[::2].copy()
    woven[:, ::2] = fields[1::2, ::2]  # the lower field is first
    options = {"crf": "4", "x264-params": "bff=1"}
    path = encode(tmp_path / "a.mp4", woven, pixels="yuv444p", **options)
    frames, times = read_frames(path)
    assert frames.shape == woven.shape
    np.testing.assert_allclose(times, np.arange(20) / 16)
    inside = np.s_[:, 4:-4]
    assert error(frames[inside], fields[::2][inside]) < 2 < 6 < error(woven, fields[::2])


def test_no_more_than_a_few_frames_are_held(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", np.zeros((60, 256, 256, 3), np.uint8))
    one = 256 * 256 * 3
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_video(path)) == 60
        assert tracemalloc.get_traced_memory()[1] < 5 * one
        tracemalloc.reset_peak()
        assert len(read_frames(path)[0]) == 60
        assert tracemalloc.get_traced_memory()[1] < 66 * one
        tracemalloc.reset_peak()
        assert len(read_frames(path, 8)[0]) == 8
        assert tracemalloc.get_traced_memory()[1] < 13 * one
    finally:
        tracemalloc.stop()


# Files that are not whole -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mkv", "libx264", {}),
        ("mkv", "ffv1", {}),
        ("webm", "libvpx-vp9", {}),
        ("avi", "mpeg4", {}),
        ("flv", "libx264", {}),
    ],
)
def test_a_file_that_was_cut_short_is_an_error(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str]
) -> None:
    whole = encode(tmp_path / f"whole.{suffix}", pan(60), codec, container=options, g="20")
    half = whole.with_stem("half")
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size * 2 // 3])
    assert len(read_frames(whole)[0]) == 60
    with pytest.raises(VideoError, match=rf"half\.{suffix}: .* whole frames") as failure:
        read_frames(half)
    assert failure.value.code == "truncated_video"


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("mp4", "libx264"), ("ts", "libx264"), ("mp4", "mpeg4"), ("webm", "libvpx-vp9"),
     ("mp4", "libsvtav1"), ("mov", "prores_ks")],
)  # fmt: skip
def test_damaged_frames_are_an_error_and_not_grey(tmp_path: Path, suffix: str, codec: str) -> None:
    pixels = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    whole = encode(tmp_path / f"whole.{suffix}", pan(60), codec, pixels)
    with pytest.raises(VideoError, match=r"flipped\.") as failure:
        list(read_video(flipped(whole)))
    assert failure.value.code in {"corrupt_video", "truncated_video"}


def test_a_broadcast_may_begin_in_the_middle(tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.ts", pan(100), g="20")
    data = whole.read_bytes()
    late = tmp_path / "late.ts"
    late.write_bytes(data[: 188 * 3] + data[len(data) // 3 // 188 * 188 :])
    frames, _ = read_frames(late)
    assert 20 <= len(frames) < 70 and error(frames, pan(100)[-len(frames) :]) < 8


def test_what_is_no_video_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "text.txt").write_text("not a video, but FFmpeg would print it\n" * 20)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    encode(tmp_path / "picture.png", pan(1), "png", "rgb24", container={"update": "1"})
    with av.open(str(tmp_path / "sound.wav"), "w") as output:
        sound = output.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        output.mux(sound.encode(silence))
    for path in [*tmp_path.iterdir(), tmp_path / "absent.mp4"]:
        missing = path.stem in {"absent", "folder", "pipe"}
        for read in (probe, read_video):
            with pytest.raises(VideoError) as failure:
                read(path)
            assert failure.value.code == ("missing_video" if missing else "corrupt_video")
            assert str(failure.value).startswith(f"{path}: ") and "\n" not in str(failure.value)


# Writing ----------------------------------------------------------------------------------------


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("near_lossless", [False, True])
@pytest.mark.parametrize("fps", [16, 0.67, 29.97, 30000 / 1001, Fraction(24000, 1001)])
def test_what_is_written_is_read(tmp_path: Path, fps: Any, near_lossless: bool) -> None:
    path = tmp_path / "new" / "a.mp4"
    write_video(path, iter(pan(20)), fps, near_lossless=near_lossless)
    assert [one.name for one in path.parent.iterdir()] == ["a.mp4"]
    info, (frames, times) = probe(path), read_frames(path)
    assert float(info.rate) == pytest.approx(float(fps), rel=1e-9) and not info.varies
    assert isinstance(fps, float) or info.rate == fps
    np.testing.assert_allclose(times, np.arange(20) / float(fps), atol=1e-4)
    assert error(frames, pan(20)) < (1.2 if near_lossless else 3)


def test_names_are_files_whatever_is_in_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("2026-11-29T10:00:00/a.mp4", "-x.mp4", "a b %d.MP4", "http:a.mp4"):
        write_video(name, pan(3), 16)
        assert len(read_frames(name)[0]) == 3 and Path(name).is_file()


@pytest.mark.parametrize(
    ("name", "frames", "fps", "message"),
    [
        ("a.mp4", np.zeros((0, 32, 32, 3), np.uint8), 16, "given no frames"),
        ("a.mp4", np.zeros((2, 33, 32, 3), np.uint8), 16, "33 x 32, expected even"),
        ("a.mp4", np.zeros((2, 32, 32, 3)), 16, "float64"),
        ("a.mp4", np.zeros((2, 32, 32), np.uint8), 16, "expected \\[height, width, 3\\]"),
        ("a.mp4", [pan(1)[0], pan(1)[0, 2:]], 16, "frame 1"),
        ("a.mp4", pan(2), 0, "fps is 0"),
        ("a.mp4", pan(2), float("nan"), "fps is nan"),
        ("a.gif", pan(2), 16, "'.mp4'"),
    ],
)
def test_bad_frames_leave_no_file(
    tmp_path: Path, name: str, frames: Any, fps: float, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / name, frames, fps)
    assert not list(tmp_path.iterdir())


def test_a_source_that_fails_leaves_the_old_video(tmp_path: Path) -> None:
    def broken() -> Iterator[Array]:
        yield from pan(5)
        raise KeyboardInterrupt

    path = tmp_path / "a.mp4"
    write_video(path, pan(3), 16)
    with pytest.raises(KeyboardInterrupt):
        write_video(path, broken(), 16)
    assert list(tmp_path.iterdir()) == [path] and len(read_frames(path)[0]) == 3


@pytest.mark.parametrize("size", [0, 1000, 40_000])
def test_a_full_disk_is_an_error_and_leaves_the_old_video(tmp_path: Path, size: int) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (49, 64, 64, 3), dtype=np.uint8)
    path = tmp_path / "a.mp4"
    write_video(path, pan(3), 16)
    with full_disk(size), pytest.raises(VideoError, match="a.mp4"):
        write_video(path, noise, 16)
    assert list(tmp_path.iterdir()) == [path] and len(read_frames(path)[0]) == 3


def test_a_file_that_lacks_frames_does_not_take_the_name(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    writer = VideoWriter(path, 16)
    writer.add(pan(5))
    writer._frames += 1  # as if the encoder had lost one
    with pytest.raises(VideoError, match="5 of 6 frames are in the file") as failure:
        writer.close()
    assert failure.value.code == "not_written" and not list(tmp_path.iterdir())


def test_without_an_encoder_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str, mode: str) -> None:
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av, "Codec", none)
    with pytest.raises(VideoError, match="no encoder libx264"):
        write_video(tmp_path / "new" / "a.mp4", iter([]), 16)
    assert not list(tmp_path.iterdir())


def test_a_writer_without_frames_leaves_nothing(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "a.mp4", 16).close()
    with VideoWriter(tmp_path / "b.mp4", 16) as writer:
        writer.add([])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("near_lossless", [False, True])
def test_the_same_frames_are_the_same_bytes(tmp_path: Path, near_lossless: bool) -> None:
    """libx264's rate control differs from run to run unless set otherwise."""
    frames, path = render(*draw_walk(5, 3, 48)), tmp_path / "a.mp4"
    made = set()
    for _ in range(30):
        write_video(path, frames, 16, near_lossless=near_lossless)
        made.add(path.read_bytes())
    assert len(made) == 1
