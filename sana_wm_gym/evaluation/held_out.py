"""Held-out clips of procedural scenes (walks that no training clip comes from, with true frames),
rollouts of a world along them, and errors to the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, relative_to_first
from sana_wm_gym.metrics.image import mean_squared_error, psnr_from_mse
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.walks import draw_walk
from sana_wm_gym.world.rollout import camera_path, rollout_from
from sana_wm_gym.world.world_model import Start, WorldModel, WorldSpec, as_arrays

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
Tick = Callable[[int], None]
StateT = TypeVar("StateT")

# A clip must reach this far from its start, in metres, or turn by so many degrees.
LEAST_TRANSLATION, LEAST_ROTATION_DEG = 0.3, 10.0


@dataclass(frozen=True)
class HeldOutClip:
    """A start, a commanded path, and what is truly seen along it.

    Attributes:
        start: First frame, with its scene and pose.
        c2w: Commanded poses relative to the first frame, float64 [n + 1, 4, 4], n a multiple of
            the world's frames per chunk.
        truth: Ground-truth frames, uint8 [n + 1, H, W, 3].
    """

    start: Start
    c2w: Array
    truth: Frames


def leaves_start(c2w: Array) -> bool:
    """Whether poses [n, 4, 4] relative to the first leave it by 0.3 m or 10 degrees."""
    distance = np.linalg.norm(c2w[:, :3, 3], axis=-1).max()
    angle = np.degrees(geodesic_angle(np.eye(3), c2w[:, :3, :3]).max())
    return bool(distance >= LEAST_TRANSLATION or angle >= LEAST_ROTATION_DEG)


def held_out_clip(spec: WorldSpec, scene: int, index: int, chunks: int) -> HeldOutClip:
    """The held-out walk of this number, in an appearance of its own that its prompt names; of the
    true frames only the first."""
    frames = chunks * spec.frames_per_chunk
    radius, limits = spec.start_radius, spec.limits
    place, walk = draw_walk(scene, index, frames, radius, limits, held_out=True)
    first = render(place, walk[:1], np.array(spec.intrinsics), spec.size)
    start = Start(
        first[0],
        spec.intrinsics,
        prompt=prompt_of(place.surfaces, place.appearance),
        scene=scene,
        scene_c2w=walk[0],
        appearance=place.appearance,
    )
    return HeldOutClip(start, relative_to_first(walk), first)


def held_out_clips(
    spec: WorldSpec, count: int, chunks: int, *, skip: int = 0, first: int = 0
) -> list[HeldOutClip]:
    """Held-out walks that move (`leaves_start`), the world's scenes taken in turn.

    Args:
        spec: Frame size, lens, scenes and start radius.
        count: Number of clips.
        chunks: Length of each.
        skip: Moving walks to leave out before the first clip.
        first: Number of the first walk; scores of different kinds use different ones.
    """
    clips: list[HeldOutClip] = []
    index = first
    while len(clips) < skip + count:
        clip = held_out_clip(spec, spec.scenes[index % len(spec.scenes)], index, chunks)
        index += 1
        if leaves_start(clip.c2w):
            clips.append(clip)
    return [with_truth(clip.start, clip.c2w) for clip in clips[skip:]]


def true_frames(start: Start, c2w: Array) -> Frames | None:
    """What the camera would truly see at poses [n, 4, 4] relative to a start, uint8 [n, H, W, 3];
    None for a start outside any scene."""
    if start.scene is None or start.scene_c2w is None:
        return None
    (scene, first), size = scene_of(start), start.image.shape[:2]
    return render(scene, first @ c2w, np.array(start.intrinsics), size)


def with_truth(start: Start, c2w: Array) -> HeldOutClip:
    """A command [n + 1, 4, 4] from a start, with its true frames; `ValueError` for a start in no
    procedural scene."""
    truth = true_frames(start, c2w)
    if truth is None:
        raise ValueError("given a start without scene and scene_c2w; expected a procedural scene")
    return HeldOutClip(start, c2w, truth)


def truth_of(clips: Sequence[HeldOutClip]) -> Frames:
    """True frames of clips of one length, [b, n + 1, H, W, 3]."""
    return np.stack([clip.truth for clip in clips])


def roll(
    world: WorldModel[StateT],
    clips: Sequence[HeldOutClip],
    seed: int,
    *,
    shuffled: bool = False,
    true_anchors: bool = False,
    after: Callable[[list[StateT]], None] | None = None,
) -> Frames:
    """A world's frames along clips of one length, in one batch.

    Args:
        world: Any world that follows a camera.
        clips: Starts and commands.
        seed: Source of noise; clip i uses seed + i.
        shuffled: Each clip follows the command of the next one, the last that of the first.
        true_anchors: Place the first frames of a learned world by their true poses in the scene
            instead of by its localiser.
        after: Called with the states after every chunk.

    Returns:
        uint8 [b, n + 1, H, W, 3], first frames included.

    Raises:
        ValueError: True anchors are wanted, and a start has no pose in a scene.
    """
    commands = [clip.c2w for clip in clips]
    if shuffled:
        commands = commands[1:] + commands[:1]
    paths = [camera_path(clip.start, c2w) for clip, c2w in zip(clips, commands, strict=True)]
    states: list[Any] = [world.begin(clip.start, seed + i) for i, clip in enumerate(clips)]
    if true_anchors:
        anchors = [clip.start.scene_c2w for clip in clips]
        if any(anchor is None for anchor in anchors):
            raise ValueError("given a start without scene_c2w; expected the pose of its image")
        states = [replace(state, anchor=one) for state, one in zip(states, anchors, strict=True)]
    parts = [np.stack(as_arrays(world.decode(states)))]
    for moved in rollout_from(world, states, paths):
        parts.append(np.stack(as_arrays(world.decode(moved))))
        if after is not None:
            after(moved)
    return np.concatenate(parts, axis=1)


def repeat_first(truth: Frames) -> Frames:
    """The video [b, n, ...] of a world whose frames never change."""
    return np.broadcast_to(truth[:, :1], truth.shape)


def frame_errors(frames: Frames, truth: Frames) -> Array:
    """Mean squared error in grey levels² of every frame, [b, n] of two uint8 [b, n, H, W, 3]."""
    # One clip at a time: a minute of video in float is large.
    pairs = zip(frames, truth, strict=True)
    return np.stack([mean_squared_error(made, true, (1, 2, 3)) for made, true in pairs])


def chunk_errors(frames: Frames, truth: Frames, frames_per_chunk: int) -> Array:
    """Mean squared error of every chunk of every clip, [b, k] of two uint8 [b, n + 1, H, W, 3]; the
    first frame is given and does not count."""
    errors = frame_errors(frames, truth)[:, 1:]
    return errors.reshape(len(errors), -1, frames_per_chunk).mean(axis=2)


def mean_psnr(errors: Array) -> Array:
    """PSNR in dB per chunk [k], squared errors [b, k] averaged over clips before the logarithm."""
    return psnr_from_mse(errors.mean(axis=0))
