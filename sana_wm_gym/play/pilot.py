"""A trained policy steers in place of a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import TWIST_NAMES
from sana_wm_gym.camera.keys import discrete_to_held, pressed_to_held
from sana_wm_gym.envs.actions import PLANAR
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.snapshot import identity
from sana_wm_gym.evaluation.episodes import Policy
from sana_wm_gym.play.session import Session
from sana_wm_gym.play.walk import Steering


@dataclass(frozen=True, eq=False)
class Pilot:
    """A policy and what it observes.

    Attributes:
        policy: Anything with the `predict` of stable-baselines3, without a memory.
        simulation: Its observations and its actions, in the world and task that are played.
    """

    policy: Policy
    simulation: Simulation

    def check_fits(self, session: Session) -> None:
        """Raise a ValueError if the policy acts in another world or task."""
        here, there = session.simulation, self.simulation
        if identity(here.spec, here.task) != identity(there.spec, there.task):
            raise ValueError(
                f"the policy acts in world {there.spec.name!r}, task {there.task.name!r}; "
                f"--world and --task are {here.spec.name!r}, {here.task.name!r}"
            )

    def steering(self, episode: Episode) -> tuple[Steering, ...]:
        """What the policy does in each frame of the chunk that follows."""
        actions = self.simulation.actions
        [observation] = self.simulation.observe([episode])
        action, _ = self.policy.predict(observation, deterministic=True)
        rows = [action] if actions.parts == 1 else list(action)
        each = actions.frames // actions.parts
        return tuple(one for row in rows for one in [self._steering(np.asarray(row))] * each)

    def _steering(self, action: npt.NDArray[np.generic]) -> Steering:
        mode = self.simulation.actions.mode
        if mode == "discrete":
            return Steering(discrete_to_held(int(action)))
        if mode == "keys":
            return Steering(pressed_to_held(action))
        twist = dict(zip(PLANAR if mode == "planar" else TWIST_NAMES, action.tolist(), strict=True))
        return Steering(twist=tuple(twist.get(name, 0.0) for name in TWIST_NAMES))
