"""One video against its scene: camera, revisits and drift, next to the same of the true video where
the scene is procedural, and PSNR to it. Frames are matched with the command by time."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

from sana_wm_gym.camera.image import centre_crop, crop_intrinsics
from sana_wm_gym.camera.se3 import from_rotation_translation
from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.evaluation.command_agreement import ANY_DEPTH, scene_depths
from sana_wm_gym.evaluation.score import RolloutScore, ScoreOptions, Scores, score_rollout
from sana_wm_gym.metrics import RELEASE, load_lpips, match_frames, psnr, score_drift, score_revisits
from sana_wm_gym.metrics.drift import windows
from sana_wm_gym.metrics.matching import FrameMatch
from sana_wm_gym.metrics.pose_checks import PathPair
from sana_wm_gym.poses.protocol import PoseEstimate, PoseEstimator
from sana_wm_gym.video import Frames, VideoError, probe, read_frames
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene

Array = npt.NDArray[np.float64]

SAME_RATE = 0.1
"""Rates closer than this, in Hz, are one rate, as in `metrics.matching`."""

_lpips = cache(load_lpips)
_DIGITS = 4  # of stored path points: a tenth of a millimetre


@dataclass(frozen=True)
class Scoring:
    """How videos are scored.

    Attributes:
        estimator: Turns frames into poses; gets every frame.
        interval: Stride of the poses that count; the published benchmark takes every 4th.
        min_coverage: Smallest accepted fraction of placed frames.
        floor: Score the true video with the same estimator, where there is one.
        truncate: Score what there is of a video that ends early, instead of refusing it.
    """

    estimator: PoseEstimator
    interval: int = 4
    min_coverage: float = 0.5
    floor: bool = True
    truncate: bool = False

    def asked(self, poses: int) -> int:
        """How many of so many commanded poses are scored."""
        return len(range(0, poses, self.interval))


@dataclass(frozen=True, eq=False)
class VideoClip:
    """A video in memory: frames uint8 [n, height, width, 3] RGB, evenly spaced at `fps` Hz, the
    file that they were read from, and how many frames it has."""

    frames: Frames
    fps: float
    path: Path
    total: int


def read_clip(path: Path, fps: float | None = None, seconds: float = math.inf) -> VideoClip:
    """The frames of a video, of its first `seconds` at least; `fps` is its rate in Hz, where the
    time stamps of the file are wrong.

    Raises:
        VideoError: The file is missing or damaged (codes of `sana_wm_gym.video`), its frames are
            unevenly spaced (`variable_rate`), or its rate is no rate (`wrong_fps`).
    """
    info = probe(path)
    if fps is None and info.varies:
        found = f"its frame rate is variable, {float(info.rate):.4g} Hz on average"
        raise VideoError("variable_rate", path, f"{found}; give a rate to space frames evenly")
    rate = float(info.rate) if fps is None else fps
    if not 0 < rate < 1000:
        raise VideoError("wrong_fps", path, f"its rate is {rate:g} Hz; give the right one")
    limit = None if math.isinf(seconds) else math.ceil(seconds * (rate + SAME_RATE)) + 1
    return VideoClip(read_frames(path, limit)[0], rate, path, info.frames)


def cut(clip: VideoClip, scene: BenchScene, truncate: bool) -> tuple[VideoClip, int]:
    """The frames of a video up to the last pose, and how many poses they show. A rate within
    0.1 Hz of the command's is taken for it.

    Raises:
        VideoError: `wrong_fps` where the number of frames is that of the command but the rate is
            not, `too_short` where the video ends before the command does.
    """
    fps = scene.fps if abs(clip.fps - scene.fps) < SAME_RATE else clip.fps
    poses, frames = scene.trim_to_frames, len(clip.frames)
    if fps != scene.fps and clip.total in (scene.expected_video_frames, poses, len(scene.c2w)):
        found = f"{clip.total} frames, as many as commanded at {scene.fps:g} Hz, but its rate is"
        message = f"{found} {fps:g} Hz; if that is a mistake, give the right one"
        raise VideoError("wrong_fps", clip.path, message)
    shown = match_frames(poses, scene.fps, frames, fps, truncate=True).video
    if len(shown) < poses and not truncate:
        message = (
            f"{frames} frames at {fps:g} Hz show {len(shown)} of {poses} commanded poses; "
            "truncate scores the common part"
        )
        raise VideoError("too_short", clip.path, message)
    return replace(clip, frames=clip.frames[: shown[-1] + 1], fps=fps), len(shown)


def fitted_intrinsics(scene: BenchScene, size: tuple[int, int]) -> Array:
    """Intrinsics [n, 4] in pixels of a video (height, width) whose frames are the scene's first
    frame resized and centre-cropped, as SANA-WM prepares it."""
    return crop_intrinsics(scene.intrinsics, centre_crop(scene.image_size, size))


def poses_at(scene: BenchScene, frames: int, fps: float) -> Array:
    """Commanded poses [frames, 4, 4] at the instants of a video, interpolated between poses."""
    if fps == scene.fps:
        return scene.c2w[:frames]
    given = np.arange(len(scene.c2w)) / scene.fps
    times = np.minimum(np.arange(frames) / fps, given[-1])
    turns = Slerp(given, Rotation.from_matrix(scene.c2w[:, :3, :3]))(times).as_matrix()
    centres = np.stack([np.interp(times, given, axis) for axis in scene.c2w[:, :3, 3].T], axis=1)
    return from_rotation_translation(turns, centres)


def true_video(scene: BenchScene, clip: VideoClip) -> Frames | None:
    """Ground-truth frames of the commanded camera, like the frames of `clip`; None outside
    procedural scenes."""
    if scene.procedural_scene is None or scene.scene_c2w is None:
        return None
    frames, size = len(clip.frames), clip.frames.shape[1:3]
    poses = scene.scene_c2w @ poses_at(scene, frames, clip.fps)
    intrinsics = fitted_intrinsics(scene, size)[0]
    return render(generate_scene(scene.procedural_scene), poses, intrinsics, size)


@dataclass(frozen=True, eq=False)
class ScoredVideo:
    """What a video scores as plain values for json, the frames that count, and true frames at the
    same instants, None outside procedural scenes."""

    document: dict[str, Any]
    clip: VideoClip
    truth: Frames | None


def score_video(scene: BenchScene, clip: VideoClip, scoring: Scoring) -> ScoredVideo:
    """Everything that is measured on one video.

    Raises:
        VideoError: The video does not cover the command.
        ValueError: Frames, poses or intrinsics that no metric accepts.
    """
    clip, poses = cut(clip, scene, scoring.truncate)
    truth = true_video(scene, clip)
    commanded, frames = scene.c2w[:poses], len(clip.frames)
    height, width = clip.frames.shape[1:3]

    def matched(stride: int) -> FrameMatch:
        # Truncation is by `cut`, here no more than the rounding of the last instant.
        return match_frames(poses, scene.fps, frames, clip.fps, stride=stride, truncate=True)

    median = scene.extra.get("median_depth_m")
    depths = ANY_DEPTH if median is None else scene_depths(float(median))
    pose = score_rollout(
        clip.frames,
        commanded,
        fitted_intrinsics(scene, (height, width))[0],
        clip.fps,
        scoring.estimator,
        truth_frames=truth if scoring.floor else None,
        options=ScoreOptions(matched(scoring.interval), scoring.min_coverage, depths),
    )
    due = scoring.asked(scene.trim_to_frames)  # what a short video lacks counts
    plotted = matched(max(1, round(scene.fps / 4)))
    document = {
        "video": {"frames": frames, "fps": clip.fps, "height": height, "width": width},
        "pose": {**pose.to_dict(), "frames_asked": due, "coverage": pose.frames_scored / due},
        **_appearance(scene, clip.fps, clip.frames),
        "twin": None if truth is None else _twin(scene, clip, truth),
        "paths": _paths(commanded, plotted, pose),
    }
    return ScoredVideo(document, clip, truth)


def _appearance(scene: BenchScene, fps: float, frames: Frames) -> dict[str, Any]:
    revisits = score_revisits(frames, scene.revisits, scene.fps, fps, lpips=_lpips())
    return {"revisit": revisits.to_dict(), "drift": score_drift(frames, fps).to_dict()}


def _twin(scene: BenchScene, clip: VideoClip, truth: Frames) -> dict[str, Any]:
    """The true video's own numbers, and PSNR to it in windows of 10 s."""
    rows = []
    for begin, end in windows(len(truth), clip.fps):
        span = slice(max(begin, 1), end)  # the first frame is given
        repeated = np.broadcast_to(clip.frames[:1], truth[span].shape)
        row = {"begin_s": begin / clip.fps, "end_s": end / clip.fps}
        row["psnr_db"] = psnr(clip.frames[span], truth[span])
        row["repeat_db"] = psnr(repeated, truth[span])
        rows.append(row)
    return {"windows": rows, **_appearance(scene, clip.fps, truth)}


def _paths(commanded: Array, match: FrameMatch, pose: RolloutScore) -> dict[str, Any]:
    """Camera centres in metres for the plots, estimates aligned as `release` does; None where they
    could not be scored."""

    def aligned(scores: Scores | None, found: PoseEstimate | None) -> Any:
        if scores is None or found is None or isinstance(scores[RELEASE.name], str):
            return None
        keep = found.valid[match.video]
        if keep.sum() < 3:
            return None
        reference, estimated = commanded[match.reference][keep], found.poses[match.video][keep]
        moved = RELEASE.align(PathPair.of(reference, estimated)).centres
        # Both sides were taken relative to the first frame with a pose; plots begin at frame 0.
        return (moved @ reference[0, :3, :3].T + reference[0, :3, 3]).round(_DIGITS).tolist()

    return {
        "commanded": commanded[match.reference, :3, 3].round(_DIGITS).tolist(),
        "estimated": aligned(pose.scores, pose.estimate),
        "truth_estimated": aligned(pose.floor, pose.floor_estimate),
    }
