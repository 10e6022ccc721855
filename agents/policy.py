"""The policy of a training run, loaded to act.

policy = load_policy("outputs/agents/ppo_image_goal_tiny_seed0")
actions, _ = policy.predict(observation, deterministic=True)
"""

from __future__ import annotations

import os
from typing import Any

from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.evaluation.episodes import Policy
from sana_wm_gym.world.world_model import WorldModel

from .training.checkpoint import read_checkpoint
from .training.learner import RandomPolicy, build_learner, make_env
from .training.run_folder import SavedRun, open_run
from .training.sb3_state import set_parameters


def load_policy(
    path: str | os.PathLike[str], *, device: str = "cpu", trust: bool = False
) -> Policy:
    """The policy of a run. It acts as stable-baselines3's do: `predict` takes the observation of
    one environment or a batch of them.

    Args:
        path: The folder of a run, whose newest checkpoint is taken, or of a checkpoint; or
            "hf://owner/name@commit", as `sana-wm push policy` prints it.
        device: Of its networks.
        trust: Import classes that the run's settings name outside of this project's.

    Raises:
        FileNotFoundError: There is no run, or it has no checkpoint yet.
        ValueError: Settings or checkpoint are damaged, or name a class outside of this project's.
    """
    return trained_policy(open_run(path, trust), device=device)[0]


def trained_policy(
    run: SavedRun, world: WorldModel[Any] | None = None, device: str | None = None
) -> tuple[Policy, Simulation]:
    """The policy of an opened run, and the simulation it acts in.

    Args:
        run: The run.
        world: Where it is to act; None for the world of the run.
        device: Of its networks; None for the CPU if it was trained there, else what torch has.

    Raises:
        FileNotFoundError: The run has no checkpoint yet.
        ValueError: The checkpoint is damaged or of other networks, or the world does not fit.
    """
    config, env = run.config, make_env(run.config, world)
    if device is None:
        device = "cpu" if config.device == "cpu" else "auto"
    learner = build_learner(config.agent, env, config.seed, device)
    if not isinstance(learner, RandomPolicy):
        if run.checkpoint is None:
            raise FileNotFoundError(f"the run in {run.folder} has no checkpoint yet")
        set_parameters(learner, read_checkpoint(run.checkpoint), run.checkpoint, device)
    return learner, env.vector_env.simulation
