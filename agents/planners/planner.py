"""Planning by branching: what a plan is, how futures are tried, and a planner as an actor.

A world and an episode are values, so a future is tried by playing it from the present episode;
nothing has to be undone. The futures of a decision form one batch per chunk.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera import TWIST_NAMES, twist_to_controls
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation

Twists = npt.NDArray[np.float32]
Returns = npt.NDArray[np.float64]

GROUND = ("yaw", "right", "forward")
"""Motions on the ground plane: three numbers a chunk in place of five."""


@dataclass(frozen=True, eq=False)
class Plan:
    """Actions for the next chunks, and what it cost to find them.

    Attributes:
        twists: One action per chunk, float32 [chunks, 5] in [-1, 1], in the order of
            `camera.TWIST_NAMES`. The first is to be taken now.
        expected_return: Sum of rewards of these twists when they were tried; None where nothing
            was tried.
        env_steps: Chunks of world that were generated to find them.
    """

    twists: Twists
    expected_return: float | None
    env_steps: int

    @property
    def action(self) -> Twists:
        """The first twist, float32 [5], as a continuous action of the environment."""
        return self.twists[0].copy()


class Planner(Protocol):
    """Chooses motions from a moment of an episode; a value that holds settings alone."""

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The best plan found.

        Args:
            simulation: Where futures are tried. Its task gives the rewards.
            episode: The present, not over and with chunks left; it does not change.
            rng: Source of everything random: the same generator state gives the same plan.
            before: The plan whose first twist led here, to start the search from, or None.

        Raises:
            ValueError: The episode has ended, or this planner cannot do this task.
        """
        ...


class PlannerActor:
    """Receding horizon: takes the first action of a plan, then plans anew.

    Args:
        planner: Decides.
        simulation: Where futures are tried.
        seed: Of the episode; the search draws from a generator of its own.

    Attributes:
        plans: Every plan so far; `seconds` were spent on them.
    """

    def __init__(self, planner: Planner, simulation: Simulation, seed: int) -> None:
        self._planner, self._simulation = planner, simulation
        self._rng = np.random.default_rng([seed, 1])
        self.plans: list[Plan] = []
        self.seconds = 0.0

    def act(self, episode: Episode) -> Twists:
        """The next action of an episode."""
        began = time.perf_counter()
        before = self.plans[-1] if self.plans else None
        self.plans.append(self._planner.plan(self._simulation, episode, self._rng, before))
        self.seconds += time.perf_counter() - began
        return self.plans[-1].action

    def __call__(self, episodes: Sequence[Episode], running: Sequence[int]) -> list[Twists]:
        """As `play_episodes` takes it, for a batch of one episode."""
        [episode] = episodes
        return [self.act(episode)]


def require_planner(planner: object) -> None:
    """Raise `ValueError` unless an object has a `plan` method."""
    if not hasattr(planner, "plan"):
        raise ValueError(f"planner is {type(planner).__name__}, expected something with .plan()")


def imagine(simulation: Simulation, episode: Episode, twists: npt.ArrayLike) -> tuple[Returns, int]:
    """Play sequences of twists from one moment, all of them in one batch per chunk.

    A sequence that ends its episode gets no further rewards and is played no further; none is
    played past `max_episode_steps`.

    Args:
        simulation: Where to play.
        episode: The moment to start from; it does not change.
        twists: [candidates, chunks, 5] in [-1, 1].

    Returns:
        Sums of rewards, float64 [candidates], and the number of chunks generated.

    Raises:
        ValueError: The episode has ended, or twists have another shape or range.
    """
    array = np.asarray(twists, dtype=np.float32)
    if array.ndim != 3 or 0 in array.shape or array.shape[2] != len(TWIST_NAMES):
        raise ValueError(
            f"twists have shape {array.shape}, expected (candidates, chunks, {len(TWIST_NAMES)})"
        )
    left = simulation.max_episode_steps - episode.chunk
    if episode.over or left < 1:
        raise ValueError(f"the episode ended at chunk {episode.chunk}, expected a running one")
    limits = simulation.world.spec.limits
    returns, steps = np.zeros(len(array)), 0
    running = dict.fromkeys(range(len(array)), episode)
    for chunk in range(min(array.shape[1], left)):
        if not running:
            break
        commands = [
            Command(twist_to_controls(array[i, chunk], limits, simulation.actions.frames))
            for i in running
        ]
        after, results = simulation.play(list(running.values()), commands)
        steps += len(running)
        for index, result in zip(running, results, strict=True):
            returns[index] += result.reward
        running = {
            index: moved
            for index, moved, result in zip(running, after, results, strict=True)
            if not result.terminated
        }
    return returns, steps
