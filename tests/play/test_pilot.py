"""What a policy does in play is what it does in an environment."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.envs.simulation import simulation_of
from sana_wm_gym.play.pilot import Pilot
from sana_wm_gym.play.session import Session


class Fixed:
    """Always the same action; keeps what it was shown."""

    def __init__(self, action: Any) -> None:
        self.action, self.seen = action, []

    def predict(self, observation: Any, **_: Any) -> tuple[Any, None]:
        self.seen.append(observation)
        return self.action, None


@pytest.mark.parametrize(("mode", "parts"), [("continuous", 1), ("continuous", 3), ("planar", 2)])
@pytest.mark.parametrize("task", ["free_roam", "image_goal"])
def test_twists(mode: str, parts: int, task: str) -> None:
    check({"action_mode": mode, "actions_per_chunk": parts, "task": task})


@pytest.mark.parametrize(("mode", "parts"), [("discrete", 1), ("discrete", 4), ("keys", 2)])
def test_keys(mode: str, parts: int) -> None:
    check({"action_mode": mode, "actions_per_chunk": parts})


def check(settings: dict[str, Any]) -> None:
    env = SanaWMEnv("procedural", render_mode="rgb_array_list", **settings)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=3)
    policy = Fixed(env.action_space.sample())
    pilot = Pilot(policy, simulation_of(EnvConfig("procedural", **settings)))
    task = settings.get("task", "free_roam")
    session = Session(EnvConfig("procedural", task=task, action_mode="keys"), 3)
    pilot.check_fits(session)
    chunk = session.make(session.here, pilot.steering(session.here))
    assert data_equivalence(policy.seen[0], observation)
    env.step(policy.action)
    assert np.array_equal(np.stack(env.render()), chunk.frames)


def test_a_policy_of_another_task_is_refused() -> None:
    pilot = Pilot(Fixed(0), simulation_of(EnvConfig("procedural", task="image_goal")))
    with pytest.raises(ValueError, match="acts in world 'procedural', task 'image_goal'"):
        pilot.check_fits(Session(EnvConfig("procedural", action_mode="keys")))
