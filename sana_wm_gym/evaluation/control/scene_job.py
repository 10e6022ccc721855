"""One scene is one job: make or find its video, score it, write the result. Jobs share nothing but
the folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sana_wm_gym.evaluation.bench.files import BenchDataError
from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.evaluation.bench.reader import SceneEntry, read_scene
from sana_wm_gym.evaluation.control.generate import generate, open_world, scene_seed
from sana_wm_gym.evaluation.control.run_folder import read_json, refuse_mix, scene_file
from sana_wm_gym.evaluation.control.score_video import (
    SAME_RATE,
    ScoredVideo,
    Scoring,
    VideoClip,
    read_clip,
    score_video,
)
from sana_wm_gym.evaluation.pictures import ENLARGED, Strip, write_paths, write_strips
from sana_wm_gym.files import sha256, write_json
from sana_wm_gym.jobs import Launcher
from sana_wm_gym.provenance import commit, device
from sana_wm_gym.video import VideoError

Result = dict[str, Any]

_SHOWN, _WIDTH = 7, 192  # frames in a strip, and the largest width of one in pixels


@dataclass(frozen=True)
class SceneJob:
    """A scene to score, by a video that a world makes or by an existing one.

    Attributes:
        entry: The scene.
        folder: Where results go.
        scoring: How the video is scored.
        video: Its file; need not exist.
        world: Makes the video, as `open_world` takes it; None for an existing video.
        seed: Source of the world's noise.
        fps: Rate of an existing video, Hz, where the file's own is wrong.
        declared_fps: The rate in its maker's method_info.json; the file must agree.
    """

    entry: SceneEntry
    folder: Path
    scoring: Scoring
    video: Path
    world: str | None = None
    seed: int = 0
    fps: float | None = None
    declared_fps: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """(split, scene)."""
        return self.entry.split, self.entry.id

    def digest(self) -> str:
        """Of everything the result depends on besides the run's identity: the scene's rows, first
        frame and camera, and an existing video. Missing files count as missing."""
        entry = self.entry
        trajectory = None if entry.trajectory is None else dict(entry.trajectory.row)
        rows = json.dumps([dict(entry.manifest.row), trajectory])
        digest, files = hashlib.sha256(rows.encode()), [] if self.world else [self.video]
        for key in ("image_path", "camera_path"):
            try:
                files.append(entry.manifest.file(key, entry.root))
            except BenchDataError:
                continue  # reading the scene will raise it
        for path in files:
            digest.update(sha256(path).encode() if path.is_file() else b"missing")
        return digest.hexdigest()

    def file(self, kind: str) -> Path:
        """Of this scene in the run's folder; see `scene_file`."""
        return scene_file(self.folder, kind, *self.key)


def run_scenes(
    jobs: Sequence[SceneJob], launcher: Launcher, on_result: Callable[[Result], None]
) -> dict[tuple[str, str], Result]:
    """Score every scene that has no result yet, or failed earlier; results by (split, scene).
    `on_result` is called with every result, those of earlier starts first.

    Raises:
        ValueError: A finished scene's files have changed. Nothing has been done then.
        BrokenExecutor: A worker process died.
    """
    results = {job.key: _finished(job) for job in jobs}
    for result in filter(None, results.values()):
        on_result(result)
    waiting = [job for job in jobs if results[job.key] is None]
    for job, result in launcher.run(run_scene, waiting, on_lost=partial(_fail, "worker_died")):
        results[job.key] = result
        on_result(result)
    return {key: result for key, result in results.items() if result is not None}


def run_scene(job: SceneJob) -> Result:
    """Score a scene and write its result; what is wrong with it becomes its result's code."""
    try:
        scene = read_scene(job.entry)
        clip, cost = _video(job, scene)
        scored = score_video(scene, clip, job.scoring)
        _draw(job, scored)
    except (BenchDataError, VideoError) as error:
        return _fail(error.code, job, str(error))
    # An error in one scene must not stop the others.
    except Exception as error:
        return _fail("unexpected", job, f"{type(error).__name__}: {error}")
    return _write(job, {"status": "scored", "cost": cost, **scored.document})


def _finished(job: SceneJob) -> Result | None:
    """The result that an earlier start of this run left, or None."""
    result = read_json(job.file("scenes"))
    if result is None or result["status"] != "scored":
        return None
    name = f"{job.entry.split} scene {job.entry.id} as it is now"
    refuse_mix(name, job.folder, {"files": result["inputs"]}, {"files": job.digest()})
    return result


def _write(job: SceneJob, outcome: Mapping[str, Any]) -> Result:
    row = job.entry.manifest.row
    result = {
        "scene": job.entry.id,
        "split": job.entry.split,
        "scene_type": str(row.get("scene_type", "unknown")),
        "trajectory": str(row.get("trajectory_id", "unknown")),
        "outside_training": list(row.get("outside_training") or []),
        "inputs": job.digest(),
        "taken": {"commit": commit(), "device": device(), "date": datetime.now(UTC).isoformat()},
        **outcome,
    }
    write_json(job.file("scenes"), result)
    return result


def _fail(code: str, job: SceneJob, message: str) -> Result:
    poses = job.entry.manifest.row.get("trim_to_frames")
    wanted = job.scoring.asked(poses) if isinstance(poses, int) else 0
    failure = {"status": "failed", "code": code, "message": message, "frames_asked": wanted}
    return _write(job, failure)


def _video(job: SceneJob, scene: BenchScene) -> tuple[VideoClip, Mapping[str, Any] | None]:
    """The video, made if there is none, and what making it took."""
    path = job.video
    if job.world is None:
        clip, declared = read_clip(path, job.fps), job.declared_fps
        if job.fps is None and declared and abs(clip.fps - declared) >= SAME_RATE:
            message = f"its rate is {clip.fps:g} Hz, method_info.json has {declared:g} Hz"
            raise VideoError("wrong_fps", path, message)
        return clip, None
    made, inputs = read_json(job.file("made")), job.digest()
    # A video without its record was never finished, or is not ours.
    whole = made is not None and path.is_file() and made["sha256"] == sha256(path)
    if made is None or not whole or made["inputs"] != inputs:
        world = open_world(job.world).for_scene(scene)
        cost = generate(world, scene, scene_seed(job.seed, *job.key), path)
        made = {"inputs": inputs, "sha256": sha256(path), "cost": asdict(cost)}
        write_json(job.file("made"), made)
    return read_clip(path), made["cost"]


def _draw(job: SceneJob, scored: ScoredVideo) -> None:
    """A strip of frames, true ones above where there are any, and the camera paths."""
    clip, paths = scored.clip, scored.document["paths"]
    shown = np.linspace(0, len(clip.frames) - 1, _SHOWN).round().astype(int)
    rows = [("video", clip.frames[shown])]
    if scored.truth is not None:
        rows.insert(0, ("truth", scored.truth[shown]))
    factor = min(ENLARGED, _WIDTH / clip.frames.shape[2])
    times = [f"{index / clip.fps:.1f} s" for index in shown]
    write_strips(job.file("frames"), [Strip(rows)], times, factor)
    labels = ("commanded", "read from true frames", "read from the video")
    keys = ("commanded", "truth_estimated", "estimated")
    lines = {label: paths[key] for label, key in zip(labels, keys, strict=True) if paths[key]}
    write_paths(job.file("paths"), {label: np.array(line) for label, line in lines.items()})
