"""The camera-control benchmark: what it scores, what it survives, what it refuses."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from control_runs import config, results, run
from PIL import Image
from probe_worlds import Blind

from sana_wm_gym import jobs
from sana_wm_gym.evaluation.bench.layout import camera_file
from sana_wm_gym.evaluation.bench.reader import list_scenes, read_bench
from sana_wm_gym.evaluation.bench.results import MethodFolder, read_pose_errors
from sana_wm_gym.evaluation.control import scene_job
from sana_wm_gym.poses import RotationOnly
from sana_wm_gym.poses.protocol import EstimatorInfo, PoseEstimate
from sana_wm_gym.video import VideoError, VideoWriter


@pytest.fixture(scope="module")
def finished_run(bench, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    settings = config(bench, folder, split=("simple", "hard"))
    return run(settings), settings, folder


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_run_writes_the_public_layout(finished_run):
    status, _, folder = finished_run
    assert status == 0
    method = MethodFolder(folder / "procedural")
    for split in ("simple", "hard"):
        errors = read_pose_errors(method.poses_file(split))
        assert len(errors) == 2
        videos = {method.video(split, scene) for scene in errors}
        assert set(method.split_folder(split).glob("*.mp4")) == videos
        for scene, result in results(folder, split).items():
            assert errors[scene]["RotErr"] == result["pose"]["scores"]["release"]["RotErr"]
        for name in ("revisit_consistency", "temporal_degradation", "summary"):
            assert method.eval_file(split, name).is_file()
    summary = summary_of(folder)
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


def test_report_shows_every_scene(finished_run):
    _, _, folder = finished_run
    report = (folder / "report.md").read_text()
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]*)\)", report)
    assert len(pictures) == 8 == len({Image.open(folder / name).tobytes() for name in pictures})
    summary = summary_of(folder)
    for fact in ("command", "commit", "device", "date"):
        assert str(summary[fact]) in report
    assert "SANA-WM+refiner" in report and "do not compare one to one" in report
    for text in ("2/2 clips, 24/24 frames", "4.50", "null: motionless", "floor: true frames"):
        assert text in report
    assert "Failures" not in report
    rows = list(csv.DictReader((folder / "scenes.csv").open()))
    assert {(row["split"], row["scene"]) for row in rows} == {
        (split, scene) for split in ("simple", "hard") for scene in results(folder, split)
    }


def test_tables_agree_with_the_summary(finished_run):
    _, _, folder = finished_run
    summary = summary_of(folder)["splits"]["hard"]
    errors = [result["pose"]["scores"]["release"] for result in results(folder, "hard").values()]
    mean = np.mean([error["RotErr"] for error in errors])
    assert summary["release"]["rollout"]["rot_err"]["value"] == pytest.approx(mean)
    lines = (folder / "report.md").read_text().split("## Camera control, hard (release")[1]
    assert f"| procedural (estimated) | {mean:.2f} |" in lines


def test_started_again_it_repeats_nothing(finished_run, made, monkeypatch):
    _, settings, folder = finished_run
    files = [*(folder / "scenes").rglob("*.json"), *(folder / "frames").rglob("*.png")]
    before = {path: path.read_bytes() for path in files}
    monkeypatch.setattr(scene_job, "score_video", None)
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
    assert summary_of(tmp_path)["splits"]["simple"]["scored"] == 2


@pytest.mark.parametrize("where", ["generate", "score_video"])
def test_stopped_anywhere_it_resumes(bench, tmp_path, monkeypatch, made, where):
    """Stopped at its second scene, while the video is made or before it is scored."""
    real, calls = getattr(scene_job, where), []

    def stop(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(scene_job, where, stop)
    settings = config(bench, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(settings)
    first = results(tmp_path)
    assert len(first) == 1
    monkeypatch.setattr(scene_job, where, real)
    assert run(settings) == 0
    assert len(results(tmp_path)) == 2 and len(made) == len(set(made)) == 2
    assert results(tmp_path)[next(iter(first))] == next(iter(first.values()))


def test_killed_process_loses_nothing(bench, tmp_path, made):
    """SIGKILL of a run with two workers once a result is there; then the same run in one process,
    and from the start in another folder: what workers made is what one process makes."""
    folder = tmp_path / "run"
    settings = config(bench, folder, estimator=RotationOnly(), floor=False)
    command = [sys.executable, "-m", "sana_wm_gym", "bench", "run", "world=procedural"]
    command += ["split=simple", f"bench={bench}", f"folder={folder}", "workers=2", "floor=false"]
    command += [f"estimator._target_={RotationOnly.__module__}.RotationOnly"]
    with open(os.devnull, "w") as nothing:
        process = subprocess.Popen(
            command, cwd=Path(__file__).parents[3], stdout=nothing, stderr=nothing
        )
    # Not `rglob`: it also finds a result that is being written, in a hidden folder.
    while not results(folder) and process.poll() is None:
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
    camera.write_bytes(b"no camera")
    assert run(settings) == 1
    found = results(tmp_path / "run")
    assert found[one]["code"] == "corrupt_file" and found[other]["status"] == "scored"
    release = summary_of(tmp_path / "run")["splits"]["simple"]["release"]
    assert release["clips_asked"] == 2 and release["clips_scored"] == 1
    assert release["failures"] == {"corrupt_file": 1}
    text = (tmp_path / "run" / "report.md").read_text()
    assert "1/2 clips, 12/24 frames; corrupt_file 1" in text and "Failures" in text
    camera.write_bytes(whole)
    assert run(settings) == 0
    assert sorted(made) == sorted([one, other])


def test_a_scored_scene_whose_files_change_is_refused(own_bench, tmp_path):
    settings = config(own_bench, tmp_path / "run", scenes=1)
    assert run(settings) == 0
    (entry, _) = list_scenes(own_bench, "simple")
    camera_file(own_bench, "simple", entry.id).write_bytes(b"no camera")
    with pytest.raises(ValueError, match="not mixed"):
        run(settings)


def test_poses_that_cannot_be_read_are_reported_and_the_rest_is_scored(bench, tmp_path):
    assert run(config(bench, tmp_path, estimator=Blind(), scenes=1)) == 0
    summary = summary_of(tmp_path)["splits"]["simple"]
    assert summary["release"]["rollout"]["rot_err"]["value"] is None
    assert [f["code"] for f in summary["failures"]] == ["too_few_valid"]
    assert summary["windows"][0]["psnr_db"]["clips"] == 1
    text = (tmp_path / "report.md").read_text()
    assert "0/1 clips, 0/12 frames; too_few_valid 1" in text and "1 of 12 poses read" in text
    method = MethodFolder(tmp_path / "procedural")
    assert read_pose_errors(method.poses_file("simple")) == {}


def test_unexpected_errors_fail_their_scene_alone(bench, tmp_path, monkeypatch):
    real = scene_job.generate

    def fail(world, scene, seed, path):
        if "room_001" in path.name or "courtyard_001" in path.name:
            raise MemoryError("too large")
        return real(world, scene, seed, path)

    monkeypatch.setattr(scene_job, "generate", fail)
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


@dataclass(frozen=True)
class Deadly:
    """Kills its own process, the first `kills` times that it sees a video
    brighter than `limit`, and lists these times in `folder`."""

    folder: str
    limit: float
    kills: int

    def estimate(self, frames, intrinsics, fps):
        killed = len(list(Path(self.folder).iterdir()))
        if frames[0].mean() > self.limit and killed < self.kills:
            (Path(self.folder) / str(killed)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        assert os.environ["OMP_NUM_THREADS"] == "1" and cv2.getNumThreads() == 1
        info = EstimatorInfo("deadly", "1", "estimated", "full", None, None, False)
        poses = np.tile(np.eye(4), (len(frames), 1, 1))
        poses[:, 0, 3] = np.linspace(0, frames[0].mean() / 100, len(frames))
        return PoseEstimate(poses, np.ones(len(frames), dtype=bool), info)


def run_on_ray(settings):
    pytest.importorskip("ray", reason="needs ray: pip install sana_wm_gym[distributed]")
    try:
        return run(settings)
    except ConnectionError as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip(f"this machine is too busy for Ray's half minute: {error}")


def found(folder):
    """All results and the summary without what differs between runs."""
    splits = summary_of(folder)["splits"]
    documents = [*results(folder).values(), *splits.values()]
    return [{k: v for k, v in one.items() if k not in ("taken", "cost")} for one in documents]


def test_killed_workers_cost_their_scene_alone_and_change_no_number(bench, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "RETRIES", 1)
    dark, bright = sorted(read_bench(bench, "simple"), key=lambda scene: scene.image().mean())
    limit = float(np.mean([dark.image().mean(), bright.image().mean()]))
    deaths, folder = tmp_path / "deaths", tmp_path / "run"
    deaths.mkdir()
    settings = config(bench, folder, estimator=Deadly(str(deaths), limit, 3), workers=2)

    assert run_on_ray(replace(settings, launcher="ray")) == 1
    assert len(list(deaths.iterdir())) == 2
    assert results(folder)[bright.id]["code"] == "worker_died"
    assert results(folder)[dark.id]["status"] == "scored"
    # Failed scenes are tried again, from the video that is there; one more death is survived.
    made = (folder / "made" / "simple" / f"{bright.id}.json").stat().st_mtime_ns
    assert run_on_ray(replace(settings, launcher="ray")) == 0
    assert len(list(deaths.iterdir())) == 3
    assert (folder / "made" / "simple" / f"{bright.id}.json").stat().st_mtime_ns == made
    assert not list(Path("/tmp").glob(f"ray{os.getpid()}-*")), "a cluster left its folder behind"

    assert run(replace(settings, folder=str(tmp_path / "alone"), workers=1)) == 0
    assert found(folder) == found(tmp_path / "alone")
    assert {result["status"] for result in results(folder).values()} == {"scored"}
