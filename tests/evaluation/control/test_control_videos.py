"""Worlds make a scene's video; any video is matched with the command by time."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from control_runs import FRAMES, VIDEO, WORLD
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.evaluation.control import generate as generate_module
from sana_wm_gym.evaluation.control.generate import (
    generate,
    open_world,
    released_weights,
    scene_seed,
    weights_digest,
    whole_chunks,
)
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
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.released.replay import GeneratedClip, ReplayWorld


def clip_of(frames, fps):
    return VideoClip(np.zeros((frames, 32, 32, 3), np.uint8), fps, Path("v.mp4"))


@contextmanager
def fails_with(code, words=None):
    with pytest.raises(VideoError, match=words) as failure:
        yield
    assert failure.value.code == code


def test_generated_video_is_the_truth_and_has_the_frames_the_bench_expects(scene, tmp_path):
    cost = generate(WORLD, scene, 0, tmp_path / "v.mp4")
    clip = read_clip(tmp_path / "v.mp4")
    assert len(clip.frames) == scene.expected_video_frames == VIDEO and clip.fps == 16
    truth = true_video(scene, clip).astype(int)
    assert np.abs(clip.frames - truth).mean() < 2
    assert cost.frames == VIDEO and 0 < cost.seconds < 60 and cost.peak_memory_mb > 1
    assert cost.frames_per_s == pytest.approx(VIDEO / cost.seconds)


def test_a_path_of_broken_chunks_is_filled_up_and_cut_again(scene, tmp_path):
    short = replace(scene, c2w=scene.c2w[:31], intrinsics=scene.intrinsics[:31])
    short = replace(short, expected_video_frames=30, trim_to_frames=30)
    assert len(whole_chunks(short.c2w, 24)) == FRAMES
    generate(WORLD, short, 0, tmp_path / "v.mp4")
    assert len(read_clip(tmp_path / "v.mp4").frames) == 30


def test_noise_depends_on_the_scene_and_not_on_the_order():
    seeds = {scene_seed(s, split, f"a_{i}") for s in (0, 1) for split in "xy" for i in range(5)}
    assert len(seeds) == 20 and scene_seed(0, "x", "a_0") == scene_seed(0, "x", "a_0")


def test_a_world_of_another_rate_is_refused(scene, tmp_path):
    with fails_with("wrong_fps"):
        generate(WORLD, replace(scene, fps=24.0), 0, tmp_path / "v.mp4")


def test_weights_nobody_can_name_are_no_result(monkeypatch):
    class Unknown:
        spec = replace(WORLD.spec, name="unknown")

    monkeypatch.setattr(generate_module, "WORLDS", {"unknown": Unknown})
    monkeypatch.setattr(generate_module, "load_world", lambda name: Unknown())
    with pytest.raises(ValueError, match="random weights"):
        open_world("unknown")
    assert open_world("some.where:Unknown").kind == "code"


def test_a_world_without_a_camera_is_refused_by_name():
    with pytest.raises(ValueError, match="needs a camera, and world 'toy-12-keys'"):
        open_world("control_runs:KEYS")


@pytest.mark.parametrize("chunk", [1, 12, 30])
def test_chunks_may_have_any_length(scene, tmp_path, chunk):
    for name, world in (("a", WORLD), ("b", replace(WORLD, frames_per_chunk=chunk))):
        generate(world, scene, 0, tmp_path / f"{name}.mp4")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@dataclass(frozen=True, eq=False)
class Renders:
    """A generator of whole clips whose clips are exact."""

    scene: int
    scene_c2w: np.ndarray
    calls: list

    def clip(self, image, trajectory, prompt, *, seed):
        self.calls.append((len(trajectory), seed))
        poses, size = self.scene_c2w @ trajectory.c2w, (trajectory.height, trajectory.width)
        frames = render(generate_scene(self.scene), poses, trajectory.intrinsics, size)
        return GeneratedClip(frames, np.zeros(((len(frames) - 1) // 8 + 1, 1, 1, 1), np.float32))

    def replay(self, plan):
        return ReplayWorld(self, replace(WORLD.spec, name="clips", latent_shape=(1, 1, 1)), plan)


def test_a_generator_of_whole_clips_gets_each_path(scene, tmp_path, monkeypatch):
    generator = Renders(scene.procedural_scene, scene.scene_c2w, [])
    weights = tmp_path / "dit"
    weights.mkdir()
    monkeypatch.setattr(generate_module, "load_clip_generator", lambda name: generator)
    monkeypatch.setattr(generate_module, "released_weights", lambda name: weights)
    opened = open_world("sana-wm-bidirectional")
    assert opened.kind == "learned" and opened.weights == weights
    made, true = tmp_path / "made.mp4", tmp_path / "true.mp4"
    generate(opened.for_scene(scene), scene, 5, made)
    generate(WORLD, scene, 5, true)
    assert generator.calls == [(len(whole_chunks(scene.c2w, 24)), 5)]
    assert made.read_bytes() == true.read_bytes()


def test_released_weights_are_those_on_this_machine(tmp_path, monkeypatch):
    for name in ("dit", "vae"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SANA_WM_BIDIRECTIONAL", str(tmp_path))
    assert released_weights("sana-wm-bidirectional-refined") == tmp_path / "dit"
    with pytest.raises(FileNotFoundError, match="no release"):
        released_weights("somebody-else")


def test_digest_of_a_folder_of_weights_covers_all_of_it(tmp_path):
    folder, digest = tmp_path / "dit", weights_digest
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "1.safetensors").write_bytes(b"one")
    second = folder / "2.safetensors"
    second.write_bytes(b"two")
    before = digest(folder)
    assert digest(folder) == before
    second.write_bytes(b"TWO")
    assert digest(folder) != before
    second.write_bytes(b"two")
    second.rename(folder / "3.safetensors")
    assert digest(folder) != before


def test_both_kinds_of_the_embedded_world_have_its_weights():
    tiny, half = map(open_world, ("tiny", "tiny-bf16"))
    assert tiny.weights == half.weights


def test_a_clip_is_read_at_its_own_rate_or_the_one_given(tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((9, 32, 32, 3), np.uint8), 16)
    assert read_clip(tmp_path / "a.mp4").fps == 16
    clip = read_clip(tmp_path / "a.mp4", 24.0)
    assert clip.fps == 24 and clip.frames.shape == (9, 32, 32, 3)
    with fails_with("missing_video"):
        read_clip(tmp_path / "absent.mp4")


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
    with fails_with("variable_rate", "variable, 20 Hz"):
        read_clip(path)
    assert len(read_clip(path, 16.0).frames) == 7


@pytest.mark.parametrize(
    ("frames", "fps", "code"),
    [(VIDEO, 24.0, "wrong_fps"), (FRAMES, 8.0, "wrong_fps"), (40, 16.0, "too_short"),
     (40, 24.0, "too_short"), (20, 8.0, "too_short")],
)  # fmt: skip
def test_videos_that_do_not_cover_the_command(scene, frames, fps, code):
    with fails_with(code):
        cut(clip_of(frames, fps), scene, truncate=False)


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
    blank = clip_of(needed, fps)
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
