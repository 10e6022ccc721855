"""Timed rollouts: N worlds that step together, and the phases of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import twist_to_controls
from sana_wm_gym.camera.trajectory import CameraState, CameraTrajectory, integrate
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import ChunkInput, WorldModel

WARM_UP = 4
"""Chunks until every memory has its final size."""
_WALK = np.array([0.5, 0.2, 0.0, 0.0, 0.4])


@dataclass
class Stopwatch:
    """Seconds of wall-clock and of CPU time, summed; `began_cpu` is when it last started."""

    wall: float = 0.0
    cpu: float = 0.0
    began_cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside."""
        wall, self.began_cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - self.began_cpu


def gentle_action(chunk: int) -> npt.NDArray[np.float64]:
    """A twist [5] that leaves and comes back: every second chunk undoes the one before."""
    return _WALK if chunk % 2 == 0 else -_WALK


@dataclass
class Rollouts:
    """N rollouts of one world that step together.

    Attributes:
        world: The world.
        states: Where they stand.
        camera: The camera of all of them.
        chunk: Chunks so far.
        stepping: Time in `advance`.
        decoding: Time in making frames.
    """

    world: WorldModel[Any]
    states: list[Any]
    camera: CameraState = field(default_factory=CameraState)
    chunk: int = 0
    stepping: Stopwatch = field(default_factory=Stopwatch)
    decoding: Stopwatch = field(default_factory=Stopwatch)

    @staticmethod
    def of(world: WorldModel[Any], count: int, seed: int) -> Rollouts:
        """Begin `count` rollouts and warm them up."""
        rng = np.random.default_rng(seed)
        states = [world.begin(world.sample_start(rng), seed + i) for i in range(count)]
        rollouts = Rollouts(world, states)
        rollouts.step(WARM_UP)
        return rollouts

    def step(self, chunks: int) -> None:
        """Advance all of them and decode every chunk; the stopwatches start anew."""
        self.stepping, self.decoding = Stopwatch(), Stopwatch()
        spec = self.world.spec
        for _ in range(chunks):
            action = gentle_action(self.chunk)
            controls = twist_to_controls(action, spec.limits, spec.frames_per_chunk)
            poses, after = integrate(self.camera, controls, spec.limits.pitch_limit)
            path = CameraTrajectory(
                np.concatenate([self.camera.c2w[None], poses]),
                np.array(spec.intrinsics),
                spec.width,
                spec.height,
            )
            with self.stepping.running():
                self.states = self.world.advance(self.states, [ChunkInput(path)] * len(self.states))
            with self.decoding.running():
                self.world.decode(self.states)
            self.camera, self.chunk = after, self.chunk + 1


def state_bytes(world: WorldModel[Any], state: Any) -> int:
    """Size of one state."""
    return sum(array.nbytes for array in world.pack(state).values())


def phases_of(world: SanaWorld, count: int, chunks: int, seed: int) -> dict[str, float]:
    """Milliseconds of CPU time per chunk of `count` worlds, by phase; they add up to a step. Hooks
    of the network divide it. The clean pass is missing where the world has none."""
    rollouts = Rollouts.of(world, count, seed)
    calls: list[list[float]] = []  # begin and end of the network's calls
    hooks = (
        world.model.register_forward_pre_hook(lambda *_: calls.append([time.process_time()])),
        world.model.register_forward_hook(lambda *_: calls[-1].append(time.process_time())),
    )
    seconds = dict.fromkeys(("cameras and noise", "denoising", "clean pass"), 0.0)
    stepping = decoding = 0.0
    for _ in range(chunks):
        calls.clear()
        rollouts.step(1)
        *denoising, last = [end - begun for begun, end in calls]
        # Almost nothing comes before the first call but cameras, captions and noise.
        seconds["cameras and noise"] += calls[0][0] - rollouts.stepping.began_cpu
        seconds["denoising"] += sum(denoising) + (0.0 if world.clean_pass else last)
        seconds["clean pass"] += last if world.clean_pass else 0.0
        stepping += rollouts.stepping.cpu
        decoding += rollouts.decoding.cpu
    for hook in hooks:
        hook.remove()
    if not world.clean_pass:
        del seconds["clean pass"]
    seconds["samples, batching, copies"] = stepping - sum(seconds.values())
    seconds["decoding"] = decoding
    return {name: 1000 * value / chunks for name, value in seconds.items()}
