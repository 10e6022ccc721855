"""Control over horizon: does the world still follow the camera after a minute?

One-minute held-out walks are cut into 10-second windows. Every window is scored by itself: pose
errors relative to its own first frame, and PSNR to the ground-truth twin, which still says
something where frames are too soft for poses to be read. The same walks are made with the world's
own sampler, with a many-step one, and with the memory window's sink turned over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sana_wm_gym.evaluation.probes.control import Control, controls, score
from sana_wm_gym.evaluation.probes.rollouts import Array, Frames, Tick, film, frame_errors
from sana_wm_gym.evaluation.score import RolloutScore
from sana_wm_gym.evaluation.world_scores import psnr, repeat_first
from sana_wm_gym.metrics.drift import MIN_WINDOW_FRAMES, windows
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.training.validation import HeldOutClip
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule, flow_euler_ltx
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldModel

MANY_STEPS = 20


@dataclass(frozen=True)
class Window:
    """One window of every clip.

    Attributes:
        begin_s: Its first frame.
        end_s: Just after its last.
        psnr_db: To the twin; squared error averaged over clips before the logarithm.
        psnr_low_db: Of the worst clip.
        psnr_high_db: Of the best clip.
        repeat_db: What the rollout's first frame, repeated, scores.
        control: Pose errors, one per convention.
    """

    begin_s: float
    end_s: float
    psnr_db: float
    psnr_low_db: float
    psnr_high_db: float
    repeat_db: float
    control: tuple[Control, ...]


@dataclass(frozen=True)
class HorizonRun:
    """One sampler and memory on all clips."""

    name: str
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Horizon:
    """The probe's result.

    Attributes:
        world: Name of the world.
        clips: Walks compared with the twin.
        pose_clips: Of those, the ones whose poses were estimated too.
        runs: The world as it is first, then its variants.
    """

    world: str
    clips: int
    pose_clips: int
    runs: tuple[HorizonRun, ...]


def cuts_of(frames: int, fps: float) -> tuple[slice, ...]:
    """The benchmark's drift windows of a clip.

    Raises:
        ValueError: The clip is too short for one.
    """
    found = windows(frames, fps)
    if not found:
        raise ValueError(
            f"given {frames} frames at {fps:g} Hz; expected at least {MIN_WINDOW_FRAMES}"
        )
    return tuple(slice(begin, end) for begin, end in found)


def many_steps(own: NoiseSchedule) -> NoiseSchedule:
    """A finer schedule to compare with: the released four steps, or twenty for a world with
    four or more."""
    if own.steps < SELF_FORCING_4.steps:
        return SELF_FORCING_4
    return flow_euler_ltx(max(MANY_STEPS, 2 * own.steps))


def variants(world: WorldModel[Any]) -> dict[str, WorldModel[Any]]:
    """A world by what is changed about it; worlds without a sampler have no variants."""
    if not isinstance(world, SanaWorld):
        return {"as it is": world}
    window, finer = world.window, many_steps(world.schedule)

    def name(schedule: NoiseSchedule, memory: MemoryWindow) -> str:
        plural = "" if schedule.steps == 1 else "s"
        return f"{schedule.steps} step{plural}, sink {'on' if memory.sink else 'off'}"

    def build(schedule: NoiseSchedule, memory: MemoryWindow) -> SanaWorld:
        return replace(world, schedule=schedule, window=memory)

    pairs = [
        (world.schedule, window),
        (finer, window),
        (world.schedule, MemoryWindow(window.chunks, not window.sink)),
    ]
    return {name(*pair): build(*pair) for pair in pairs}


def measure(
    worlds: Mapping[str, WorldModel[Any]],
    clips: Sequence[HeldOutClip],
    pose_clips: int,
    estimator: PoseEstimator,
    seed: int,
    tick: Tick,
) -> Horizon:
    """Film every clip with every variant and score its windows.

    Args:
        worlds: By what is changed; the world as it is first.
        clips: Walks of one length with their true frames.
        pose_clips: Number of clips, from the first, whose poses are estimated.
        estimator: Turns frames into poses.
        seed: Source of noise; clip i uses seed + i.
        tick: Told the number of chunks made and windows estimated.

    Raises:
        ValueError: No world, no clip, or clips too short for a window.
    """
    if not worlds or not clips:
        raise ValueError(f"given {len(worlds)} worlds and {len(clips)} clips; expected some")
    spec = next(iter(worlds.values())).spec
    truth = np.stack([clip.truth for clip in clips])
    cuts = cuts_of(truth.shape[1], spec.fps)
    read = clips[:pose_clips]

    def scores(frames: Frames, cut: slice) -> list[RolloutScore]:
        found = []
        for video, clip in zip(frames, read, strict=False):
            intrinsics = clip.start.intrinsics
            found.append(score(estimator, video[cut], clip.c2w[cut], intrinsics, spec.fps))
            tick(1)
        return found

    floors = [scores(truth, cut) for cut in cuts]
    repeat = frame_errors(repeat_first(truth), truth)

    runs = []
    for name, world in worlds.items():
        frames = film(world, clips, seed, tick)
        errors = frame_errors(frames, truth)
        found = []
        for cut, floor in zip(cuts, floors, strict=True):
            made = scores(frames, cut)
            each = [_psnr(errors[i : i + 1], cut) for i in range(len(clips))]
            found.append(
                Window(
                    begin_s=cut.start / spec.fps,
                    end_s=cut.stop / spec.fps,
                    psnr_db=_psnr(errors, cut),
                    psnr_low_db=min(each),
                    psnr_high_db=max(each),
                    repeat_db=_psnr(repeat, cut),
                    control=controls(made, floor),
                )
            )
        runs.append(HorizonRun(name, tuple(found)))
    return Horizon(spec.name, len(clips), len(read), tuple(runs))


def work(clips: int, chunks: int, pose_clips: int, worlds: int, fps: float) -> int:
    """Ticks that `measure` will give."""
    cuts = len(cuts_of(chunks * CHUNK_FRAMES + 1, fps))
    return worlds * clips * chunks + (worlds + 1) * min(clips, pose_clips) * cuts


def _psnr(errors: Array, cut: slice) -> float:
    """PSNR in dB of frame errors [b, n] inside a window; the given first frame does not count."""
    inside = errors[:, max(cut.start, 1) : cut.stop]
    return float(psnr(inside.mean(axis=1, keepdims=True))[0])
