"""Control over horizon: pose errors and PSNR of one-minute walks in 10-second windows, with the
world's own sampler, with a many-step one, and with the memory window's sink toggled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sana_wm_gym.evaluation.held_out import (
    Array,
    Frames,
    HeldOutClip,
    Tick,
    frame_errors,
    repeat_first,
    roll,
    truth_of,
)
from sana_wm_gym.evaluation.probes.results import ProbeResult, pose_columns, score_clips
from sana_wm_gym.evaluation.score import RolloutScore
from sana_wm_gym.metrics import psnr_from_mse
from sana_wm_gym.metrics.drift import MIN_WINDOW_FRAMES, windows
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule, flow_euler_ltx
from sana_wm_gym.world.world_model import WorldModel

MANY_STEPS = 20


def windows_of(frames: int, fps: float) -> tuple[slice, ...]:
    """The benchmark's drift windows of a clip; `ValueError` where it is too short for one."""
    found = windows(frames, fps)
    if not found:
        expected = f"expected at least {MIN_WINDOW_FRAMES}"
        raise ValueError(f"given {frames} frames at {fps:g} Hz; {expected}")
    return tuple(slice(begin, end) for begin, end in found)


def many_steps(own: NoiseSchedule) -> NoiseSchedule:
    """A finer schedule: the released four steps, or twenty for a world with four or more."""
    if own.steps < SELF_FORCING_4.steps:
        return SELF_FORCING_4
    return flow_euler_ltx(max(MANY_STEPS, 2 * own.steps))


def variants(world: WorldModel[Any]) -> dict[str, WorldModel[Any]]:
    """A world by what is changed about it; worlds without a sampler have no variants."""
    if not isinstance(world, SanaWorld):
        return {"as it is": world}
    toggled = MemoryWindow(world.window.chunks, not world.window.sink)
    finer = replace(world, schedule=many_steps(world.schedule))
    found: dict[str, WorldModel[Any]] = {}
    for varied in (world, finer, replace(world, window=toggled)):
        steps, sink = varied.schedule.steps, "on" if varied.window.sink else "off"
        found[f"{steps} step{'' if steps == 1 else 's'}, sink {sink}"] = varied
    return found


def measure(
    worlds: Mapping[str, WorldModel[Any]],
    clips: Sequence[HeldOutClip],
    pose_clips: int,
    estimator: PoseEstimator,
    seed: int,
    tick: Tick,
) -> ProbeResult:
    """Roll every variant along every clip and score the windows.

    Each row is one window of one run: PSNR to the truth, squared error averaged over clips before
    the logarithm, of the worst and of the best clip, of the first frame repeated, and pose errors.

    Args:
        worlds: By what is changed; the world as it is first.
        clips: Walks of one length with their true frames.
        pose_clips: Number of clips, from the first, whose poses are estimated.
        estimator: Turns frames into poses.
        seed: Source of noise; clip i uses seed + i.
        tick: Called with the number of chunks made and windows estimated.

    Raises:
        ValueError: No world, no clip, or clips too short for a window.
    """
    if not worlds or not clips:
        raise ValueError(f"given {len(worlds)} worlds and {len(clips)} clips; expected some")
    spec = next(iter(worlds.values())).spec
    truth, posed = truth_of(clips), clips[:pose_clips]
    parts = windows_of(truth.shape[1], spec.fps)

    def scores(frames: Frames, part: slice) -> list[RolloutScore]:
        found = score_clips(estimator, frames[: len(posed)], posed, spec.fps, part)
        tick(len(found))
        return found

    floors = [scores(truth, part) for part in parts]
    repeat = frame_errors(repeat_first(truth), truth)
    rows = []
    for name, world in worlds.items():
        frames = roll(world, clips, seed, after=lambda states: tick(len(states)))
        errors = frame_errors(frames, truth)
        for part, floor in zip(parts, floors, strict=True):
            each = [_psnr(row[None], part) for row in errors]
            rows.append(
                {
                    "run": name,
                    "begin, s": part.start / spec.fps,
                    "end, s": part.stop / spec.fps,
                    "PSNR dB": _psnr(errors, part),
                    "worst clip": min(each),
                    "best clip": max(each),
                    "repeat dB": _psnr(repeat, part),
                    **pose_columns(scores(frames, part), floor),
                }
            )
    return ProbeResult(
        f"Control over horizon of {spec.name}: {len(clips)} walks",
        f"poses of {len(posed)} walks as RotErr deg / TransErr m / CamMC (clips scored of those "
        "requested), or the reason why there are none",
        rows,
    )


def _psnr(errors: Array, part: slice) -> float:
    """PSNR in dB of frame errors [b, n] inside a window; the given first frame does not count."""
    return float(psnr_from_mse(errors[:, max(part.start, 1) : part.stop].mean()))
