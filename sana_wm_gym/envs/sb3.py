"""Many worlds, one network, as a `VecEnv` of stable-baselines3.

    vector = gym.make_vec("SanaWM/ImageGoal-v0", num_envs=16, world="tiny")
    PPO("MultiInputPolicy", SanaWMVecEnv(vector)).learn(20_000)

stable-baselines3 has vector environments of its own, older than Gymnasium's: NumPy alone, a dict of
infos per sub-environment, and a new episode within the step that ends one. Its `SubprocVecEnv`
would load the network once per process; here all sub-environments share one, and one batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.vector import AutoresetMode

from sana_wm_gym.envs.vector_env import SanaWMVectorEnv

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
        """Reset all, with the seeds and options set since the last reset.

        Raises:
            ValueError: An option is unknown or does not fit.
        """
        groups = self._option_groups()
        if len(groups) > 1 and not self._begun:
            # All have to be reset once before some can be.
            self.vector_env.reset(options=dict(groups[0][0]))
        for options, mask in groups:
            observations, infos = self.vector_env.reset(
                seed=self._seeds, options={**options, "reset_mask": mask}
            )
            self._keep_reset_infos(infos, mask)
        self._begun = True
        self._reset_seeds()
        self._reset_options()
        return _numpy(observations)

    def step_async(self, actions: Array) -> None:
        """Take the actions of the next `step_wait`, one per sub-environment."""
        self._actions = actions

    def step_wait(self) -> tuple[Observations, Array, Array, list[Info]]:
        """Move every camera for one chunk.

        Returns:
            Observations, those of new episodes where one ended; rewards, float32 [N]; whether each
            episode ended, bool [N]; and one info each.

        Raises:
            ValueError: An action is not in the action space; says where. Nothing has changed.
        """
        result = self.vector_env.step(self._actions)
        observations, rewards, terminated, truncated = map(_numpy, result[:4])
        over = terminated | truncated
        infos = [row_info(result[4], row) for row in range(self.num_envs)]
        for row, info in enumerate(infos):
            info["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            if over[row]:
                info["terminal_observation"] = _row(observations, row)
        if over.any():
            observations, begun = self.vector_env.reset(options={"reset_mask": over})
            self._keep_reset_infos(begun, over)
        return _numpy(observations), rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Close the vector environment; the world stays loaded."""
        self.vector_env.close()

    def get_images(self) -> Sequence[npt.NDArray[np.uint8] | None]:
        """The last frame of each, in render mode "rgb_array"; else None for each."""
        if self.render_mode != "rgb_array":
            gym.logger.warn(f"render_mode is {self.render_mode!r}, images need 'rgb_array'")
            return [None] * self.num_envs
        images = self.vector_env.render()
        assert images is not None, "there are images in this render mode"
        return images

    def get_attr(self, attr_name: str, indices: Rows = None) -> list[Any]:
        """An attribute of the vector environment or its task, once per index.

        Raises:
            AttributeError: Neither has one of this name.
        """
        return [self._named(attr_name) for _ in self._rows(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Rows = None) -> None:
        """Set an attribute of the vector environment, which all share.

        Raises:
            ValueError: Only some indices are given.
        """
        rows = self._rows(indices)
        if set(rows) != set(range(self.num_envs)):
            raise ValueError(
                f"given rows {rows} for attribute {attr_name!r}, expected all "
                f"{self.num_envs}: they share it"
            )
        setattr(self.vector_env, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: Rows = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector environment or its task, once per index.

        Raises:
            AttributeError: Neither has one of this name.
        """
        method = self._named(method_name)
        return [method(*method_args, **method_kwargs) for _ in self._rows(indices)]

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Rows = None) -> list[bool]:
        """False for each: sub-environments are no environments that a wrapper could be around."""
        return [False for _ in self._rows(indices)]

    def _named(self, name: str) -> Any:
        owner = self.vector_env if hasattr(self.vector_env, name) else self.vector_env.task
        return getattr(owner, name)

    def _rows(self, indices: Rows) -> list[int]:
        return list(self._get_indices(indices))

    def _keep_reset_infos(self, infos: Mapping[str, Any], mask: npt.NDArray[np.bool_]) -> None:
        for row in np.flatnonzero(mask).tolist():
            self.reset_infos[row] = row_info(infos, row)

    def _option_groups(self) -> list[tuple[Mapping[str, Any], npt.NDArray[np.bool_]]]:
        """Reset options, and the mask of the sub-environments to reset with them."""
        # Options may hold images, which do not compare; `set_options` gives all one dict.
        groups: dict[int, tuple[Mapping[str, Any], npt.NDArray[np.bool_]]] = {}
        for row, options in enumerate(self._options):
            key = id(options) if options else 0
            empty = np.zeros(self.num_envs, dtype=np.bool_)
            groups.setdefault(key, (options, empty))[1][row] = True
        return list(groups.values())


def row_info(infos: Mapping[str, Any], row: int) -> Info:
    """One sub-environment's info out of Gymnasium's arrays, as a single environment returns it.

    Args:
        infos: Arrays by name, each with a mask under "_name" of those that have it.
        row: Index of the sub-environment.
    """
    names = [name for name in infos if f"_{name}" in infos and infos[f"_{name}"][row]]
    return {name: _value(infos[name], row) for name in names}


def _value(values: Any, row: int) -> Any:
    if isinstance(values, dict):
        return row_info(values, row)
    value = values[row]
    # Numbers come back as Python's own; anything kept in an array of objects as what it is.
    if isinstance(value, np.generic):
        return value.item()
    return value.copy() if isinstance(value, np.ndarray) else value


def _numpy(values: Any) -> Any:
    """Tensors, alone or by name, as arrays; arrays as they are."""
    if isinstance(values, dict):
        return {name: _numpy(part) for name, part in values.items()}
    return values.cpu().numpy() if hasattr(values, "cpu") else values


def _row(observations: Observations, row: int) -> Observations:
    if isinstance(observations, dict):
        return {name: part[row].copy() for name, part in observations.items()}
    return np.array(observations[row])
