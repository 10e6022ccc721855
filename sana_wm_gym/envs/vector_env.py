"""N episodes of a task that advance in one batch.

envs = gym.make_vec("SanaWM/ImageGoal-v0", num_envs=16, world="tiny")
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array

from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.envs.actions import Command, action_array
from sana_wm_gym.envs.config import METADATA, EnvConfig
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import Observation, copied
from sana_wm_gym.envs.one_thread import OneThread, one_thread
from sana_wm_gym.envs.sana_wm_env import ending_of
from sana_wm_gym.envs.simulation import Info, Simulation, checked_steps, simulation_of
from sana_wm_gym.envs.snapshot import Snapshot, generator, identity
from sana_wm_gym.envs.tasks.task import Task
from sana_wm_gym.world.world_model import WorldModel

if TYPE_CHECKING:
    from sana_wm_gym.envs.tensor_view import TensorView


class SanaWMVectorEnv(VectorEnv[Any, Any, Any]):
    """N environments of one kind with one world, stepped in one batch.

    Sub-environment i is the `SanaWMEnv` of its seed, whose manual holds here: it has its own state,
    trajectory, generator and limit of steps, and does not depend on the others, but for the
    rounding of a network that works on another batch size. Sub-environments may stand at different
    chunks. A step that fails changes nothing in any of them.

    `infos` are Gymnasium's: arrays by name, with a mask under "_name".

    ## Arguments
    The fields of `EnvConfig`, all but `world` by keyword, and:

    * `num_envs`: N >= 1.
    * `max_episode_steps`: Steps after which an episode is truncated: one number, one per
      sub-environment, or None for the task's. `gymnasium.make_vec` passes the id's.
    * `autoreset_mode`: What becomes of a sub-environment whose episode has ended. "NextStep": its
      next step resets it, whatever the action. "SameStep": it is reset at once, and what it ended
      with is in `infos["final_obs"]` and `infos["final_info"]`. "Disabled": it must be reset by
      `reset(options={"reset_mask": ...})`.
    * `as_torch`: Return observations as torch tensors on the world's device; see `TensorView`.
      Rewards and ends are arrays in any case, as Gymnasium's vector wrappers need them.

    Raises:
        ValueError: A name is unknown, a number out of range, or there is not one number of steps
            per sub-environment.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
        RuntimeError: Called from a thread while another thread's call has not returned.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012 (Gymnasium's own type)
        **METADATA,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        num_envs: int,
        world: str | PathLike[str] | WorldModel[Any] = EnvConfig.world,
        *,
        max_episode_steps: int | Sequence[int] | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        as_torch: bool = False,
        **settings: Any,
    ) -> None:
        several = isinstance(max_episode_steps, Sequence | np.ndarray)
        limits = list(map(checked_steps, max_episode_steps)) if several else []  # type: ignore[arg-type]
        longest: Any = max(limits, default=0) if several else max_episode_steps
        config = EnvConfig(world, max_episode_steps=longest, **settings)
        require_integer("num_envs", num_envs, 1)
        require_choice("render_mode", config.render_mode, (None, *METADATA["render_modes"]))
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.simulation = simulation_of(config)
        self.num_envs = num_envs
        self.max_episode_steps = tuple(limits or [self.simulation.max_episode_steps] * num_envs)
        if len(self.max_episode_steps) != num_envs:
            raise ValueError(
                f"given {len(limits)} max_episode_steps, expected one for each of {num_envs} "
                "sub-environments"
            )
        self.render_mode = config.render_mode
        self.metadata = {
            **METADATA,
            "render_fps": config.render_fps(self.world.spec),
            "autoreset_mode": self.autoreset_mode,
        }
        self.single_action_space = self.simulation.actions.space
        self.single_observation_space = self.simulation.observation_space
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._view = _tensor_view(self.world, num_envs) if as_torch else _ArrayView()
        self._episodes: list[Episode] | None = None
        self._random = [seeding.np_random() for _ in range(num_envs)]
        self._one_thread = OneThread()

    @property
    def world(self) -> WorldModel[Any]:
        """What is moved through, shared by all sub-environments."""
        return self.simulation.world

    @property
    def task(self) -> Task:
        """Goal, reward and end, the same in all sub-environments."""
        return self.simulation.task

    @property
    def prompts(self) -> list[str]:
        """The prompt of each sub-environment's episode. Never in `infos`."""
        return [episode.prompt for episode in self._begun()]

    @property  # type: ignore[misc]
    def np_random(self) -> tuple[np.random.Generator, ...]:  # type: ignore[override]
        """The generator of each sub-environment."""
        return tuple(rng for rng, _ in self._random)

    @property
    def np_random_seed(self) -> tuple[int, ...]:  # type: ignore[override]
        """The seed of each generator; -1 where it was restored."""
        return tuple(seed for _, seed in self._random)

    @one_thread
    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, Info]:
        """Begin an episode in every sub-environment, or in some.

        Args:
            seed: Sub-environment i gets `seed + i`, or `seed[i]`; None leaves its generator.
            options: `SanaWMEnv`'s, for all alike; and "reset_mask", bool [N]: only these are reset.

        Raises:
            ValueError: An option is unknown or does not fit; the running episodes stay.
            ResetNeeded: Sub-environments that are left out have never been reset.
        """
        self._require_open()
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        indices = list(range(self.num_envs)) if mask is None else self._masked(mask)
        seeds = self._seeds(seed)
        if self._episodes is None and len(indices) < self.num_envs:
            raise ResetNeeded("there are no rollouts yet, expected a reset of all first")
        random, begun = self._begin(indices, options, seeds)
        episodes = _placed(self._episodes or begun, indices, begun)
        seen = self._view.observe(self.simulation, episodes)
        observations = self._view.batch(self.simulation, seen)
        self._episodes, self._random = episodes, random
        infos: Info = {}
        for index in indices:
            infos = self._add_info(infos, self.simulation.info(episodes[index]), index)
        return observations, infos

    @one_thread
    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, Info]:
        """Move every camera for one chunk.

        Args:
            actions: An element of `action_space`, as an array or a tensor.

        Returns:
            Observations, rewards float64 [N], terminations and truncations bool [N], infos.

        Raises:
            ValueError: The batch has the wrong shape, or an action is not in the action space; the
                message has its index. Nothing has changed.
            ResetNeeded: A sub-environment has no running episode and is not reset by itself.
        """
        before, given, mode = self._begun(), self._checked(actions), self.autoreset_mode
        endings = [ending_of(*pair) for pair in zip(before, self.max_episode_steps, strict=True)]
        ended = [index for index, ending in enumerate(endings) if ending]
        if ended and mode is not AutoresetMode.NEXT_STEP:
            index = ended[0]
            raise ResetNeeded(
                f"the episode of sub-environment {index} {endings[index]}, expected reset() first"
            )
        playing = [index for index, ending in enumerate(endings) if not ending]
        commands = [self._decode(before[index], given[index], index) for index in playing]
        played, results = self.simulation.play([before[index] for index in playing], commands)
        episodes = _placed(before, playing, played)
        rewards = np.zeros(self.num_envs)
        terminations, truncations = np.zeros((2, self.num_envs), dtype=np.bool_)
        for index, result in zip(playing, results, strict=True):
            rewards[index], terminations[index] = result.reward, result.terminated
            truncations[index] = episodes[index].chunk >= self.max_episode_steps[index]
        finals: list[Episode] = []
        if mode is AutoresetMode.SAME_STEP:
            ended = np.flatnonzero(terminations | truncations).tolist()
            finals = [episodes[index] for index in ended]
        random, begun = self._begin(ended, {}, [None] * self.num_envs)
        episodes = _placed(episodes, ended, begun)
        # Ends and beginnings are seen together, so that they are decoded in one batch.
        seen = self._view.observe(self.simulation, [*finals, *episodes])
        observations = self._view.batch(self.simulation, seen[len(finals) :])
        infos: Info = {}
        for index, shown, final in zip(ended, seen, finals, strict=False):
            last = {"final_obs": self._view.alone(shown), "final_info": self.simulation.info(final)}
            infos = self._add_info(infos, last, index)
        for index, episode in enumerate(episodes):
            infos = self._add_info(infos, self.simulation.info(episode), index)
        self._episodes, self._random = episodes, random
        return observations, rewards, terminations, truncations, infos

    def render(self) -> tuple[Any, ...] | None:
        """Of each sub-environment the last frame, uint8 [H, W, 3], or the list of all frames of its
        last chunk."""
        episodes = self._begun()
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode='rgb_array' or 'rgb_array_list'")
            return None
        if self.render_mode == "rgb_array":
            return tuple(frame.copy() for frame in self.simulation.frames(episodes, last=True))
        return tuple(list(frames.copy()) for frames in self.simulation.frames(episodes))

    def snapshot(self, env_index: int) -> Snapshot:
        """The state of one sub-environment, as `SanaWMEnv.snapshot`; fits single ones too."""
        episode = self._begun()[self._index(env_index)]
        state = self._random[env_index][0].bit_generator.state
        return Snapshot(episode, dict(state), identity(self.world.spec, self.task))

    @one_thread
    def restore(self, env_index: int, snapshot: Snapshot) -> tuple[Observation, Info]:
        """Continue a sub-environment from a snapshot, as `SanaWMEnv.restore`; nothing is computed
        again.

        Raises:
            ValueError: There is no such sub-environment, or the snapshot does not fit.
        """
        return self._put([self._index(env_index)], snapshot)

    @one_thread
    def branch(self, source: int, targets: Iterable[int]) -> tuple[Observation, Info]:
        """Copy one sub-environment into others, generator included; nothing is computed again.

        Returns:
            The observation and info that all these now have. They differ where their actions do.

        Raises:
            ValueError: There is no such sub-environment.
        """
        return self._put([self._index(env_index) for env_index in targets], self.snapshot(source))

    def close_extras(self, **kwargs: Any) -> None:
        """Drop the rollouts. The world stays loaded for other environments."""
        self._episodes = None

    def _put(self, indices: list[int], snapshot: Snapshot) -> tuple[Observation, Info]:
        episodes = self._begun()
        snapshot.check_fits(self.world.spec, self.task)
        [observation] = self._view.observe(self.simulation, [snapshot.episode])
        self._episodes = _placed(episodes, indices, [snapshot.episode] * len(indices))
        for index in indices:
            self._random[index] = (generator(snapshot.rng), -1)
        return self._view.alone(observation), self.simulation.info(snapshot.episode)

    def _begin(
        self, indices: list[int], options: dict[str, Any], seeds: list[int | None]
    ) -> tuple[list[tuple[np.random.Generator, int]], list[Episode]]:
        """All generators, new or copied at `indices`, and new episodes drawn from these."""
        random = list(self._random)
        for index in indices:
            seed = seeds[index]
            random[index] = (
                copy.deepcopy(random[index]) if seed is None else seeding.np_random(seed)
            )
        return random, self.simulation.begin(
            [options] * len(indices), [random[r][0] for r in indices]
        )

    def _checked(self, actions: Any) -> npt.NDArray[Any]:
        array, expected = action_array(actions, "actions"), self.action_space.shape
        if array.shape != expected:
            raise ValueError(
                f"actions have shape {array.shape}, expected {expected}: "
                f"one action for each of {self.num_envs} sub-environments"
            )
        return array

    def _decode(self, episode: Episode, action: Any, index: int) -> Command:
        try:
            return self.simulation.decode(episode, action)
        except ValueError as error:
            raise ValueError(f"sub-environment {index}: {error}") from error

    def _masked(self, mask: Any) -> list[int]:
        array = np.asarray(mask.cpu() if hasattr(mask, "cpu") else mask)
        if array.dtype != np.bool_ or array.shape != (self.num_envs,) or not array.any():
            raise ValueError(
                f"reset_mask is {array.dtype} {array.shape} with {np.count_nonzero(array)} set, "
                f"expected bool ({self.num_envs},) with at least one"
            )
        return [int(index) for index in np.flatnonzero(array)]

    def _seeds(self, seed: int | Sequence[int | None] | None) -> list[int | None]:
        if seed is None:
            return [None] * self.num_envs
        if isinstance(seed, (int, np.integer)):
            return [int(seed) + index for index in range(self.num_envs)]
        if not isinstance(seed, Sequence | np.ndarray):
            raise ValueError(f"seed is {seed!r}, expected an integer or one for each of them")
        if len(seed) != self.num_envs:
            raise ValueError(f"given {len(seed)} seeds, expected one for each of {self.num_envs}")
        return list(seed)

    def _index(self, env_index: int) -> int:
        return require_integer("env_index", env_index, 0, self.num_envs - 1)

    def _begun(self) -> list[Episode]:
        self._require_open()
        if self._episodes is None:
            raise ResetNeeded("there are no rollouts yet, expected reset() first")
        return self._episodes

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedEnvironmentError("the environment is closed, expected an open one")


def _placed(episodes: list[Episode], indices: list[int], new: list[Episode]) -> list[Episode]:
    """The episodes, with new ones at some indices."""
    changed = dict(zip(indices, new, strict=True))
    return [changed.get(index, episode) for index, episode in enumerate(episodes)]


class _ArrayView:
    """Observations as arrays, with the methods of `TensorView`."""

    def observe(self, simulation: Simulation, episodes: Sequence[Episode]) -> list[Observation]:
        return simulation.observe(episodes)

    def batch(self, simulation: Simulation, observations: Sequence[Observation]) -> Any:
        space = simulation.observation_space
        empty: Any = create_empty_array(space, len(observations))
        return concatenate(space, observations, empty)

    alone = staticmethod(copied)


def _tensor_view(world: WorldModel[Any], num_envs: int) -> TensorView:
    # Imported here, so that environments without tensors do without torch.
    from sana_wm_gym.envs.tensor_view import TensorView

    return TensorView(world, num_envs)
