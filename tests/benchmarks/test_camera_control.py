"""The camera-control benchmark: what it scores, what it survives, what it refuses."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from benchmarks import camera_control, score
from sana_wm_gym.evaluation.aggregate import MixedScoresError
from sana_wm_gym.evaluation.bench.build import build_bench
from sana_wm_gym.evaluation.bench.layout import (
    EXPORT,
    FOLDERS,
    camera_file,
    list_scenes,
    read_bench,
)
from sana_wm_gym.evaluation.bench.results import MethodFolder, read_pose_errors
from sana_wm_gym.evaluation.control import jobs as jobs_module
from sana_wm_gym.evaluation.control import worlds
from sana_wm_gym.evaluation.control.config import ControlConfig
from sana_wm_gym.evaluation.control.generate import (
    fitted_intrinsics,
    generate,
    scene_seed,
    whole_chunks,
)
from sana_wm_gym.evaluation.control.meter import Meter
from sana_wm_gym.evaluation.control.published import published
from sana_wm_gym.evaluation.control.score_video import (
    Scoring,
    cut,
    poses_at,
    score_video,
    true_video,
)
from sana_wm_gym.evaluation.control.videos import Clip, read_clip
from sana_wm_gym.poses import OracleEstimator, RotationOnly
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.video import VideoError, VideoWriter, write_video
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.released.replay import Clip as ReplayClip
from sana_wm_gym.world.released.replay import ReplayWorld

WORLD = ProceduralWorld(size=(32, 32), scenes=(5,))
FRAMES = 49  # poses; two chunks
VIDEO = FRAMES - 1


@dataclass(frozen=True)
class Drifting:
    """An estimator without eyes: every camera moves right and turns a little."""

    source: str = "estimated"

    def estimate(self, frames, intrinsics, fps):
        info = EstimatorInfo("drifting", "1", self.source, "full", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, 0, 3] = np.linspace(0, 1, len(frames))
        return PoseEstimate(poses, np.ones(len(frames), dtype=bool), info)


@dataclass(frozen=True)
class Blind:
    """An estimator that places nothing but frame 0."""

    def estimate(self, frames, intrinsics, fps):
        info = EstimatorInfo("blind", "1", "estimated", "static", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        return PoseEstimate(poses, np.arange(len(frames)) < 1, info)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench")
    build_bench(root, WORLD.spec, 2, FRAMES)
    return root


@pytest.fixture(scope="module")
def scene(bench):
    return read_bench(bench, "simple")[0]


@pytest.fixture
def own_bench(bench, tmp_path):
    """A copy that a test may damage."""
    root = tmp_path / "bench"
    for path in bench.rglob("*"):
        if path.is_file():
            copy = root / path.relative_to(bench)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    return root


@pytest.fixture
def made(monkeypatch):
    """Which scenes were generated."""
    seen = []

    def counted(world, scene, seed, path):
        seen.append(path.name.removesuffix("_generated.mp4"))
        return generate(world, scene, seed, path)

    monkeypatch.setattr(jobs_module, "generate", counted)
    return seen


def config(bench, folder, **changes):
    plain = ControlConfig(
        world="procedural",
        split=("simple",),
        bench=str(bench),
        folder=str(folder),
        estimator=Drifting(),
        workers=1,
    )
    return replace(plain, **changes)


def silent():
    return Console(file=open(os.devnull, "w"), width=200)


def run(settings):
    return camera_control.benchmark(settings, silent())


def results(folder, split="simple"):
    return {p.stem: json.loads(p.read_text()) for p in (folder / "scenes" / split).glob("*.json")}


def break_camera(root, scene):
    camera_file(root, "simple", scene).write_bytes(b"no camera")


# Videos -----------------------------------------------------------------------------------------


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


# Time -------------------------------------------------------------------------------------------


def clip_of(frames, fps):
    return Clip(np.zeros((frames, 16, 16, 3), np.uint8), fps, Path("v.mp4"))


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
    assert poses_at(scene, 10, 16.0) is not None
    np.testing.assert_array_equal(poses_at(scene, 10, 16.0), scene.c2w[:10])
    double = poses_at(scene, 20, 32.0)
    np.testing.assert_allclose(double[::2], scene.c2w[:10], atol=1e-12)
    np.testing.assert_allclose(
        double[1::2, :3, 3], (scene.c2w[:10, :3, 3] + scene.c2w[1:11, :3, 3]) / 2, atol=1e-12
    )
    gram = double[:, :3, :3] @ double[:, :3, :3].transpose(0, 2, 1)
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (20, 1, 1)), atol=1e-12)


@pytest.mark.parametrize("fps", [16.0, 24.0, 10.0])
def test_the_true_video_with_known_poses_is_perfect_at_any_rate(scene, fps):
    needed = round((VIDEO - 1) * fps / 16) + 1
    blank = Clip(np.zeros((needed, 32, 32, 3), np.uint8), fps, Path("v.mp4"))
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


# Generating -------------------------------------------------------------------------------------


def test_generated_video_is_the_truth_and_has_the_frames_the_bench_expects(scene, tmp_path):
    cost = generate(WORLD, scene, 0, tmp_path / "v.mp4")
    clip = read_clip(tmp_path / "v.mp4")
    assert len(clip.frames) == scene.expected_video_frames == VIDEO and clip.fps == 16
    truth = true_video(scene, clip).astype(int)
    assert np.abs(clip.frames - truth).mean() < 2
    assert cost.frames == VIDEO and 0 < cost.seconds < 60 and cost.peak_memory_mb > 1
    assert cost.frames_per_s == pytest.approx(VIDEO / cost.seconds)


def test_a_path_of_broken_chunks_is_filled_up_and_cut_again(scene, tmp_path):
    short = replace(
        scene,
        c2w=scene.c2w[:31],
        intrinsics=scene.intrinsics[:31],
        expected_video_frames=30,
        trim_to_frames=30,
    )
    assert len(whole_chunks(short.c2w)) == FRAMES
    generate(WORLD, short, 0, tmp_path / "v.mp4")
    assert len(read_clip(tmp_path / "v.mp4").frames) == 30


def test_noise_depends_on_the_scene_and_not_on_the_order():
    seeds = {scene_seed(s, split, f"a_{i}") for s in (0, 1) for split in "xy" for i in range(5)}
    assert len(seeds) == 20 and scene_seed(0, "x", "a_0") == scene_seed(0, "x", "a_0")


def test_a_world_of_another_rate_is_refused(scene, tmp_path):
    with pytest.raises(VideoError) as failure:
        generate(WORLD, replace(scene, fps=24.0), 0, tmp_path / "v.mp4")
    assert failure.value.code == "wrong_fps"


def test_meter_counts_only_while_it_runs():
    meter = Meter()
    time.sleep(0.05)
    meter.resume()
    meter.pause()
    assert 0 <= meter.cost(1).seconds < 0.05


def test_weights_nobody_can_name_are_no_result(monkeypatch):
    class Unknown:
        spec = replace(WORLD.spec, name="unknown")

    monkeypatch.setattr(worlds, "load_world", lambda name: Unknown())
    with pytest.raises(ValueError, match="random weights"):
        worlds.open_world("unknown")
    worlds.open_world.cache_clear()


@dataclass(frozen=True, eq=False)
class Renders:
    """A generator of whole clips whose clips are exact."""

    scene: int
    scene_c2w: np.ndarray
    asked: list

    def clip(self, image, trajectory, prompt, *, seed):
        self.asked.append((len(trajectory), seed))
        frames = render(
            generate_scene(self.scene),
            self.scene_c2w @ trajectory.c2w,
            trajectory.intrinsics,
            (trajectory.height, trajectory.width),
        )
        return ReplayClip(frames, np.zeros(((len(frames) - 1) // 8 + 1, 1, 1, 1), np.float32))

    def replay(self, plan):
        return ReplayWorld(self, replace(WORLD.spec, name="clips", latent_shape=(1, 1, 1)), plan)


def test_a_generator_of_whole_clips_is_told_each_path(scene, tmp_path, monkeypatch):
    generator = Renders(scene.procedural_scene, scene.scene_c2w, [])
    weights = tmp_path / "dit"
    weights.mkdir()
    monkeypatch.setattr(worlds, "load_clip_generator", lambda name: generator)
    monkeypatch.setattr(worlds, "released_weights", lambda name: weights)
    worlds.open_world.cache_clear()
    opened = worlds.open_world("sana-wm-bidirectional")
    assert opened.kind == "learned" and opened.weights == weights
    made, true = tmp_path / "made.mp4", tmp_path / "true.mp4"
    generate(opened.for_scene(scene), scene, 5, made)
    generate(WORLD, scene, 5, true)
    assert generator.asked == [(len(whole_chunks(scene.c2w)), 5)]
    assert made.read_bytes() == true.read_bytes()
    worlds.open_world.cache_clear()


def test_released_weights_are_those_on_this_machine(tmp_path, monkeypatch):
    for name in ("dit", "vae"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("SANA_WM_BIDIRECTIONAL", str(tmp_path))
    assert worlds.released_weights("sana-wm-bidirectional-refined") == tmp_path / "dit"
    with pytest.raises(FileNotFoundError, match="no release"):
        worlds.released_weights("somebody-else")


def test_results_of_a_folder_of_weights_are_signed_with_all_of_it(tmp_path):
    folder = tmp_path / "dit"
    (folder / "shards").mkdir(parents=True)
    (folder / "shards" / "1.safetensors").write_bytes(b"one")
    (folder / "2.safetensors").write_bytes(b"two")
    before = worlds.weights_digest(folder)
    assert worlds.weights_digest(folder) == before
    (folder / "2.safetensors").write_bytes(b"TWO")
    assert worlds.weights_digest(folder) != before
    (folder / "2.safetensors").write_bytes(b"two")
    (folder / "2.safetensors").rename(folder / "3.safetensors")
    assert worlds.weights_digest(folder) != before


def test_both_kinds_of_the_embedded_world_are_signed_with_its_file():
    assert worlds.open_world("tiny-bf16").weights == worlds.open_world("tiny").weights


# A run ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_run(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = config(bench, folder, split=("simple", "hard"))
    return run(settings), settings, folder


def test_run_writes_the_public_layout(finished_run):
    status, _, folder = finished_run
    assert status == 0
    method = MethodFolder(folder / "procedural")
    for split in ("simple", "hard"):
        videos = method.videos(split)
        assert len(videos) == 2
        errors = read_pose_errors(method.poses_file(split))
        assert set(errors) == set(videos)
        for scene, result in results(folder, split).items():
            assert errors[scene].rot_err_deg == result["pose"]["scores"]["release"]["RotErr"]
        for name in ("revisit_consistency", "temporal_degradation", "summary"):
            assert method.eval_file(split, name).is_file()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["run"]["seed"] == 0 and summary["run"]["weights_sha256"] is None
    assert {"command", "commit", "device", "date"} <= set(summary)
    simple = summary["splits"]["simple"]
    assert simple["asked"] == simple["scored"] == 2 and not simple["failures"]
    assert simple["release"]["source"] == "estimated"
    for key in ("rollout", "floor", "motionless", "no_rotation"):
        assert simple["release"][key]["rot_err"]["clips"] == 2
    # What the estimator cannot see it cannot tell apart.
    assert simple["release"]["rollout"] == simple["release"]["floor"]
    assert simple["windows"][0]["psnr_db"]["value"] > 35
    assert simple["cost"]["frames_per_s"]["clips"] == 2


def test_report_needs_no_other_file(finished_run):
    _, _, folder = finished_run
    html = (folder / "report.html").read_text()
    assert "http" not in html and "url(" not in html and "<script" not in html
    sources = re.findall(r'(?:src|href)="([^"]{0,40})', html)
    assert len(sources) == 4 and all(s.startswith("data:image/png;base64,iVBOR") for s in sources)
    assert html.count("<svg") == 8 and html.count("<polyline") == 8 * 3
    summary = json.loads((folder / "summary.json").read_text())
    for fact in ("command", "commit", "device", "date"):
        assert str(summary[fact]) in html.replace("&#x27;", "'")
    assert "SANA-WM+refiner" in html and "do not compare one to one" in html
    assert "No LPIPS column" in html or "LPIPS" in html
    markdown = (folder / "report.md").read_text()
    for text in ("2/2 clips, 24/24 frames", "4.50", "null: motionless", "floor: true frames"):
        assert text in markdown and text in html
    assert "Failures" not in markdown


def test_tables_agree_with_the_summary(finished_run):
    _, _, folder = finished_run
    summary = json.loads((folder / "summary.json").read_text())["splits"]["hard"]
    errors = [result["pose"]["scores"]["release"] for result in results(folder, "hard").values()]
    mean = np.mean([error["RotErr"] for error in errors])
    assert summary["release"]["rollout"]["rot_err"]["value"] == pytest.approx(mean)
    lines = (folder / "report.md").read_text().split("## Camera control, hard (release")[1]
    assert f"| procedural (estimated) | {mean:.2f} |" in lines


def test_started_again_it_repeats_nothing(finished_run, made, monkeypatch):
    _, settings, folder = finished_run
    before = {path: path.read_bytes() for path in (folder / "scenes").rglob("*")
              if path.is_file()}  # fmt: skip
    monkeypatch.setattr(jobs_module, "score_video", None)
    assert run(settings) == 0
    assert made == [] and before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"interval": 2}, {"floor": False}, {"estimator": Blind()}]
)
def test_another_run_is_not_mixed_in(finished_run, changes):
    _, settings, _ = finished_run
    (key,) = changes
    with pytest.raises(ValueError, match=f"{key} was .* not mixed"):
        run(replace(settings, **changes))


def test_shards_share_a_folder(bench, tmp_path, made):
    parts = [config(bench, tmp_path, shard=i, shards=2) for i in (0, 1)]
    assert run(parts[0]) == 0 and len(made) == 1
    assert run(parts[1]) == 0 and len(made) == len(set(made)) == 2
    # The last to finish reports on all of them.
    assert json.loads((tmp_path / "summary.json").read_text())["splits"]["simple"]["scored"] == 2


@pytest.mark.parametrize("where", ["generate", "score_video"])
def test_stopped_anywhere_it_goes_on(bench, tmp_path, monkeypatch, made, where):
    """Stopped at its second scene, while the video is made or before it is scored."""
    real, calls = getattr(jobs_module, where), []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(jobs_module, where, stop)
    settings = config(bench, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    first = results(tmp_path)
    assert len(first) == 1
    monkeypatch.setattr(jobs_module, where, real)
    assert run(settings) == 0
    assert len(results(tmp_path)) == 2 and len(made) == len(set(made)) == 2
    assert results(tmp_path)[next(iter(first))] == next(iter(first.values()))


def test_killed_process_loses_nothing(bench, tmp_path, made):
    """SIGKILL of a run with two workers once a result is there; then the same run in one process,
    and from the start in another folder: what workers made is what one process makes."""
    folder = tmp_path / "run"
    settings = config(bench, folder, estimator=RotationOnly(), floor=False)
    command = [sys.executable, "-m", "benchmarks.camera_control", "world=procedural"]
    command += ["split=simple", f"bench={bench}", f"folder={folder}", "workers=2", "floor=false"]
    command += [f"estimator._target_={RotationOnly.__module__}.RotationOnly"]
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen(
            command, cwd=Path(score.__file__).parents[1], stdout=nothing, stderr=nothing
        )
    while not list((folder / "scenes").rglob("*.json")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = results(folder)
    assert done, "the process ended without a result"
    run(settings)
    again = results(folder)
    assert len(again) == 2 and not set(made) & set(done)
    assert all(again[scene] == result for scene, result in done.items())
    run(replace(settings, folder=str(tmp_path / "other")))
    for scene, result in results(tmp_path / "other").items():
        for key in result.keys() - {"taken", "cost"}:
            assert result[key] == again[scene][key]


def test_a_bad_scene_costs_only_itself_and_is_tried_again(own_bench, tmp_path, made):
    settings = config(own_bench, tmp_path / "run")
    one, other = (entry.id for entry in list_scenes(own_bench, "simple"))
    camera = camera_file(own_bench, "simple", one)
    whole = camera.read_bytes()
    break_camera(own_bench, one)
    assert run(settings) == 1
    found = results(tmp_path / "run")
    assert found[one]["code"] == "corrupt_file" and found[other]["status"] == "scored"
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())["splits"]["simple"]
    assert summary["release"]["clips_asked"] == 2 and summary["release"]["clips_scored"] == 1
    assert summary["release"]["failures"] == {"corrupt_file": 1}
    for name in ("report.md", "report.html"):
        text = (tmp_path / "run" / name).read_text()
        assert "1/2 clips, 12/24 frames; corrupt_file 1" in text and "Failures" in text
    camera.write_bytes(whole)
    assert run(settings) == 0
    assert sorted(made) == sorted([one, other])


def test_a_scored_scene_whose_files_change_is_refused(own_bench, tmp_path):
    settings = config(own_bench, tmp_path / "run", scenes=1)
    assert run(settings) == 0
    break_camera(own_bench, list_scenes(own_bench, "simple")[0].id)
    with pytest.raises(ValueError, match="not mixed"):
        run(settings)


@pytest.mark.parametrize("fault", ["nan", "skewed", "missing picture", "short"])
def test_bad_bench_data_has_codes(own_bench, tmp_path, fault):
    entry = list_scenes(own_bench, "simple")[0]
    camera = own_bench / FOLDERS["simple"] / EXPORT / f"{entry.id}.npz"
    arrays = dict(np.load(camera))
    if fault == "missing picture":
        (own_bench / "images" / f"{entry.id}.png").unlink()
    elif fault == "short":
        arrays["c2w"] = arrays["c2w"][:-4]
    elif fault == "nan":
        arrays["c2w"][3, 0, 0] = np.nan
    else:
        arrays["c2w"][3, 0, 0] += 0.1
    np.savez(camera, **arrays)
    assert run(config(own_bench, tmp_path / "run")) == 1
    codes = {"nan": "bad_poses", "skewed": "bad_poses", "missing picture": "missing_file",
             "short": "inconsistent"}  # fmt: skip
    found = results(tmp_path / "run")
    assert found.pop(entry.id)["code"] == codes[fault]
    assert all(result["status"] == "scored" for result in found.values())


def test_poses_that_cannot_be_read_are_told_and_the_rest_is_scored(bench, tmp_path):
    assert run(config(bench, tmp_path, estimator=Blind(), scenes=1)) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())["splits"]["simple"]
    assert summary["release"]["rollout"]["rot_err"]["value"] is None
    assert [f["code"] for f in summary["failures"]] == ["too_few_valid"]
    assert summary["windows"][0]["psnr_db"]["clips"] == 1
    text = (tmp_path / "report.md").read_text()
    assert "0/1 clips, 0/12 frames; too_few_valid 1" in text and "1 of 12 poses read" in text
    method = MethodFolder(tmp_path / "procedural")
    assert read_pose_errors(method.poses_file("simple")) == {}


def test_what_nobody_expected_is_a_failure_of_that_scene(bench, tmp_path, monkeypatch):
    real = jobs_module.generate

    def fail(world, scene, seed, path):
        if "room_001" in path.name or "courtyard_001" in path.name:
            raise MemoryError("too large")
        return real(world, scene, seed, path)

    monkeypatch.setattr(jobs_module, "generate", fail)
    assert run(config(bench, tmp_path)) == 1
    codes = {result.get("code"): result.get("message") for result in results(tmp_path).values()}
    assert "MemoryError: too large" in codes["unexpected"]


def test_a_video_that_could_not_be_written_is_made_again(bench, tmp_path, monkeypatch):
    real = VideoWriter._encode

    def full(writer, frame):
        if frame is None:
            raise VideoError("not_written", writer.path, "No space left on device")
        real(writer, frame)

    with monkeypatch.context() as patch:
        patch.setattr(VideoWriter, "_encode", full)
        assert run(config(bench, tmp_path)) == 1
    assert {result["code"] for result in results(tmp_path).values()} == {"not_written"}
    assert not list(tmp_path.rglob("*.mp4*"))
    assert run(config(bench, tmp_path)) == 0


def test_known_and_estimated_poses_are_never_averaged(bench, tmp_path):
    settings = config(bench, tmp_path)
    assert run(settings) == 0
    path = next((tmp_path / "scenes" / "simple").glob("*.json"))
    result = json.loads(path.read_text())
    result["pose"]["source"] = "oracle"
    path.write_text(json.dumps(result))
    with pytest.raises(MixedScoresError, match="oracle"):
        run(settings)


# Somebody else's videos -------------------------------------------------------------------------


def foreign(bench, folder, split, fps, name):
    """True videos at another rate and size, as another tool would leave them."""
    folder.mkdir(parents=True)
    for one in read_bench(bench, split):
        frames = round((VIDEO - 1) * fps / 16) + 1
        blank = Clip(np.zeros((frames, 48, 64, 3), np.uint8), fps, Path("v.mp4"))
        write_video(folder / name.format(one.id), true_video(one, blank), fps, near_lossless=True)


@pytest.fixture
def scorer(monkeypatch):
    monkeypatch.setattr(score, "LKBundleAdjustment", Drifting)
    monkeypatch.setattr(score, "Console", silent)
    return lambda *arguments: score.main([*map(str, arguments), "--workers", "1"])


def test_flat_videos_at_another_rate_and_size_are_matched_by_time(bench, tmp_path, scorer):
    foreign(bench, tmp_path / "theirs", "hard", 24.0, "{}.mp4")
    out = tmp_path / "out"
    given_options = ("--videos", tmp_path / "theirs", "--bench", bench, "--out", out)
    assert scorer(*given_options) == 2  # one split's videos, and nobody said which
    assert scorer(*given_options, "--split", "hard") == 0
    for result in results(out, "hard").values():
        assert result["video"] == {"frames": 71, "fps": 24.0, "height": 48, "width": 64}
        assert result["cost"] is None and result["pose"]["frames_scored"] == 12
        (window,) = result["twin"]["windows"]
        assert window["psnr_db"] > 35 > window["repeat_db"]
    report = (out / "report.md").read_text()
    assert "# Camera control: theirs" in report and "Speed" not in report
    before = {p: p.stat().st_mtime_ns for p in (out / "scenes").rglob("*.json")}
    assert scorer(*given_options, "--split", "hard") == 0
    assert before == {p: p.stat().st_mtime_ns for p in before}


def test_published_layout_with_its_failures(bench, tmp_path, scorer):
    theirs, out = tmp_path / "theirs", tmp_path / "out"
    foreign(bench, theirs / "simple_60s", "simple", 16.0, "{}_generated.mp4")
    one, other = sorted((theirs / "simple_60s").iterdir())
    one.unlink()
    command = ("--videos", theirs, "--bench", bench, "--out", out)
    assert scorer(*command) == 1
    codes = sorted(result.get("code", "") for result in results(out).values())
    assert codes == ["", "missing_video"]
    assert scorer(*command, "--split", "hard") == 2

    info = {"model": "theirs", "variant": "x", "fps": 24, "resolution": "64x48"}
    (theirs / "method_info.json").write_text(json.dumps(info))
    elsewhere = ("--videos", theirs, "--bench", bench, "--out", tmp_path / "second")
    assert scorer(*elsewhere) == 1
    codes = sorted(result["code"] for result in results(tmp_path / "second").values())
    assert codes == ["missing_video", "wrong_fps"]

    other.write_bytes(other.read_bytes()[:-100])
    assert scorer(*command) == 2  # another video than the one that was scored


def test_videos_of_any_suffix_are_found_and_the_unused_are_named(tmp_path):
    for name in ("a.MP4", "b_generated.mov", "b.mp4", "my_walk.mp4", "notes.txt"):
        (tmp_path / name).touch()
    assert score.video_of(tmp_path, "a").name == "a.MP4"
    assert score.video_of(tmp_path, "b").name == "b_generated.mov"
    assert score.video_of(tmp_path, "c").name == "c_generated.mp4"
    assert score.unused(tmp_path, "abc") == ["b.mp4", "my_walk.mp4"]


def test_short_videos_fail_or_are_scored_in_part(bench, tmp_path, scorer):
    folder = tmp_path / "theirs"
    folder.mkdir()
    for one in read_bench(bench, "simple"):
        blank = Clip(np.zeros((32, 32, 32, 3), np.uint8), 16.0, Path("v.mp4"))
        write_video(folder / f"{one.id}.mp4", true_video(one, blank), 16.0, near_lossless=True)
    command = ("--videos", folder, "--bench", bench, "--split", "simple", "--out")
    assert scorer(*command, tmp_path / "a") == 1
    assert {result["code"] for result in results(tmp_path / "a").values()} == {"too_short"}
    assert scorer(*command, tmp_path / "b", "--truncate") == 0
    text = (tmp_path / "b" / "report.md").read_text()
    assert "2/2 clips, 16/24 frames" in text


@pytest.mark.parametrize(
    "arguments",
    [("--videos", "nowhere", "--bench", "nowhere"), ("--videos", ".", "--bench", "nowhere"),
     ("--videos", ".", "--bench", "nowhere", "--split", "easy")],
)  # fmt: skip
def test_scorer_says_what_is_missing(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert score.main(arguments) == 2
    assert capsys.readouterr().err.startswith("error: ")


# Settings ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split": ("easy",)}, "unknown split"),
        ({"split": ()}, "no split"),
        ({"seed": -1}, "seed=-1"),
        ({"interval": 0}, "interval=0"),
        ({"workers": 1.5}, "workers=1.5"),
        ({"scenes": 0}, "scenes=0"),
        ({"chunks": 41}, "at most 40"),
        ({"bench": "x", "chunks": 2}, "chunks with a bench"),
        ({"shard": 2, "shards": 2}, "shard=2"),
        ({"min_coverage": 1.5}, "min_coverage=1.5"),
        ({"estimator": 3}, "estimator int"),
    ],
)
def test_settings_are_checked_at_the_start(changes, message):
    with pytest.raises(ValueError, match=message):
        ControlConfig(**changes)


def test_splits_have_two_names():
    assert ControlConfig(split=("simple_60s", "hard", "simple")).splits == ("simple", "hard")
    assert ControlConfig(split="hard,simple").splits == ("hard", "simple")


def command_line(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["camera_control", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        camera_control.main()
    return ended.value.code


def test_command_line_lists_splits_with_a_comma(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(camera_control, "benchmark", lambda settings, console: _print(settings))
    assert command_line(monkeypatch, "split=simple,hard", f"bench={bench}", "seed=3") == 7
    assert _printed[-1].splits == ("simple", "hard") and _printed[-1].seed == 3
    assert sys.argv[1] == "split=simple,hard"  # as it was typed, for the report


_printed: list[ControlConfig] = []


def _print(settings):
    _printed.append(settings)
    return 7


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("world=nowhere", "unknown world"),
        ("world=sana-wm-streaming", "weights fetch sana-wm-streaming"),
        ("seed=-1", "seed=-1"),
        ("bench=/no/such/folder", "no folder"),
    ],
)
def test_what_cannot_run_is_one_line_and_status_2(argument, message, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert command_line(monkeypatch, "world=procedural", argument) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and "Traceback" not in error


def test_help_teaches(monkeypatch, capsys):
    assert command_line(monkeypatch, "--help") == 0
    text = capsys.readouterr().out
    explained = text.partition("The defaults:")[0]
    assert not [name for name in vars(ControlConfig()) if not re.search(rf"\b{name}\b", explained)]
    assert "python -m benchmarks.camera_control" in text and "world: tiny" in text


def test_a_bench_is_built_where_none_is_given(tmp_path, monkeypatch):
    settings = ControlConfig(
        world="procedural", split=("simple",), scenes=1, chunks=1, folder=str(tmp_path),
        estimator=Drifting(), workers=1,
    )  # fmt: skip
    assert run(settings) == 0 and run(settings) == 0
    (result,) = results(tmp_path).values()
    assert result["video"]["frames"] == 24 and result["video"]["width"] == 64
    with pytest.raises(ValueError, match="chunks was 1, now 2"):
        run(replace(settings, chunks=2))


def test_published_rows():
    for split in ("simple", "hard"):
        assert len(published("main", split)) == len(published("revisit", split)) == 6
    row = published("main", "hard")[-1]
    assert row.method == "SANA-WM+refiner" and row.values["RotErr"] == 8.34
