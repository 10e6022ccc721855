"""Videos are read at their rate, cut to the command and matched with it by time."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from control_runs import FRAMES, VIDEO
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.evaluation.control.score_video import (
    Scoring,
    VideoClip,
    cut,
    fitted_intrinsics,
    poses_at,
    read_clip,
    score_video,
    true_video,
)
from sana_wm_gym.poses import OracleEstimator
from sana_wm_gym.video import VideoError, write_video


def test_a_clip_is_read_at_its_own_rate_or_the_one_given(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((9, 32, 32, 3), np.uint8), 16)
    assert read_clip(tmp_path / "a.mp4").fps == 16
    clip = read_clip(tmp_path / "a.mp4", 24.0)
    assert clip.fps == 24 and clip.frames.shape == (9, 32, 32, 3)
    with pytest.raises(VideoError) as failure:
        read_clip(tmp_path / "absent.mp4")
    assert failure.value.code == "missing_video"


def test_unevenly_spaced_frames_are_refused_unless_a_rate_is_given(tmp_path):
    path = tmp_path / "uneven.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=30)
        stream.width = stream.height = 32
        for pts in (0, 1, 2, 3, 5, 7, 9):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = pts, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(VideoError, match="variable, 20 Hz") as failure:
        read_clip(path)
    assert failure.value.code == "variable_rate"
    assert len(read_clip(path, 16.0).frames) == 7


def clip_of(frames, fps):
    return VideoClip(np.zeros((frames, 16, 16, 3), np.uint8), fps, Path("v.mp4"))


@pytest.mark.parametrize(
    ("frames", "fps", "code"),
    [(VIDEO, 24.0, "wrong_fps"), (FRAMES, 8.0, "wrong_fps"), (40, 16.0, "too_short"),
     (40, 24.0, "too_short"), (20, 8.0, "too_short")],
)  # fmt: skip
def test_videos_that_do_not_cover_the_command(scene, frames, fps, code):
    with pytest.raises(VideoError) as failure:
        cut(clip_of(frames, fps), scene, truncate=False)
    assert failure.value.code == code


def test_a_video_that_ends_early_may_be_scored_in_part(scene):
    clip, poses = cut(clip_of(40, 16.0), scene, truncate=True)
    assert poses == len(clip.frames) == 40
    clip, poses = cut(clip_of(30, 24.0), scene, truncate=True)
    # The last frame is at 29/24 s; the nearest pose that half a frame reaches is number 19.
    assert poses == 20 and len(clip.frames) == 29


def test_rates_that_differ_by_rounding_are_one_and_a_tail_is_left_out(scene):
    clip, poses = cut(clip_of(FRAMES + 20, 16.02), scene, truncate=False)
    assert clip.fps == 16 and poses == len(clip.frames) == VIDEO


@given(fps=st.floats(5, 60), extra=st.integers(0, 30))
@settings(max_examples=25)
def test_what_is_cut_ends_with_the_command(scene, fps, extra):
    needed = round((VIDEO - 1) * fps / 16) + 1
    if abs(fps - 16) >= 0.1 and needed + extra in (VIDEO, FRAMES):
        return
    clip, poses = cut(clip_of(needed + extra, fps), scene, truncate=False)
    assert poses == VIDEO
    assert abs((len(clip.frames) - 1) / clip.fps - (VIDEO - 1) / 16) <= 0.5 / clip.fps + 1e-9


def test_poses_between_poses_lie_between_them(scene):
    np.testing.assert_array_equal(poses_at(scene, 10, 16.0), scene.c2w[:10])
    double = poses_at(scene, 20, 32.0)
    np.testing.assert_allclose(double[::2], scene.c2w[:10], atol=1e-12)
    between = (scene.c2w[:10, :3, 3] + scene.c2w[1:11, :3, 3]) / 2
    np.testing.assert_allclose(double[1::2, :3, 3], between, atol=1e-12)
    gram = double[:, :3, :3] @ double[:, :3, :3].transpose(0, 2, 1)
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("fps", [16.0, 24.0, 10.0])
def test_the_true_video_with_known_poses_is_perfect_at_any_rate(scene, fps):
    needed = round((VIDEO - 1) * fps / 16) + 1
    blank = VideoClip(np.zeros((needed, 32, 32, 3), np.uint8), fps, Path("v.mp4"))
    truth = true_video(scene, blank)
    oracle = OracleEstimator(poses_at(scene, needed, fps))
    document = score_video(scene, replace(blank, frames=truth), Scoring(oracle)).document
    assert document["pose"]["source"] == "oracle"
    assert document["pose"]["frames_scored"] == document["pose"]["frames_asked"] == 12
    # Between frames the nearest one counts: at most half a period at the path's speed.
    room = 1e-6 if fps == 16 else 0.02
    for numbers in document["pose"]["scores"].values():
        assert numbers["RotErr"] < (1e-5 if fps == 16 else 0.5) and numbers["TransErr"] < room
    (window,) = document["twin"]["windows"]
    assert window["psnr_db"] == 100 and window["repeat_db"] < 40
    for name in ("revisit", "drift"):
        assert document[name] == document["twin"][name]
    paths = document["paths"]
    np.testing.assert_allclose(paths["estimated"], paths["commanded"], atol=0.03)
    assert paths["truth_estimated"] == paths["estimated"]


def test_intrinsics_follow_resize_and_crop(scene):
    np.testing.assert_allclose(fitted_intrinsics(scene, (64, 64)), 2 * scene.intrinsics)
    wide = fitted_intrinsics(scene, (32, 64))[0]
    np.testing.assert_allclose(wide, scene.intrinsics[0] * 2 - [0, 0, 0, 16])
