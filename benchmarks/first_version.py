"""How fast is a world next to the architecture that shipped first, in the same run?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from benchmarks.step_timing import WARM_UP, Stopwatch, gentle_action
from sana_wm_gym import ENV_ID
from sana_wm_gym.evaluation.held_out import Tick
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.config import TINY
from sana_wm_gym.training.initialise import initialise
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.renderer import default_intrinsics
from sana_wm_gym.world.world_model import WorldModel, WorldSpec

_NO_END = 10**9


def first_version() -> SanaWorld:
    """The first shipped world: one denoising step and a clean pass, cameras relative to the first
    frame, no captions. Its weights are random; its speed does not depend on them."""
    generator = SanaWM(TINY, EXACT)
    initialise(generator, seed=0)
    codec = PatchCodec(CodecConfig(channels=48, patch=8, hidden=192, depth=2))
    # Nothing is left at zero, so that no arithmetic is easier than with trained weights.
    nn.init.orthogonal_(codec.basis)
    for weight in (generator.final_layer.linear.weight, codec.correction[-1].weight):
        assert isinstance(weight, torch.Tensor)
        nn.init.normal_(weight, std=0.05)
    spec = WorldSpec(
        name="first-version",
        height=64,
        width=64,
        fps=16.0,
        frames_per_chunk=CHUNK_FRAMES,
        latent_shape=(48, 8, 8),
        intrinsics=default_intrinsics(64, 64),
        limits=WALK_LIMITS,
        scenes=(8,),
        start_radius=0.7,
    )
    return SanaWorld(spec, generator, codec, self_forcing((1000, 0)), MemoryWindow(2, True))


@dataclass(frozen=True)
class SpeedRatio:
    """Environment steps per second, 24 decoded frames each, of two worlds stepped in turn.

    Attributes:
        pairs: Steps of each.
        threads: Threads of torch.
        steps_per_s: Median of the world.
        reference_steps_per_s: Median of the first version.
        ratio: Median of the ratios of adjacent steps, by wall-clock time.
        ratio_cpu: The same by CPU time.
    """

    pairs: int
    threads: int
    steps_per_s: float
    reference_steps_per_s: float
    ratio: float
    ratio_cpu: float


def speed_ratio(world: WorldModel[Any], pairs: int, tick: Tick) -> SpeedRatio:
    """Step an environment of `world` and one of the first version in turn, both warmed up."""
    envs = []
    for each in (world, first_version()):
        env = gym.make(ENV_ID, world=each, observation=("frames",), max_episode_steps=_NO_END)
        env.reset(seed=0)
        envs.append(env)
    seconds = np.empty((pairs, 2, 2))
    for index in range(-WARM_UP, pairs):
        action = gentle_action(index)
        # Each goes first in every second pair.
        for which in (0, 1) if index % 2 == 0 else (1, 0):
            watch = Stopwatch()
            with watch.running():
                envs[which].step(action)
            if index >= 0:
                seconds[index, which] = watch.wall, watch.cpu
        tick(1)
    own, reference = 1 / np.median(seconds[..., 0], axis=0)
    ratio, ratio_cpu = np.median(seconds[:, 1] / seconds[:, 0], axis=0)
    rates = (own, reference, ratio, ratio_cpu)
    return SpeedRatio(pairs, torch.get_num_threads(), *map(float, rates))
