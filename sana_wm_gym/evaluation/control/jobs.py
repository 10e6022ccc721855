"""One scene is one job: make or find its video, score it, write the result. Jobs share nothing.

A job is a picklable value and `run_job` a plain function, so jobs may run in this process, in
several, or on other machines that see the same folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.files import BenchDataError
from sana_wm_gym.evaluation.bench.layout import BenchScene, SceneEntry, read_scene
from sana_wm_gym.evaluation.bench.results import MethodFolder
from sana_wm_gym.evaluation.control.generate import generate, scene_seed
from sana_wm_gym.evaluation.control.pictures import write_strip
from sana_wm_gym.evaluation.control.run_folder import RunFolder, differ, read_json, scene_digest
from sana_wm_gym.evaluation.control.score_video import Scoring, asked, score_video
from sana_wm_gym.evaluation.control.videos import SAME_RATE, Clip, read_clip
from sana_wm_gym.evaluation.control.worlds import open_world
from sana_wm_gym.files import sha256, write_json
from sana_wm_gym.provenance import commit, device
from sana_wm_gym.video import VideoError

Result = dict[str, Any]


@dataclass(frozen=True)
class Generated:
    """The video comes from a world.

    Attributes:
        world: Name or file, as `open_world` takes it.
        seed: Source of all noise.
        method: Folder of the videos.
    """

    world: str
    seed: int
    method: Path


@dataclass(frozen=True)
class Given:
    """The video is somebody else's.

    Attributes:
        path: Where it is; need not exist.
        fps: Its rate, Hz, where the file's own is not to be believed.
        declared_fps: What its maker says the rate is; the file must agree.
    """

    path: Path
    fps: float | None = None
    declared_fps: float | None = None


@dataclass(frozen=True)
class Job:
    """A scene to score.

    Attributes:
        entry: The scene.
        folder: Where results go.
        source: Where the video comes from.
        scoring: How it is scored.
    """

    entry: SceneEntry
    folder: Path
    source: Generated | Given
    scoring: Scoring

    def digest(self) -> str:
        """Of everything the result depends on besides the run's identity."""
        videos = [self.source.path] if isinstance(self.source, Given) else []
        return scene_digest(self.entry, videos)


def finished(job: Job) -> Result | None:
    """The result that an earlier start of this run left, or None where there is work to do.

    Scenes that failed are tried again.

    Raises:
        ValueError: The scene's files have changed since.
    """
    folder = RunFolder(job.folder)
    result = read_json(folder.result_file(job.entry.split, job.entry.id))
    if result is None or result["status"] != "scored":
        return None
    name = f"{job.entry.split} scene {job.entry.id} as it is now"
    differ(name, job.folder, {"files": result["inputs"]}, {"files": job.digest()})
    return result


def run_job(job: Job) -> Result:
    """Score a scene and write its result; what is wrong with it becomes its result's code."""
    entry, folder = job.entry, RunFolder(job.folder)
    result = _about(job)
    try:
        scene = read_scene(entry)
        clip, cost = _video(job, scene, folder)
        scored = score_video(scene, clip, job.scoring)
        result |= {"status": "scored", "cost": cost, **scored.document}
        write_strip(folder.strip_file(entry.split, entry.id), scored.frames, scored.truth)
    except (BenchDataError, VideoError) as error:
        result |= _failed(job, error.code, str(error))
    # One scene never takes the others down, whatever is the matter with it.
    except Exception as error:
        result |= _failed(job, "unexpected", f"{type(error).__name__}: {error}")
    write_json(folder.result_file(entry.split, entry.id), result)
    return result


def give_up(job: Job, code: str, message: str) -> Result:
    """Write the result of a job that could not be run to its end."""
    result = _about(job) | _failed(job, code, message)
    write_json(RunFolder(job.folder).result_file(job.entry.split, job.entry.id), result)
    return result


def _about(job: Job) -> Result:
    """What is known of a scene before it is scored."""
    row = job.entry.row
    return {
        "scene": job.entry.id,
        "split": job.entry.split,
        "scene_type": str(row.get("scene_type", "unknown")),
        "trajectory": str(row.get("trajectory_id", "unknown")),
        "outside_training": list(row.get("outside_training") or []),
        "inputs": job.digest(),
        "taken": {"commit": commit(), "device": device(), "date": datetime.now(UTC).isoformat()},
    }


def _failed(job: Job, code: str, message: str) -> Result:
    poses = job.entry.row.get("trim_to_frames")
    wanted = asked(poses, job.scoring.interval) if isinstance(poses, int) and poses > 0 else 0
    return {
        "status": "failed",
        "code": code,
        "message": message,
        "frames_asked": wanted,
    }


def _video(job: Job, scene: BenchScene, folder: RunFolder) -> tuple[Clip, Mapping[str, Any] | None]:
    """The video, made if need be, and what making it took."""
    source, entry = job.source, job.entry
    if isinstance(source, Given):
        clip = read_clip(source.path, source.fps)
        said = source.declared_fps
        if source.fps is None and said is not None and abs(clip.fps - said) >= SAME_RATE:
            message = f"its rate is {clip.fps:g} Hz, method_info.json says {said:g} Hz"
            raise VideoError("wrong_fps", source.path, message)
        return clip, None
    path = MethodFolder(source.method).video(entry.split, entry.id)
    record = folder.made_file(entry.split, entry.id)
    made, inputs = read_json(record), job.digest()
    # A video without its record was never finished, or is not ours.
    whole = made is not None and path.is_file() and made["sha256"] == sha256(path)
    if made is None or not whole or made["inputs"] != inputs:
        world = open_world(source.world).for_scene(scene)
        cost = generate(world, scene, scene_seed(source.seed, entry.split, entry.id), path)
        made = {
            "inputs": inputs,
            "sha256": sha256(path),
            "cost": {**asdict(cost), "frames_per_s": cost.frames_per_s},
        }
        write_json(record, made)
    return read_clip(path), made["cost"]


Launcher = Callable[[Sequence[Job], int], Iterator[Result]]
"""Jobs and a number of workers -> each job's result when it is done, in any order."""


def run_jobs(
    jobs: Sequence[Job], workers: int, launch: Launcher, on_result: Callable[[Result], None]
) -> dict[tuple[str, str], Result]:
    """Run what is not finished; results by (split, scene), in the order of the jobs.

    Args:
        jobs: What to do.
        workers: How many at a time.
        launch: Runs them.
        on_result: Told of every result, those of earlier starts first.

    Raises:
        ValueError: A finished scene's files have changed. Nothing has been done then.
    """
    results = {(job.entry.split, job.entry.id): finished(job) for job in jobs}
    for result in results.values():
        if result is not None:
            on_result(result)
    waiting = [job for job in jobs if results[job.entry.split, job.entry.id] is None]
    for result in launch(waiting, workers):
        results[result["split"], result["scene"]] = result
        on_result(result)
    return {key: result for key, result in results.items() if result is not None}
