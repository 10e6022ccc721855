"""A `SanaWMVectorEnv` as a `VecEnv` of stable-baselines3: one network, one batch.

vector = gym.make_vec("SanaWM/ImageGoal-v0", num_envs=16, world="tiny")
PPO("MultiInputPolicy", SanaWMVecEnv(vector)).learn(20_000)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from sana_wm_gym.envs.vector_env import SanaWMVectorEnv
from sana_wm_gym.world.world_model import as_arrays

try:
    from stable_baselines3.common.vec_env import VecEnv
except ImportError as error:
    raise ImportError(
        "the bridge needs stable-baselines3: pip install sana_wm_gym[agents]"
    ) from error

Array = npt.NDArray[Any]
Observations = Array | dict[str, Array]
Info = dict[str, Any]
Rows = int | Iterable[int] | None


class SanaWMVecEnv(VecEnv):
    """The sub-environments of a `SanaWMVectorEnv`, as stable-baselines3 takes them.

    With the same seeds and actions it returns what `DummyVecEnv` of as many single environments
    returns, up to the rounding described in `SanaWMVectorEnv`: the last observation of an episode
    is in `infos[i]["terminal_observation"]`, `infos[i]["TimeLimit.truncated"]` is true where it ran
    out of time, and `reset_infos[i]` is the info of the last reset.

    The vector environment is taken over: from now on its sub-environments are reset here, whichever
    autoreset mode it was made with. Names (`get_attr`, `env_method`) are looked up in the vector
    environment, then in its task, such as `compute_reward` of a goal that can be relabelled. What
    takes an index, such as `snapshot`, is called on `vector_env`.

    Args:
        vector_env: Of any task, with or without `as_torch`.
    """

    def __init__(self, vector_env: SanaWMVectorEnv) -> None:
        # Observations at an end and after it come from two calls, and so do their infos.
        vector_env.autoreset_mode = AutoresetMode.DISABLED
        vector_env.metadata = {**vector_env.metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.vector_env = vector_env
        super().__init__(
            vector_env.num_envs, vector_env.single_observation_space, vector_env.single_action_space
        )
        self.metadata = vector_env.metadata
        self._actions: Any = None
        self._begun = False

    def reset(self) -> Observations:
        """Reset all, with the seeds and options set since the last reset."""
        # Options may hold images, which do not compare; `set_options` gives all one dict.
        keys = [id(options) if options else 0 for options in self._options]
        if len(set(keys)) > 1 and not self._begun:
            # All have to be reset once before some can be.
            self.vector_env.reset(options=dict(self._options[0]))
        for key in dict.fromkeys(keys):
            mask, options = np.array(keys) == key, self._options[keys.index(key)]
            observations = self._reset(mask, options, seed=self._seeds)
        self._begun = True
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: Array) -> None:
        """Take the actions of the next `step_wait`, one per sub-environment."""
        self._actions = actions

    def step_wait(self) -> tuple[Observations, Array, Array, list[Info]]:
        """Move every camera for one chunk.

        Returns:
            Observations, those of new episodes where one ended; rewards, float32 [N]; whether each
            episode ended, bool [N]; and one info each.

        Raises:
            ValueError: An action is not in the action space. Nothing has changed.
        """
        result, rewards, terminated, truncated, batched = self.vector_env.step(self._actions)
        observations, over = _arrays(result), terminated | truncated
        infos = [row_info(batched, row) for row in range(self.num_envs)]
        for row, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            if over[row]:
                info["terminal_observation"] = _row(observations, row)
        if over.any():
            observations = self._reset(over, {})
        return observations, rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Close the vector environment; the world stays loaded."""
        self.vector_env.close()

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """The last frame of each, in render mode "rgb_array"; else None for each."""
        if self.render_mode != "rgb_array":
            gym.logger.warn(f"render_mode is {self.render_mode!r}, images need 'rgb_array'")
            return [None] * self.num_envs
        return self.vector_env.render() or ()

    def get_attr(self, attr_name: str, indices: Rows = None) -> list[Any]:
        """An attribute of the vector environment or its task, once per index."""
        owner = self.vector_env if hasattr(self.vector_env, attr_name) else self.vector_env.task
        return [getattr(owner, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Rows = None) -> None:
        """Set an attribute of the vector environment, for all indices at once or not at all."""
        rows = list(self._get_indices(indices))
        if set(rows) != set(range(self.num_envs)):
            raise ValueError(
                f"given rows {rows} for attribute {attr_name!r}, expected all "
                f"{self.num_envs}: they share it"
            )
        setattr(self.vector_env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Rows = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment or its task, once per index."""
        methods = self.get_attr(method_name, indices)
        return [method(*method_args, **method_kwargs) for method in methods]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Rows = None) -> list[bool]:
        """False for each: sub-environments are no environments that a wrapper could be around."""
        return [False for _ in self._get_indices(indices)]

    def _reset(self, mask: Array, options: Mapping[str, Any], seed: Any = None) -> Observations:
        given = {**options, "reset_mask": mask}
        observations, infos = self.vector_env.reset(seed=seed, options=given)
        for row in np.flatnonzero(mask).tolist():
            self.reset_infos[row] = row_info(infos, row)
        return _arrays(observations)


def row_info(infos: Mapping[str, Any], row: int) -> Info:
    """One sub-environment's info out of Gymnasium's arrays, as a single environment returns it.

    Args:
        infos: Arrays by name, each with a mask under "_name" of those that have it.
        row: Index of the sub-environment.
    """
    names = [name for name in infos if f"_{name}" in infos and infos[f"_{name}"][row]]
    found = {name: infos[name][row] for name in names}
    # Numbers come back as Python's own.
    return {n: v.item() if isinstance(v, np.generic) else v.copy() for n, v in found.items()}


def _arrays(observations: Any) -> Observations:
    """Observations that may be tensors."""
    if isinstance(observations, dict):
        return {name: as_arrays([part])[0] for name, part in observations.items()}
    return as_arrays([observations])[0]


def _row(observations: Observations, row: int) -> Observations:
    if isinstance(observations, dict):
        return {name: part[row].copy() for name, part in observations.items()}
    return np.array(observations[row])
