"""Novel control: camera motion that training never showed, each flagged with what is new in it.

Manoeuvres come in pairs or rows where one can: the same motion inside the training distribution
and outside. What lies outside is measured on the poses, against the world's motion limits and the
bounds of the training walks, not declared. Every clip is compared with the ground-truth twin, and
with its own first frame repeated, because fast motion makes any PSNR small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sana_wm_gym.camera.controls import Controls, MotionLimits
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.evaluation.outside_training import Flag, outside_training
from sana_wm_gym.evaluation.probes.control import Control, controls, score
from sana_wm_gym.evaluation.probes.rollouts import (
    Array,
    Spread,
    Tick,
    film,
    frame_errors,
    with_truth,
)
from sana_wm_gym.evaluation.score import RolloutScore
from sana_wm_gym.evaluation.world_scores import psnr, repeat_first
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.training.validation import HeldOutClip
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.scenes import free_space
from sana_wm_gym.world.procedural.walks import MARGIN
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start, WorldModel

_STEEPEST = math.radians(80.0)
StateT = TypeVar("StateT")


@dataclass(frozen=True)
class Manoeuvre:
    """A motion by name; `controls(limits, frames)` are its steps."""

    name: str
    controls: Callable[[MotionLimits, int], Controls]


def _hump(frames: int) -> Array:
    """Steps of a rise from 0 to 1 and back, smooth at both ends."""
    return np.diff(np.sin(np.pi * np.arange(frames + 1) / frames) ** 2)


def _wave(frames: int) -> Array:
    """Steps of one sine wave of height 1."""
    return np.diff(np.sin(2 * np.pi * np.arange(frames + 1) / frames))


def _swing(frames: int) -> Array:
    """Unit speed one way for the first half, back in the second."""
    return np.where(np.arange(frames) < frames // 2, 1.0, -1.0)


def _only(name: str, values: Array) -> Controls:
    still = {part: np.zeros(len(values)) for part in vars(Controls.still(1))}
    return Controls(**{**still, name: values})


def _pan(times: float) -> Manoeuvre:
    return Manoeuvre(
        f"pan {times:g}x", lambda limits, n: _only("yaw", times * limits.yaw * _swing(n))
    )


def _rise(metres: float) -> Manoeuvre:
    return Manoeuvre(
        f"rise {100 * metres:g} cm", lambda limits, n: _only("down", -metres * _hump(n))
    )


def _pitch(times: float) -> Manoeuvre:
    def steps(limits: MotionLimits, frames: int) -> Controls:
        return _only("pitch", min(times * limits.pitch_limit, _STEEPEST) * _hump(frames))

    return Manoeuvre(f"pitch {times:g}x", steps)


def _roll(degrees: float) -> Manoeuvre:
    return Manoeuvre(
        f"roll {degrees:g} deg", lambda limits, n: _only("roll", math.radians(degrees) * _wave(n))
    )


def _backwards(limits: MotionLimits, frames: int) -> Controls:
    """At full speed for the whole clip, through whatever stands there."""
    return _only("forward", np.full(frames, -limits.forward))


MANOEUVRES = (
    _pan(1.0),
    _pan(2.0),
    _pan(3.0),
    _pitch(0.8),
    _pitch(2.0),
    _rise(0.04),
    _rise(0.5),
    _roll(20.0),
    Manoeuvre("backwards", _backwards),
)


@dataclass(frozen=True)
class Outcome:
    """One manoeuvre over several starts.

    Attributes:
        name: The manoeuvre.
        flags: What is outside of training, worst start; empty for motion inside.
        psnr_db: To the twin, over starts; squared error averaged over a clip first.
        repeat_db: What the first frame, repeated, scores.
        margin_db: The difference, per start.
        control: Pose errors, one per convention.
    """

    name: str
    flags: tuple[Flag, ...]
    psnr_db: Spread
    repeat_db: Spread
    margin_db: Spread
    control: tuple[Control, ...]

    @property
    def outside(self) -> bool:
        """Whether the manoeuvre is outside of the training distribution."""
        return bool(self.flags)


@dataclass(frozen=True)
class NovelControl:
    """The probe's result: held-out walks first, then every manoeuvre."""

    world: str
    starts: int
    seconds: float
    outcomes: tuple[Outcome, ...]


