"""What a planner is, and the one thing all of them do: try many futures from one moment.

A world is a function of values, so a future is tried by playing it from the present `Episode`;
nothing has to be saved, undone or computed twice. The tasks' own rewards say which future is best.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
"""Motions of a walker who neither nods nor floats: three numbers a chunk in place of five."""


@dataclass(frozen=True, eq=False)
class Plan:
    """What to do next, and what it cost to find out.

    Attributes:
        twists: One action per chunk, float32 [chunks, 5] in [-1, 1], in the order of
            `camera.TWIST_NAMES`. The first is to be done now.
        expected_return: Sum of rewards that these twists earned when they were tried; None where
            nothing was tried.
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
    """Chooses motions from a moment of an episode. Holds settings alone."""

    def plan(
        self,
        simulation: Simulation,
        episode: Episode,
        rng: np.random.Generator,
        before: Plan | None = None,
    ) -> Plan:
        """The best plan found; `episode` is as valid afterwards as before.

        Args:
            simulation: Where futures are tried. Its task gives the rewards.
            episode: The present, not over and with chunks left.
            rng: Source of all chance: the same generator state gives the same plan.
            before: The plan whose first twist led here, to start the search from, or None.

        Raises:
            ValueError: The episode has ended, or this planner cannot do this task.
        """
        ...


def imagine(simulation: Simulation, episode: Episode, twists: npt.ArrayLike) -> tuple[Returns, int]:
    """Play sequences of twists from one moment, all of them in one batch per chunk.

    A sequence that ends its episode earns nothing more and is played no further; none is played
    past the horizon.

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
    left = simulation.horizon - episode.chunk
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
        after, verdicts = simulation.play(list(running.values()), commands)
        steps += len(running)
        for index, verdict in zip(running, verdicts, strict=True):
            returns[index] += verdict.reward
        running = {
            index: stands
            for index, stands, verdict in zip(running, after, verdicts, strict=True)
            if not verdict.terminated
        }
    return returns, steps


@dataclass(frozen=True)
class Budget:
    """How much a search may try, and in which motions.

    Attributes:
        candidates: Sequences per round, >= 2.
        chunks: Chunks looked ahead, >= 1.
        iterations: Rounds, >= 1. A search costs candidates x chunks x iterations env steps, less
            where an episode ends within them.
        moves: Motions that are searched over, of `camera.TWIST_NAMES`; the others stay 0.

    Raises:
        ValueError: A number is too small, or a motion is unknown or named twice.
    """

    candidates: int
    chunks: int
    iterations: int = 1
    moves: Sequence[str] = GROUND

    def __post_init__(self) -> None:
        for name, least in (("candidates", 2), ("chunks", 1), ("iterations", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"given {name}={value!r}, expected a whole number >= {least}")
        moves = tuple(self.moves)
        if (
            isinstance(self.moves, str)
            or not moves
            or len(set(moves)) < len(moves)
            or set(moves) - set(TWIST_NAMES)
        ):
            raise ValueError(f"given moves={self.moves!r}, expected some of {TWIST_NAMES}")

    @property
    def columns(self) -> list[int]:
        """Places of the moves in a twist."""
        return [TWIST_NAMES.index(name) for name in self.moves]

    @property
    def shape(self) -> tuple[int, int]:
        """(chunks, moves): numbers that are searched for."""
        return self.chunks, len(self.moves)

    def twists(self, moves: npt.NDArray[np.float64]) -> Twists:
        """Numbers of a search, [..., chunks, moves], as twists in [-1, 1], [..., chunks, 5]."""
        twists = np.zeros((*moves.shape[:-1], len(TWIST_NAMES)), np.float32)
        twists[..., self.columns] = np.clip(moves, -1.0, 1.0)
        return twists

    def continued(self, before: Plan | None) -> npt.NDArray[np.float64]:
        """Where to start: the last plan less the chunk that was done, else no motion."""
        start = np.zeros(self.shape)
        if before is not None:
            rest = before.twists[1 : 1 + self.chunks, self.columns]
            start[: len(rest)] = rest
        return start


@dataclass(frozen=True, eq=False)
class Proposal:
    """Independent normal distributions that candidates are drawn from.

    Attributes:
        mean: [chunks, moves], in fractions of the world's limits.
        spread: Standard deviations, the same shape.
    """

    mean: npt.NDArray[np.float64]
    spread: npt.NDArray[np.float64]


Refit = Callable[[npt.NDArray[np.float64], Returns, Proposal], Proposal]
"""(tried [candidates, chunks, moves], their returns, where they came from) -> the next proposal."""


def search(
    simulation: Simulation,
    episode: Episode,
    rng: np.random.Generator,
    budget: Budget,
    proposal: Proposal,
    refit: Refit,
) -> Plan:
    """Draw, try, fit the proposal to what went well, and again.

    The first candidate of each round is the proposal's mean. The answer is the best sequence that
    was tried, so its expected return is one that has been seen.
    """
    best: Plan | None = None
    steps = 0
    for _ in range(budget.iterations):
        noise = rng.standard_normal((budget.candidates, *budget.shape))
        noise[0] = 0.0
        tried = np.clip(proposal.mean + proposal.spread * noise, -1.0, 1.0)
        twists = budget.twists(tried)
        returns, cost = imagine(simulation, episode, twists)
        steps += cost
        top = int(np.argmax(returns))
        if best is None or best.expected_return is None or returns[top] > best.expected_return:
            best = Plan(twists[top], float(returns[top]), steps)
        proposal = refit(tried, returns, proposal)
    assert best is not None
    return Plan(best.twists, best.expected_return, steps)
