"""Control over horizon: does the world still follow the camera after a minute?

One-minute held-out walks are cut into 10-second windows. Every window is scored by itself: pose
errors relative to its own first frame, and PSNR to the ground-truth twin, which still says
something where frames are too soft for poses to be read. The same walks are made with the world's
own sampler, with a many-step one, and with the memory window's sink toggled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from sana_wm_gym.evaluation.probes.control import Control, controls, headline, score_clips
from sana_wm_gym.evaluation.score import RolloutScore
from sana_wm_gym.metrics import psnr_from_mse
from sana_wm_gym.metrics.drift import MIN_WINDOW_FRAMES, windows
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.tables import Table
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4, NoiseSchedule, flow_euler_ltx
from sana_wm_gym.world.world_model import WorldModel

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

    def tables(self) -> dict[str, Table]:
        """PSNR and pose errors, one row per run and window."""
        rows = [
            {
                "run": run.name,
                "window": f"{window.begin_s:g}-{window.end_s:g} s",
                "PSNR dB (clips)": f"{window.psnr_db:.2f} "
                f"({window.psnr_low_db:.1f} .. {window.psnr_high_db:.1f})",
                "repeat dB": window.repeat_db,
                **headline(window.control),
            }
            for run in self.runs
            for window in run.windows
        ]
        title = f"Control over horizon of {self.world}: {self.clips} walks"
        notes = (
            f"poses of {self.pose_clips} walks as RotErr deg / TransErr m / CamMC (clips scored "
            "of those requested), or the reason why there are none"
        )
        return {"": Table.of(title, rows, notes=notes)}


def windows_of(frames: int, fps: float) -> tuple[slice, ...]:
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
    toggled = MemoryWindow(world.window.chunks, not world.window.sink)
    worlds = (
        world,
        replace(world, schedule=many_steps(world.schedule)),
        replace(world, window=toggled),
    )

    def name(varied: SanaWorld) -> str:
        steps = varied.schedule.steps
        sink = "on" if varied.window.sink else "off"
        return f"{steps} step{'' if steps == 1 else 's'}, sink {sink}"

    return {name(varied): varied for varied in worlds}


def measure(
    worlds: Mapping[str, WorldModel[Any]],
    clips: Sequence[HeldOutClip],
    pose_clips: int,
    estimator: PoseEstimator,
    seed: int,
    tick: Tick,
) -> Horizon:
    """Roll every variant along every clip and score the windows.

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
    runs = []
    for name, world in worlds.items():
        frames = roll(world, clips, seed, after=lambda states: tick(len(states)))
        errors = frame_errors(frames, truth)
        found = []
        for part, floor in zip(parts, floors, strict=True):
            each = [_psnr(row[None], part) for row in errors]
            found.append(
                Window(
                    begin_s=part.start / spec.fps,
                    end_s=part.stop / spec.fps,
                    psnr_db=_psnr(errors, part),
                    psnr_low_db=min(each),
                    psnr_high_db=max(each),
                    repeat_db=_psnr(repeat, part),
                    control=controls(scores(frames, part), floor),
                )
            )
        runs.append(HorizonRun(name, tuple(found)))
    return Horizon(spec.name, len(clips), len(posed), tuple(runs))


def _psnr(errors: Array, part: slice) -> float:
    """PSNR in dB of frame errors [b, n] inside a window; the given first frame does not count."""
    return float(psnr_from_mse(errors[:, max(part.start, 1) : part.stop].mean()))
