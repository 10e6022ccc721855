"""Worlds make a scene's video, and results carry the digest of their weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from control_runs import FRAMES, VIDEO, WORLD

from sana_wm_gym.evaluation.control import generate as generate_module
from sana_wm_gym.evaluation.control.generate import (
    generate,
    open_world,
    released_weights,
    scene_seed,
    weights_digest,
    whole_chunks,
)
from sana_wm_gym.evaluation.control.score_video import read_clip, true_video
from sana_wm_gym.video import VideoError
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.released.replay import GeneratedClip, ReplayWorld


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
    with pytest.raises(VideoError) as failure:
        generate(WORLD, replace(scene, fps=24.0), 0, tmp_path / "v.mp4")
    assert failure.value.code == "wrong_fps"


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
