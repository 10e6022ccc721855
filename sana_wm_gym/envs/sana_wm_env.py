"""A world model as a Gymnasium environment: one step is one chunk of frames."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from os import PathLike
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.config import SINGLE_METADATA, EnvConfig
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import Observation, copied
from sana_wm_gym.envs.one_thread import OneThread, one_thread
from sana_wm_gym.envs.simulation import Info, Simulation, simulation_of
from sana_wm_gym.envs.snapshot import Snapshot, generator, identity
from sana_wm_gym.envs.tasks.task import Task
from sana_wm_gym.envs.window import Window
from sana_wm_gym.world.world_model import WorldModel

Transition = tuple[Observation, float, bool, bool, Info]


class SanaWMEnv(gym.Env[Any, Any]):
    """Move a camera through a world model; one step generates one chunk of n frames.

    ## Action Space
    By `action_mode`, see `EnvConfig`: the body twist of the chunk as a `Box` in [-1, 1], one of 13
    key combinations, or 8 pressed keys. `actions_per_chunk` adds a leading axis.

    ## Observation Space
    What `observation` names: "frame", "frames", "latent" and "pose", one as its `Box`, several as a
    flat `Dict`. The task may add parts.

    `info` has "c2w", the camera-to-world poses of the chunk's frames, relative to the first frame,
    float64 [n, 4, 4] (after reset the start pose, n times): the commanded ones, unless the task
    disturbs them; "intrinsics", (fx, fy, cx, cy) in pixels of the world's frames, float64 [4];
    "chunk_index", the number of chunks so far; "anchor_confidence", the probability in [0, 1] that
    the first frame is of the world's scene (1.0 for worlds that do not localise); and the task's
    numbers. Keys, shapes and types are the same from reset to the end. A world without
    camera has no poses and intrinsics.

    ## Rewards
    The task's; 0 without a task.

    ## Starting State
    Drawn by the world from the seed, or given by `image` or the options of `reset`.

    ## Episode End
    Terminated by the task, truncated after `max_episode_steps` steps. Made by `gymnasium.make`, as
    every registered environment, it leaves truncation to the `TimeLimit` wrapper, which counts the
    steps since its own `reset` whatever is restored; without that wrapper, the number of chunks of
    the episode counts, snapshots included.

    A step that fails changes nothing: all that changes is in one `Episode` value, replaced at the
    end of a successful step. The world itself is shared by all environments of a process.

    ## Arguments
    The fields of `EnvConfig`, all but `world` by keyword.

    ## Version History
    * v0: first version.

    Raises:
        ValueError: A name is unknown or a number out of range.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
        TypeError: There is no such argument.
        RuntimeError: Called from a thread while another thread's call has not returned.
    """

    metadata: dict[str, Any] = dict(SINGLE_METADATA)  # noqa: RUF012 (Gymnasium's own type)

    def __init__(
        self, world: str | PathLike[str] | WorldModel[Any] = EnvConfig.world, **settings: Any
    ) -> None:
        config = EnvConfig(world, **settings)
        self.simulation = simulation_of(config)
        self.metadata = {**SINGLE_METADATA, "render_fps": config.render_fps(self.simulation.spec)}
        self.render_mode = config.render_mode
        self.action_space = self.simulation.actions.space
        self.observation_space = self.simulation.observation_space
        self._episode: Episode | None = None
        self._window: Window | None = None
        self._closed = False
        self._one_thread = OneThread()

    @property
    def world(self) -> WorldModel[Any]:
        """What is moved through, shared by all environments made with its name."""
        return self.simulation.world

    @property
    def task(self) -> Task:
        """Goal, reward and end."""
        return self.simulation.task

    @property
    def prompt(self) -> str:
        """The running episode's prompt. Never in `info`."""
        return self._begun().prompt

    def set_prompt(self, text: str) -> None:
        """Another prompt from the next step on.

        Raises:
            ValueError: The world takes no prompts, or cannot read this one.
            ResetNeeded: There is no running rollout, or it has ended.
        """
        self._episode = self.simulation.with_prompt(self._running(), text)

    @property
    def intrinsics_from(self) -> str:
        """Where the running episode's intrinsics come from: "given", "assumed", or the name of what
        estimated them. Never in `info`."""
        return self._begun().intrinsics_from

    @property
    def max_episode_steps(self) -> int | None:
        """Steps after which an episode is truncated here; None where `TimeLimit` does it."""
        return self.simulation.max_episode_steps if self.spec is None else None

    @one_thread
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a rollout.

        Args:
            seed: Same seed, same start and noise, whatever other environments do.
            options: `scene` (int) and `prompt` (str) to draw a start there; or `image` (uint8
                [H, W, 3]), with `intrinsics`, `intrinsics_from`, `prompt`, `scene`, `scene_c2w`; or
                a whole `start` alone. What they leave open is as the environment was made.

        Raises:
            ValueError: An option is unknown or does not fit; the running rollout stays.
        """
        self._require_open()
        if seed is None:
            # A copy, so that a reset that fails does not change the generator.
            rng, given = copy.deepcopy(self.np_random), self.np_random_seed
        else:
            rng, given = seeding.np_random(seed)
        [episode] = self.simulation.begin([options], [rng])
        observation = self._observe(episode)
        self._episode, self._np_random, self._np_random_seed = episode, rng, given
        self._show(episode)
        return observation, self.simulation.info(episode)

    @one_thread
    def step(self, action: Any) -> Transition:
        """Move the camera for one chunk.

        Raises:
            ValueError: The action is not in the action space; nothing has changed.
            ResetNeeded: There is no running rollout, or it has ended.
        """
        episode = self._running()
        return self._play(episode, self.simulation.decode(episode, action))

    @one_thread
    def step_string(self, text: str) -> Transition:
        """`step` with an action string as long as a chunk, such as "w-12,dw-12", in any mode.

        Raises:
            ValueError: The string has an error, or another number of frames.
        """
        episode = self._running()
        return self._play(episode, self.simulation.actions.text(text, episode.keys))

    @one_thread
    def step_controls(self, controls: Controls) -> Transition:
        """`step` with the motion of each of the chunk's frames, in any action mode.

        Raises:
            ValueError: Another number of frames, or the world has no camera.
        """
        episode = self._running()
        self.world.spec.require_camera("step_controls")
        return self._play(episode, Command(controls))

    def _play(self, episode: Episode, command: Command) -> Transition:
        [after], [result] = self.simulation.play([episode], [command])
        observation = self._observe(after)
        self._episode = after
        self._show(after)
        truncated = self.max_episode_steps is not None and after.chunk >= self.max_episode_steps
        info = self.simulation.info(after)
        return observation, float(result.reward), bool(result.terminated), truncated, info

    def _show(self, episode: Episode) -> None:
        """In mode "human", every frame of the last chunk at the world's rate."""
        if self.render_mode == "human":
            if self._window is None:
                spec = self.world.spec
                self._window = Window(spec.size, spec.fps, spec.name)
            self._window.play(self.simulation.frames([episode])[0])

    @property
    def compute_reward(self) -> Callable[..., npt.NDArray[np.float32]]:
        """The task's, of (achieved_goal, desired_goal, info); an AttributeError where its goals
        cannot be relabelled."""
        task: Any = self.task
        return task.compute_reward

    @property
    def get_keys_to_action(self) -> Callable[[], dict[tuple[str, ...], Any]]:
        """Action by pressed letters, as `gymnasium.utils.play` calls it; an AttributeError unless
        `action_mode` is "discrete" or "keys"."""
        found = self.simulation.actions.keys_to_action()
        return lambda: found

    def render(self) -> Any:
        """The last frame, uint8 [H, W, 3], or the list of all frames of the last chunk. None in
        mode "human", in which `reset` and `step` show the frames."""
        episode = self._begun()
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode='rgb_array' or 'rgb_array_list'")
        if self.render_mode in (None, "human"):
            return None
        if self.render_mode == "rgb_array":
            return self.simulation.frames([episode], last=True)[0].copy()
        return list(self.simulation.frames([episode])[0].copy())

    def close(self) -> None:
        """Drop the rollout. The world stays loaded for other environments."""
        self._closed = True
        self._episode = None
        if self._window is not None:
            self._window.close()
            self._window = None

    def snapshot(self) -> Snapshot:
        """The whole state as a value: world, task, camera, key inertia and random generator."""
        state = self.np_random.bit_generator.state
        return Snapshot(self._begun(), dict(state), identity(self.world.spec, self.task))

    @one_thread
    def restore(self, snapshot: Snapshot) -> tuple[Observation, Info]:
        """Continue from a snapshot, bit for bit.

        Returns:
            Observation and info as they were when it was taken.

        Raises:
            ValueError: It was made in another world or task.
        """
        self._require_open()
        snapshot.check_fits(self.world.spec, self.task)
        observation = self._observe(snapshot.episode)
        self.np_random = generator(snapshot.rng)
        self._episode = snapshot.episode
        return observation, self.simulation.info(snapshot.episode)

    @one_thread
    def branch(self, n: int) -> list[SanaWMEnv]:
        """`n` independent environments in this one's state; its world is shared, wrappers are not.

        They differ where their actions differ. A window stays with this environment: branches of
        one in mode "human" render nothing.

        Raises:
            ValueError: `n` is negative.
        """
        if n < 0:
            raise ValueError(f"given n = {n}, expected >= 0")
        here = self.snapshot()
        branches = [copy.copy(self) for _ in range(n)]
        for env in branches:
            # Spaces carry generators for sampling; the generator of `env` is set by `restore`.
            env.action_space = copy.deepcopy(self.action_space)
            env.observation_space = copy.deepcopy(self.observation_space)
            env.spec, env._one_thread, env._window = None, OneThread(), None
            env.render_mode = None if self.render_mode == "human" else self.render_mode
            env.restore(here)
        return branches

    def _observe(self, episode: Episode) -> Observation:
        return copied(self.simulation.observe([episode])[0])

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedEnvironmentError("the environment is closed, expected an open one")

    def _begun(self) -> Episode:
        self._require_open()
        if self._episode is None:
            raise ResetNeeded("there is no rollout yet, expected reset() first")
        return self._episode

    def _running(self) -> Episode:
        episode = self._begun()
        ended = ending_of(episode, self.max_episode_steps)
        if ended:
            raise ResetNeeded(f"the rollout {ended}, expected reset() first")
        return episode


def simulation_in(env: gym.Env[Any, Any]) -> Simulation:
    """The simulation of a `SanaWMEnv` inside wrappers, with the limit of steps of their `spec`."""
    base = env.unwrapped
    assert isinstance(base, SanaWMEnv), f"{base} is no SanaWMEnv"
    if env.spec is None or env.spec.max_episode_steps is None:
        return base.simulation
    config = base.simulation.config
    return simulation_of(replace(config, max_episode_steps=env.spec.max_episode_steps))


def ending_of(episode: Episode, max_episode_steps: int | None) -> str:
    """How an episode ended, or "" if it is still running."""
    if episode.over:
        return f"was ended by its task at chunk {episode.chunk}"
    if max_episode_steps is not None and episode.chunk >= max_episode_steps:
        return f"was truncated after max_episode_steps = {max_episode_steps}"
    return ""
