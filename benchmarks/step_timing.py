"""Stopwatches around a world's steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest import mock

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.camera.controls import TWIST_NAMES, twist_to_controls
from sana_wm_gym.camera.trajectory import CameraState, CameraTrajectory, integrate
from sana_wm_gym.world.learned import sampler, sana_world
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.world_model import CHUNK_FRAMES, ChunkInput, WorldModel

ResultT = TypeVar("ResultT")

WARM_UP = 4  # chunks until every memory has its final size
_WALK = np.array([0.5, 0.2, 0.0, 0.0, 0.4])


@dataclass
class Stopwatch:
    """Seconds by the clock and by the processor, summed."""

    wall: float = 0.0
    processor: float = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count the time inside."""
        wall, processor = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall += time.perf_counter() - wall
            self.processor += time.process_time() - processor

    def around(self, function: Callable[..., ResultT]) -> Callable[..., ResultT]:
        """The same function, its calls counted."""

        def timed(*arguments: Any, **named: Any) -> ResultT:
            with self.running():
                return function(*arguments, **named)

        return timed


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
        rollouts.stepping, rollouts.decoding = Stopwatch(), Stopwatch()
        return rollouts

    def step(self, chunks: int) -> None:
        """Advance all of them and decode every chunk."""
        spec = self.world.spec
        for _ in range(chunks):
            controls = twist_to_controls(gentle_action(self.chunk), spec.limits, CHUNK_FRAMES)
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
    """Milliseconds of CPU time per chunk of `count` worlds, by phase; they add up to a step. The
    clean pass is missing where the world has none."""
    rollouts = Rollouts.of(world, count, seed)
    places = {
        "conditioning": (sana_world, "chunk_conditioning"),
        "denoising": (sampler, "denoise"),
    }
    if world.clean_pass:
        places["clean pass"] = (sampler, "remember")
    watches = {phase: Stopwatch() for phase in places}
    with ExitStack() as stack:
        for phase, (module, name) in places.items():
            timed = watches[phase].around(getattr(module, name))
            stack.enter_context(mock.patch.object(module, name, timed))
        rollouts.step(chunks)
    seconds = {phase: watch.processor for phase, watch in watches.items()}
    seconds["noise, batching, copies"] = rollouts.stepping.processor - sum(seconds.values())
    seconds["decoding"] = rollouts.decoding.processor
    return {name: 1000 * value / chunks for name, value in seconds.items()}


class SmallPolicy(nn.Module):
    """A convolutional actor and critic of the size that stable-baselines3 gives to images."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(3, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.LazyLinear(512),
            nn.ReLU(),
        )
        self.mean = nn.Linear(512, len(TWIST_NAMES))
        self.value = nn.Linear(512, 1)

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Action means [b, 5] and values [b] of frames, uint8 [b, H, W, 3]."""
        features = self.trunk(frames.movedim(-1, 1).float() / 255)
        return self.mean(features).tanh(), self.value(features)[:, 0]


TIERS = ("environment", "with inference", "with training")
_UPDATE_EVERY, _EPOCHS = 8, 4


class Agent:
    """A policy in an environment, at one of the three tiers."""

    def __init__(self, env: gym.Env[Any, Any], tier: str, seed: int) -> None:
        self.env, self.tier = env, tier
        self.env.action_space.seed(seed)
        torch.manual_seed(seed)
        self.policy = SmallPolicy()
        self.frames, _ = env.reset(seed=seed)
        with torch.no_grad():
            self.policy(torch.from_numpy(self.frames[-1:]))  # sizes the lazy layer
        self.optimizer = torch.optim.Adam(self.policy.parameters(), 3e-4)
        self.seen: list[tuple[Tensor, Tensor]] = []

    def step(self) -> None:
        """One environment step, and what the tier adds to it."""
        # The policy looks at the last of the 24 frames, as policies do.
        observed = torch.from_numpy(self.frames[-1])
        if self.tier == TIERS[0]:
            action = self.env.action_space.sample()
        else:
            with torch.no_grad():
                mean, _ = self.policy(observed[None])
            action = (mean[0] + 0.3 * torch.randn_like(mean[0])).clamp(-1, 1).numpy()
        self.frames, _, terminated, truncated, _ = self.env.step(action)
        if self.tier == TIERS[2]:
            self.seen.append((observed, torch.from_numpy(action)))
            if len(self.seen) == _UPDATE_EVERY:
                self._learn()
        if terminated or truncated:
            self.frames, _ = self.env.reset()

    def _learn(self) -> None:
        """Epochs of an actor-critic update over the last steps; returns are drawn at random,
        because the cost of an update does not depend on them."""
        frames, actions = (torch.stack(part) for part in zip(*self.seen, strict=True))
        returns = torch.randn(len(self.seen))
        for _ in range(_EPOCHS):
            mean, value = self.policy(frames)
            advantage = (returns - value).detach()
            surprise = ((actions - mean) ** 2).sum(-1)
            loss = (advantage * surprise).mean() + F.mse_loss(value, returns)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        self.seen.clear()
