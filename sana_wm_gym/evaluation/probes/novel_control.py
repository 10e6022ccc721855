"""Novel control: camera motion inside and outside the training distribution, as measured on its
poses, next to the first frame repeated, because fast motion makes any PSNR small."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sana_wm_gym.camera.controls import Controls, MotionLimits
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.evaluation.held_out import (
    Array,
    Frames,
    HeldOutClip,
    Tick,
    frame_errors,
    repeat_first,
    roll,
    truth_of,
    with_truth,
)
from sana_wm_gym.evaluation.outside_training import Flag, outside_training
from sana_wm_gym.evaluation.probes.results import (
    ProbeResult,
    Row,
    Spread,
    pose_columns,
    score_clips,
)
from sana_wm_gym.metrics import psnr_from_mse
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.scenes import free_space
from sana_wm_gym.world.procedural.walks import MARGIN
from sana_wm_gym.world.world_model import Start, WorldModel

_STEEPEST = math.radians(80.0)


@dataclass(frozen=True)
class Manoeuvre:
    """Motion along one axis of the controls: `steps(limits, n)` are its n steps."""

    name: str
    axis: str
    steps: Callable[[MotionLimits, int], Array]


def _hump(frames: int) -> Array:
    """Steps of a rise from 0 to 1 and back, smooth at both ends."""
    return np.diff(np.sin(np.pi * np.arange(frames + 1) / frames) ** 2)


def _wave(frames: int) -> Array:
    """Steps of one sine wave of height 1."""
    return np.diff(np.sin(2 * np.pi * np.arange(frames + 1) / frames))


def _swing(frames: int) -> Array:
    """Unit speed one way for the first half, back in the second."""
    return np.where(np.arange(frames) < frames // 2, 1.0, -1.0)


MANOEUVRES = (
    Manoeuvre("pan 1x", "yaw", lambda limits, n: limits.yaw * _swing(n)),
    Manoeuvre("pan 2x", "yaw", lambda limits, n: 2 * limits.yaw * _swing(n)),
    Manoeuvre("pan 3x", "yaw", lambda limits, n: 3 * limits.yaw * _swing(n)),
    Manoeuvre("pitch 0.8x", "pitch", lambda limits, n: 0.8 * limits.pitch_limit * _hump(n)),
    Manoeuvre(
        "pitch 2x", "pitch", lambda limits, n: min(2 * limits.pitch_limit, _STEEPEST) * _hump(n)
    ),
    Manoeuvre("rise 4 cm", "down", lambda limits, n: -0.04 * _hump(n)),
    Manoeuvre("rise 50 cm", "down", lambda limits, n: -0.5 * _hump(n)),
    Manoeuvre("roll 20 deg", "roll", lambda limits, n: math.radians(20.0) * _wave(n)),
    # At full speed for the whole clip, through any surface.
    Manoeuvre("backwards", "forward", lambda limits, n: np.full(n, -limits.forward)),
)


def outside(start: Start, c2w: Array, limits: MotionLimits) -> tuple[Flag, ...]:
    """What a command, poses [n, 4, 4] relative to a start, does that training walks, of motion
    within `limits`, never do; `ValueError` for a start in no scene.
    """
    scene, first = scene_of(start)
    in_scene = first @ c2w
    free = free_space(scene, in_scene[:, :3, 3], MARGIN)
    taken = Flag("frames at or in a surface", 100 * float(np.mean(~free)), 0.0, "%")
    return outside_training(in_scene, limits) + ((taken,) if taken.value else ())


def worst(flags: Sequence[tuple[Flag, ...]]) -> tuple[Flag, ...]:
    """The largest value of each kind over several clips."""
    found: dict[str, Flag] = {}
    for flag in (flag for clip in flags for flag in clip):
        if flag.what not in found or flag.value > found[flag.what].value:
            found[flag.what] = flag
    return tuple(found.values())


def poses_of(manoeuvre: Manoeuvre, limits: MotionLimits, frames: int) -> Array:
    """A manoeuvre's poses relative to the first frame, [frames + 1, 4, 4]."""
    still = {axis: np.zeros(frames) for axis in vars(Controls.still(1))}
    controls = Controls(**{**still, manoeuvre.axis: manoeuvre.steps(limits, frames)})
    return rollout(controls, pitch_limit=_STEEPEST)


def measure(
    world: WorldModel[Any],
    walks: Sequence[HeldOutClip],
    starts: Sequence[Start],
    pose_starts: int,
    estimator: PoseEstimator,
    seed: int,
    tick: Tick,
    manoeuvres: Sequence[Manoeuvre] = MANOEUVRES,
) -> ProbeResult:
    """Roll and score held-out walks and every manoeuvre.

    Each row is one motion over several starts: what is outside of training at the worst start, PSNR
    to the truth, of the first frame repeated, their difference, and pose errors.

    Args:
        world: Any world that follows a camera.
        walks: Clips inside the training distribution, all of one length.
        starts: Where manoeuvres begin; they last as long as the walks.
        pose_starts: Number of clips of each kind, from the first, whose poses are estimated.
        estimator: Turns frames into poses.
        seed: Source of noise; clip i uses seed + i.
        tick: Called with the number of chunks made and clips estimated.
        manoeuvres: What to try.

    Raises:
        ValueError: No walk or no start.
    """
    if not walks or not starts:
        raise ValueError(f"given {len(walks)} walks and {len(starts)} starts; expected some")
    spec, steps = world.spec, len(walks[0].c2w) - 1
    motions = {"held-out walk": list(walks)}
    for one in manoeuvres:
        c2w = poses_of(one, spec.limits, steps)
        motions[one.name] = [with_truth(start, c2w) for start in starts]
    rows = []
    for name, clips in motions.items():
        truth, posed = truth_of(clips), clips[:pose_starts]
        frames = roll(world, clips, seed, after=lambda states: tick(len(states)))
        made, floors = (
            score_clips(estimator, videos[: len(posed)], posed, spec.fps)
            for videos in (frames, truth)
        )
        tick(2 * len(posed))
        own, repeat = _clip_psnr(frames, truth), _clip_psnr(repeat_first(truth), truth)
        psnrs = {"PSNR": own, "repeat": repeat, "margin": own - repeat}
        flags = worst([outside(clip.start, clip.c2w, spec.limits) for clip in clips])
        row: Row = {"motion": name, "outside of training": "; ".join(map(str, flags)) or "inside"}
        row |= {column: Spread.of(values) for column, values in psnrs.items()}
        rows.append(row | pose_columns(made, floors))
    return ProbeResult(
        f"Novel control of {spec.name}: {steps / spec.fps:g} s from {len(starts)} starts",
        "PSNR dB to the twin, mean ± standard deviation over clips; poses as RotErr deg / "
        "TransErr m / CamMC",
        rows,
    )


def _clip_psnr(frames: Frames, truth: Frames) -> Array:
    """PSNR in dB of every clip [b], the given first frame left out."""
    return psnr_from_mse(frame_errors(frames, truth)[:, 1:].mean(axis=1))
