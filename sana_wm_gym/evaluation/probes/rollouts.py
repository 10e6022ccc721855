"""Rollouts that probes share: starts, steps, true frames, and spread over starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count as count_from
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.training.dataset import walk_generator
from sana_wm_gym.training.validation import HeldOutClip
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.procedural_world import scene_of
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.procedural.walks import sample_walk
from sana_wm_gym.world.rollout import camera_path, rollout_frames, rollout_from
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start, WorldModel, WorldSpec

Array = npt.NDArray[np.float64]
Frames = npt.NDArray[np.uint8]
Tick = Callable[[int], None]
StateT = TypeVar("StateT")

# Training's progress report and the model card look at the first held-out walks.
_FIRST_WALK = 1000


@dataclass(frozen=True)
class Spread:
    """One number over several starts.

    Attributes:
        mean: Average.
        std: Standard deviation over starts, 0 for a single one.
        low: Smallest.
        high: Largest.
    """

    mean: float
    std: float
    low: float
    high: float

    @staticmethod
    def of(values: npt.ArrayLike) -> Spread:
        """Summarise one value per start."""
        values = np.asarray(values, dtype=np.float64)
        return Spread(
            float(values.mean()), float(values.std()), float(values.min()), float(values.max())
        )

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}"


def draw_starts(world: WorldModel[StateT], count: int, seed: int) -> list[Start]:
    """First frames that the world draws itself, its scenes in turn.

    Raises:
        ValueError: The world cannot make its own first frames.
    """
    rng, scenes = np.random.default_rng(seed), world.spec.scenes
    return [world.sample_start(rng, scenes[i % len(scenes)]) for i in range(count)]


def walk_poses(spec: WorldSpec, scene: int, index: int, chunks: int) -> Array:
    """A walk that no training clip comes from, in scene axes, float64 [24 chunks + 1, 4, 4]."""
    rng = walk_generator(scene, index, held_out=True)
    frames = chunks * CHUNK_FRAMES
    return sample_walk(
        generate_scene(scene), rng, frames, spec.limits, start_radius=spec.start_radius
    )


def start_at(spec: WorldSpec, scene: int, pose: Array) -> Start:
    """The first frame a camera takes at a scene pose [4, 4]."""
    size = (spec.height, spec.width)
    place = generate_scene(scene)
    return Start(
        render(place, pose[None], np.array(spec.intrinsics), size)[0],
        spec.intrinsics,
        prompt=prompt_of(place.surfaces, place.appearance),
        scene=scene,
        scene_c2w=pose,
        appearance=place.appearance,
    )


def walking_clips(spec: WorldSpec, count: int, chunks: int) -> list[HeldOutClip]:
    """Held-out walks that move, with their true frames, the world's scenes in turn."""
    clips: list[HeldOutClip] = []
    for index in count_from(_FIRST_WALK):
        scene = spec.scenes[index % len(spec.scenes)]
        walk = walk_poses(spec, scene, index, chunks)
        start, c2w = start_at(spec, scene, walk[0]), relative_to_first(walk)
        clip = HeldOutClip(start, c2w, np.zeros((0, spec.height, spec.width, 3), np.uint8))
        if clip.moves():
            clips.append(with_truth(start, c2w))
        if len(clips) == count:
            return clips
    raise AssertionError("walks do not run out")


def twin(start: Start, c2w: Array) -> Frames | None:
    """What the camera would truly see, uint8 [n, H, W, 3]; None for a start outside any scene.

    Args:
        start: Where the rollout began.
        c2w: Poses relative to its first frame, [n, 4, 4].
    """
    if start.scene is None or start.scene_c2w is None:
        return None
    (scene, first), size = scene_of(start), start.image.shape[:2]
    return render(scene, first @ c2w, np.array(start.intrinsics), size)


def with_truth(start: Start, c2w: Array) -> HeldOutClip:
    """A command [n, 4, 4] from a start, with its true frames.

    Raises:
        ValueError: The start lies in no procedural scene, so the truth is unknown.
    """
    truth = twin(start, c2w)
    if truth is None:
        raise ValueError("given a start without scene and scene_c2w; expected a procedural scene")
    return HeldOutClip(start, c2w, truth)


def step(
    world: WorldModel[StateT],
    states: Sequence[StateT],
    starts: Sequence[Start],
    poses: Sequence[Array],
) -> list[StateT]:
    """One chunk for every start; poses [25, 4, 4] each, the last of the previous chunk first."""
    paths = [camera_path(start, c2w) for c2w, start in zip(poses, starts, strict=True)]
    [states] = rollout_from(world, states, paths)
    return states


def film(world: WorldModel[StateT], clips: Sequence[HeldOutClip], seed: int, tick: Tick) -> Frames:
    """The world's answer to clips of one length, first frames included.

    Args:
        world: Any world.
        clips: Starts and commands.
        seed: Source of noise; start i uses seed + i.
        tick: Told the number of chunks just made.

    Returns:
        uint8 [b, 24 n + 1, H, W, 3].
    """
    starts = [clip.start for clip in clips]
    paths = [camera_path(clip.start, clip.c2w) for clip in clips]
    seeds = [seed + i for i in range(len(starts))]
    return rollout_frames(world, starts, seeds, paths, tick)


def frame_errors(frames: Frames, truth: Frames) -> Array:
    """Mean squared error in grey levels of every frame, [...] of two uint8 [..., H, W, 3]."""
    errors = np.empty(frames.shape[:-3])
    for index in np.ndindex(errors.shape):
        difference = frames[index].astype(np.float32) - truth[index]
        errors[index] = np.mean(difference**2, dtype=np.float64)
    return errors
