"""Episodes whose cameras tests put where they like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from sana_wm_gym.camera import MotionLimits, twist_to_controls
from sana_wm_gym.envs import Episode, SanaWMEnv, Simulation
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.tasks import Task


@dataclass(frozen=True)
class Played:
    """A step's result, and `info` after it."""

    reward: float
    terminated: bool
    info: dict[str, Any]


Play = Callable[..., tuple[Episode, list[Played]]]


@pytest.fixture
def begin(world: Any) -> Callable[..., tuple[Simulation, Episode]]:
    """A task's simulation in the fake world, and one new episode of it."""
    world.spec = replace(world.spec, limits=MotionLimits(forward=0.05, right=0.05, yaw=0.026))

    def begin(task: Task, seed: int = 0, **arguments: Any) -> tuple[Simulation, Episode]:
        simulation = SanaWMEnv(world, task=task, **arguments).simulation
        [episode] = simulation.begin([None], [np.random.default_rng(seed)])
        return simulation, episode

    return begin


@pytest.fixture
def play() -> Play:
    """Play twists, a chunk each, until the task ends the episode."""

    def play(
        simulation: Simulation, episode: Episode, twists: Sequence[Any]
    ) -> tuple[Episode, list[Played]]:
        results: list[Played] = []
        for twist in twists:
            [episode], [result] = simulation.play([episode], [held(simulation, twist)])
            info = simulation.info(episode)
            results.append(Played(result.reward, result.terminated, info))
            if result.terminated:
                break
        return episode, results

    return play


def held(simulation: Simulation, twist: Any) -> Command:
    """A twist held over a chunk."""
    spec = simulation.world.spec
    return Command(twist_to_controls(np.asarray(twist), spec.limits, spec.frames_per_chunk))
