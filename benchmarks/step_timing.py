"""Environments that step in turn, timed: what the scripts about speed have in common."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import WorldModel

WARM_UP = 4
"""Chunks until every memory has its final size."""
NO_LIMIT = 10**9
"""Of steps in an episode."""

_WALK = np.array([0.5, 0.2, 0.0, 0.0, 0.4], np.float32)


@dataclass
class Stopwatch:
    """Seconds of wall-clock and of CPU time, summed."""

    wall: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.cpu += time.process_time() - cpu


def gentle_action(chunk: int) -> npt.NDArray[np.float32]:
    """A twist [5] that leaves and comes back: every second chunk undoes the one before."""
    return _WALK if chunk % 2 == 0 else -_WALK


class Stepper:
    """Environments of one world, warmed up, that take one chunk per call.

    Args:
        world: It, or its name.
        count: Environments.
        batch: In one `SanaWMVectorEnv`; else `count` of `SanaWMEnv`, stepped in turn.
        observation: Part that is observed.
        render_every: Chunks between those whose frames are also rendered; 0 renders none.
    """

    def __init__(
        self,
        world: str | WorldModel[Any],
        count: int,
        *,
        batch: bool = True,
        observation: str = "frames",
        render_every: int = 0,
    ) -> None:
        self.render_every = render_every
        self.chunk = 0
        options: dict[str, Any] = {
            "observation": (observation,),
            "max_episode_steps": NO_LIMIT,
            "render_mode": "rgb_array_list",
        }
        self.envs: list[Any] = (
            [SanaWMVectorEnv(count, world, **options)]
            if batch
            else [SanaWMEnv(world, **options) for _ in range(count)]
        )
        for index, env in enumerate(self.envs):
            env.reset(seed=index)
        for _ in range(WARM_UP):
            self.step()

    def step(self) -> None:
        """One chunk in every environment."""
        action = gentle_action(self.chunk)
        self.chunk += 1
        for env in self.envs:
            env.step(np.broadcast_to(action, env.action_space.shape))
            if self.render_every and self.chunk % self.render_every == 0:
                env.render()

    def state_bytes(self) -> int:
        """Size of the state of the first sub-environment of a batch."""
        env = self.envs[0]
        return sum(array.nbytes for array in env.world.pack(env.snapshot(0).episode.world).values())


def phases_of(world: SanaWorld, count: int, chunks: int) -> dict[str, float]:
    """Milliseconds of CPU time per chunk of `count` worlds, by phase; they add up to a step. Hooks
    of the network divide it. The clean pass is missing where the world has none."""
    stepper = Stepper(world, count, observation="latent")  # frames are decoded by render alone
    calls: list[list[float]] = []  # begin and end of the network's calls
    hooks = (
        world.model.register_forward_pre_hook(lambda *_: calls.append([time.process_time()])),
        world.model.register_forward_hook(lambda *_: calls[-1].append(time.process_time())),
    )
    found = []
    for _ in range(chunks):
        calls.clear()
        began = time.process_time()
        stepper.step()
        stepped = time.process_time()
        stepper.envs[0].render()
        decoding = time.process_time() - stepped
        network = [end - begun for begun, end in calls]
        clean = [network.pop()] if world.clean_pass else []
        before = calls[0][0] - began  # cameras, captions and noise, and little else
        rest = stepped - calls[0][0] - sum(network + clean)
        found.append([before, sum(network), *clean, rest, decoding])
    for hook in hooks:
        hook.remove()
    names = ["cameras and noise", "denoising", *["clean pass"] * world.clean_pass]
    names += ["samples, batching, copies", "decoding"]
    return dict(zip(names, (1000 * np.mean(found, axis=0)).tolist(), strict=True))