def outside(start: Start, c2w: Array, limits: MotionLimits) -> tuple[Flag, ...]:
    """What a command does that training walks never do.

    Args:
        start: Where it begins, in a procedural scene.
        c2w: Poses relative to the first frame, [n, 4, 4].
        limits: Fastest motion of training.

    Raises:
        ValueError: The start lies in no scene.
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


def poses_of(manoeuvre: Manoeuvre, limits: MotionLimits, chunks: int) -> Array:
    """A manoeuvre's poses relative to the first frame, [24 chunks + 1, 4, 4]."""
    return rollout(manoeuvre.controls(limits, chunks * CHUNK_FRAMES), pitch_limit=_STEEPEST)


def measure(
    world: WorldModel[StateT],
    walks: Sequence[HeldOutClip],
    starts: Sequence[Start],
    pose_starts: int,
    estimator: PoseEstimator,
    seed: int,
    tick: Tick,
    manoeuvres: Sequence[Manoeuvre] = MANOEUVRES,
) -> NovelControl:
    """Film and score held-out walks and every manoeuvre.

    Args:
        world: Any world.
        walks: Clips inside the training distribution, all of one length.
        starts: Where manoeuvres begin; they last as long as the walks.
        pose_starts: Number of clips of each kind, from the first, whose poses are estimated.
        estimator: Turns frames into poses.
        seed: Source of noise; clip i uses seed + i.
        tick: Told the number of chunks made and clips estimated.
        manoeuvres: What to try.

    Raises:
        ValueError: No walk or no start.
    """
    if not walks or not starts:
        raise ValueError(f"given {len(walks)} walks and {len(starts)} starts; expected some")
    spec, chunks = world.spec, (len(walks[0].c2w) - 1) // CHUNK_FRAMES
    rows = [("held-out walk", list(walks))]
    for manoeuvre in manoeuvres:
        c2w = poses_of(manoeuvre, spec.limits, chunks)
        rows.append((manoeuvre.name, [with_truth(start, c2w) for start in starts]))
    outcomes = []
    for name, clips in rows:
        truth = np.stack([clip.truth for clip in clips])
        frames = film(world, clips, seed, tick)
        made: list[RolloutScore] = []
        floors: list[RolloutScore] = []
        for video, clip in list(zip(frames, clips, strict=True))[:pose_starts]:
            for shown, scores in ((video, made), (clip.truth, floors)):
                intrinsics = clip.start.intrinsics
                scores.append(score(estimator, shown, clip.c2w, intrinsics, spec.fps))
                tick(1)
        own = _clip_psnr(frame_errors(frames, truth))
        repeat = _clip_psnr(frame_errors(repeat_first(truth), truth))
        outcomes.append(
            Outcome(
                name=name,
                flags=worst([outside(clip.start, clip.c2w, spec.limits) for clip in clips]),
                psnr_db=Spread.of(own),
                repeat_db=Spread.of(repeat),
                margin_db=Spread.of(own - repeat),
                control=controls(made, floors),
            )
        )
    seconds = chunks * CHUNK_FRAMES / spec.fps
    return NovelControl(spec.name, len(starts), seconds, tuple(outcomes))


def work(walks: int, starts: int, chunks: int, pose_starts: int) -> int:
    """Ticks that `measure` will give for all manoeuvres."""
    rows = [walks] + [starts] * len(MANOEUVRES)
    return sum(clips * chunks + 2 * min(clips, pose_starts) for clips in rows)


def _clip_psnr(errors: Array) -> Array:
    """PSNR in dB of every clip from frame errors [b, n], the given first frame left out."""
    return np.array([psnr(row[None, 1:].mean(axis=1, keepdims=True))[0] for row in errors])
