"""Worlds rolled out along camera paths, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.world.world_model import (
    ChunkInput,
    Start,
    WorldModel,
    WorldSpec,
    as_arrays,
    require_pairs,
)

StateT = TypeVar("StateT")


def rollout(
    world: WorldModel[StateT],
    starts: Sequence[Start],
    seeds: Sequence[int],
    paths: Sequence[CameraTrajectory],
) -> Iterator[list[StateT]]:
    """Roll out a world from starts along camera paths, all in one batch.

    Args:
        world: Any world that follows a camera.
        starts: Where to begin.
        seeds: Of the noise, one per start.
        paths: One per start; all of 1 + k `spec.frames_per_chunk` poses relative to the first
            frame.

    Returns:
        The states after `begin`, then after each of the k chunks, one list at a time.

    Raises:
        ValueError: The world has no camera, there is not one seed and one path per start, or a
            path does not fit; raised at the call, before anything begins.
    """
    if not len(starts) == len(seeds) == len(paths):
        raise ValueError(f"given {len(starts)} starts, {len(seeds)} seeds and {len(paths)} paths")
    chunks = _chunks(world.spec, paths)

    def run() -> Iterator[list[StateT]]:
        states = [world.begin(start, seed) for start, seed in zip(starts, seeds, strict=True)]
        yield states
        yield from _advance(world, states, paths, chunks)

    return run()


def rollout_from(
    world: WorldModel[StateT], states: Sequence[StateT], paths: Sequence[CameraTrajectory]
) -> Iterator[list[StateT]]:
    """Continue from states that stand at their paths' first poses: the states after each chunk;
    errors as of `rollout`."""
    require_pairs(states, paths)
    return _advance(world, states, paths, _chunks(world.spec, paths))


def rollout_frames(
    world: WorldModel[StateT],
    starts: Sequence[Start],
    seeds: Sequence[int],
    paths: Sequence[CameraTrajectory],
    tick: Callable[[int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """All frames of a `rollout`, uint8 [b, 1 + k frames_per_chunk, H, W, 3], first ones included;
    arguments and errors as of `rollout`. `tick` is called after every chunk with the number of
    chunks just made, one per start."""
    parts: list[npt.NDArray[np.uint8]] = []
    for states in rollout(world, starts, seeds, paths):
        if parts and tick is not None:
            tick(len(states))
        parts.append(np.stack(as_arrays(world.decode(states))))
    return np.concatenate(parts, axis=1)


def camera_path(start: Start, c2w: npt.NDArray[np.float64]) -> CameraTrajectory:
    """Poses [n, 4, 4] relative to a start, seen through its lens."""
    height, width = start.image.shape[:2]
    return CameraTrajectory(c2w, np.array(start.intrinsics), width, height)


def _chunks(spec: WorldSpec, paths: Sequence[CameraTrajectory]) -> int:
    """Chunks of every path, checked."""
    spec.require_camera("a rollout along a camera path")
    frames = spec.frames_per_chunk
    counts = sorted({len(path) for path in paths})
    if len(counts) != 1 or (counts[0] - 1) % frames:
        raise ValueError(
            f"given paths of {counts} poses; expected 1 + {frames} k, the same for all"
        )
    for path in paths:
        if (path.height, path.width) != spec.size:
            raise ValueError(
                f"given a path for {path.height} x {path.width} frames; "
                f"world {spec.name!r} makes {spec.height} x {spec.width}"
            )
    return (counts[0] - 1) // frames


def _advance(
    world: WorldModel[StateT],
    states: Sequence[StateT],
    paths: Sequence[CameraTrajectory],
    chunks: int,
) -> Iterator[list[StateT]]:
    frames = world.spec.frames_per_chunk
    for first in range(0, chunks * frames, frames):
        inputs = [ChunkInput(path[first : first + frames + 1]) for path in paths]
        states = world.advance(states, inputs)
        yield states
