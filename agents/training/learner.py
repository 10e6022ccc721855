"""An algorithm of stable-baselines3, built for the environments of a run."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium import spaces
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.vector_env import SanaWMVectorEnv
from sana_wm_gym.evaluation.episodes import Observations
from sana_wm_gym.world.world_model import WorldModel

from ..extractors import is_picture
from .config import TrainAgentConfig

_FRACTIONS = ("gamma", "gae_lambda", "tau", "exploration_fraction", "exploration_final_eps")
_POSITIVE = ("clip_range", "max_grad_norm", "learning_rate")
_COUNTS = ("n_steps", "batch_size", "n_epochs", "buffer_size", "target_update_interval")


class RandomPolicy:
    """Draws every action from the action space: the baseline of any policy.

    Args:
        space: Of one action.
        seed: Source of the draws.
        observed: Of one observation, which `predict` then takes too; None takes batches alone.
    """

    def __init__(
        self, space: spaces.Space[Any], seed: int, observed: spaces.Space[Any] | None = None
    ) -> None:
        self._space, self._observed = space, observed
        self._space.seed(seed)

    def predict(
        self,
        observation: Observations,
        state: tuple[npt.NDArray[Any], ...] | None = None,
        episode_start: npt.NDArray[np.bool_] | None = None,
        deterministic: bool = False,
    ) -> tuple[npt.NDArray[Any], None]:
        """A new draw for every observation."""
        if self._observed is not None and self._observed.contains(observation):
            return np.asarray(self._space.sample()), None
        one = next(iter(observation.values())) if isinstance(observation, Mapping) else observation
        return np.stack([np.asarray(self._space.sample()) for _ in range(len(one))]), None


def make_env(config: TrainAgentConfig, world: WorldModel[Any] | None = None) -> SanaWMVecEnv:
    """Environments of a run, not yet reset; in another world than its own if one is given.

    Raises:
        ValueError: World, task, observation and agent do not go together.
    """
    relabels = config.agent.keywords.get("replay_buffer_class") is HerReplayBuffer
    if relabels and not hasattr(config.task, "compute_reward"):
        raise ValueError(
            f"task is {config.task.name!r}, expected one whose goals can be relabelled, as "
            "HerReplayBuffer needs: task=image_goal_her"
        )
    where = config.world if world is None else world
    arguments = {"task": config.task, "autoreset_mode": "Disabled", **config.env}
    try:
        return SanaWMVecEnv(SanaWMVectorEnv(config.num_envs, where, **arguments))
    except TypeError as error:  # a keyword that it does not take
        raise ValueError(f"env: {error}") from error


def build_learner(agent: partial[Any], env: SanaWMVecEnv, seed: int, device: str) -> Any:
    """The learner, or a `RandomPolicy`. The class of its policy follows from the observation space;
    where no image is observed, a features extractor for images is left out.

    Args:
        agent: Algorithm with arguments of its own, such as `partial(PPO, n_steps=16)`.
        env: Where it acts.
        seed: Source of networks and actions.
        device: Of its networks.

    Raises:
        ValueError: An argument is out of range, or stable-baselines3 refuses one or the
            environment.
    """
    if not (isinstance(agent.func, type) and issubclass(agent.func, BaseAlgorithm)):
        return agent(env.action_space, seed, env.observation_space)
    check_arguments(agent, env.num_envs)
    check_device(device)
    space = env.observation_space
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else [space]
    pictures = any(isinstance(part, spaces.Box) and is_picture(part) for part in parts)
    policy_kwargs = dict(agent.keywords.get("policy_kwargs", {}))
    if not pictures:
        policy_kwargs.pop("features_extractor_class", None)
        policy_kwargs.pop("features_extractor_kwargs", None)
    kind = "MultiInput" if isinstance(space, spaces.Dict) else "Cnn" if pictures else "Mlp"
    names = (f"{kind}Policy", f"{kind}LstmPolicy")
    policy = next(name for name in names if name in agent.func.policy_aliases)
    arguments = {**agent.keywords, "policy_kwargs": policy_kwargs, "seed": seed, "device": device}
    try:
        return agent.func(policy, env, **arguments)
    except (AssertionError, TypeError) as error:
        raise ValueError(f"agent {agent.func.__name__}: {error}") from error


def check_device(device: str) -> None:
    """Raise `ValueError` for a device that torch has not, where stable-baselines3 would take the
    CPU."""
    try:
        if device != "auto":
            torch.zeros(1, device=device)
    except (AssertionError, NotImplementedError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device is {device!r}, which is not available here: {reason}") from error


def check_arguments(agent: partial[Any], num_envs: int) -> None:
    """Check hyperparameters that stable-baselines3 takes unchecked.

    Raises:
        ValueError: One is out of range, or a rollout is not a whole number of minibatches.
    """
    for name, value in agent.keywords.items():
        if name in _COUNTS:
            require_integer(f"agent.{name}", value, 1)
        elif name in _FRACTIONS:
            require_number(f"agent.{name}", value, 0, 1)
        elif name in _POSITIVE and not callable(value):
            require_number(f"agent.{name}", value, 0, ends="(]")
    if isinstance(agent.func, type) and issubclass(agent.func, OnPolicyAlgorithm):
        known = inspect.signature(agent.func).parameters
        n_steps, batch_size = (
            agent.keywords.get(name, known[name].default) for name in ("n_steps", "batch_size")
        )
        if n_steps * num_envs % batch_size:
            raise ValueError(
                f"agent.batch_size is {batch_size} for rollouts of {num_envs} x {n_steps} steps, "
                f"expected a divisor of {num_envs * n_steps}"
            )
