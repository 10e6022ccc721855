"""Rollouts on held-out walks, compared with the ground-truth render frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import geodesic_angle, invert
from sana_wm_gym.training.dataset import draw_walk
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.rollout import camera_path, rollout_frames
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start, WorldModel

LEAST_TRANSLATION = 0.3
LEAST_ROTATION_DEG = 10.0
StateT = TypeVar("StateT")


@dataclass(frozen=True)
class HeldOutClip:
    """A walk that no training clip comes from.

    Attributes:
        start: First frame, with its scene and pose.
        c2w: Commanded poses relative to the first frame, float64 [24 n + 1, 4, 4].
        truth: Ground-truth frames, uint8 [24 n + 1, H, W, 3].
    """

    start: Start
    c2w: npt.NDArray[np.float64]
    truth: npt.NDArray[np.uint8]

    def moves(self) -> bool:
        """Whether the clip leaves its start by 0.3 m or 10 degrees."""
        return leaves_start(self.c2w)


def leaves_start(c2w: npt.NDArray[np.float64]) -> bool:
    """Whether poses [n, 4, 4] relative to the first leave it by 0.3 m or 10 degrees."""
    distance = np.linalg.norm(c2w[:, :3, 3], axis=-1).max()
    angle = max(geodesic_angle(np.eye(3), pose[:3, :3]) for pose in c2w)
    return bool(distance >= LEAST_TRANSLATION or np.degrees(angle) >= LEAST_ROTATION_DEG)


def held_out_clips(
    scenes: Sequence[int],
    count: int,
    chunks: int,
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int],
    start_radius: float | None = None,
    skip: int = 0,
) -> list[HeldOutClip]:
    """Held-out walks that move, `count` of them after the first `skip`, scenes taken in turn;
    `start_radius` as in `sample_walk`. Their prompts name their appearance."""
    clips: list[HeldOutClip] = []
    index = 0
    while len(clips) < count:
        number = scenes[index % len(scenes)]
        place, walk = draw_walk(number, index, chunks * CHUNK_FRAMES, start_radius, held_out=True)
        index += 1
        relative = invert(walk[0]) @ walk
        relative[0] = np.eye(4)
        if not leaves_start(relative):
            continue
        if skip > 0:
            skip -= 1
            continue
        truth = render(place, walk, np.array(intrinsics), size)
        start = Start(
            truth[0],
            intrinsics,
            prompt=prompt_of(place.surfaces, place.appearance),
            scene=number,
            scene_c2w=walk[0],
            appearance=place.appearance,
        )
        clips.append(HeldOutClip(start, relative, truth))
    return clips


def roll(
    world: WorldModel[StateT],
    starts: Sequence[Start],
    commands: Sequence[npt.NDArray[np.float64]],
    seed: int,
) -> npt.NDArray[np.uint8]:
    """Rollouts of all clips in one batch, uint8 [b, 24 n + 1, H, W, 3], first frames included."""
    paths = [camera_path(start, c2w) for start, c2w in zip(starts, commands, strict=True)]
    return rollout_frames(world, starts, [seed + i for i in range(len(starts))], paths)


def chunk_psnr(
    frames: npt.NDArray[np.uint8], truth: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float64]:
    """PSNR in dB per chunk, squared error averaged over clips before the logarithm.

    Args:
        frames: [b, 24 n + 1, H, W, 3].
        truth: The same shape.
    """
    difference = frames[:, 1:].astype(np.float64) - truth[:, 1:]
    squared = (difference**2).mean(axis=(0, 2, 3, 4)).reshape(-1, CHUNK_FRAMES).mean(axis=1)
    return np.asarray(10 * np.log10(255.0**2 / np.maximum(squared, 1e-12)))


@dataclass(frozen=True)
class RolloutPsnr:
    """PSNR per chunk [n] of a world and of what it must beat."""

    own: npt.NDArray[np.float64]
    shuffled: npt.NDArray[np.float64]
    repeat: npt.NDArray[np.float64]


def rollout_psnr(world: WorldModel[StateT], clips: Sequence[HeldOutClip], seed: int) -> RolloutPsnr:
    """Score rollouts under their own commands, under another clip's, and the repeated first
    frame, all against the truth of their own commands."""
    truth = np.stack([clip.truth for clip in clips])
    starts = [clip.start for clip in clips]
    commands = [clip.c2w for clip in clips]
    return RolloutPsnr(
        own=chunk_psnr(roll(world, starts, commands, seed), truth),
        shuffled=chunk_psnr(roll(world, starts, commands[1:] + commands[:1], seed), truth),
        repeat=chunk_psnr(np.repeat(truth[:, :1], truth.shape[1], axis=1), truth),
    )
