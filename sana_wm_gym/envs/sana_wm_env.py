"""A world model as a Gymnasium environment: one step is one chunk of frames."""

from __future__ import annotations

import copy
from collections.abc import Callable
from os import PathLike
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils import seeding

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.config import METADATA, EnvConfig
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.observations import Observation
from sana_wm_gym.envs.simulation import Info, simulation_of
from sana_wm_gym.envs.snapshot import Snapshot, generator, identity
from sana_wm_gym.envs.tasks.task import Relabels, Task
from sana_wm_gym.world.world_model import WorldModel

Transition = tuple[Observation, float, bool, bool, Info]


class SanaWMEnv(gym.Env[Any, Any]):
    """Move a camera through a world and see what it answers.

    `info` holds "c2w", the camera-to-world poses that the world was moved along in a chunk of n
    frames, relative to the first frame, float64 [n, 4, 4] (after reset the start pose, n times):
    the commanded ones, unless the task disturbs them; "intrinsics", (fx, fy, cx, cy) in pixels of
    the world's frames, float64 [4]; "chunk_index", the number of chunks so far;
    "anchor_confidence", the probability in [0, 1], a float, that the first frame shows a place the
    world knows (1.0 for worlds that do not localise); and the task's numbers. Keys, shapes and
    types are the same from reset to the end. A world without camera has no poses and intrinsics.

    Everything that changes is in one `Episode` value, replaced at the end of a successful step,
    so a step that fails changes nothing. The world itself is shared by all environments of a
    process. Reward and termination are the task's.

    Args:
        world: As the other arguments, which are keywords, those of `EnvConfig`.

    Raises:
        ValueError: A name is unknown or a number out of range.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
        TypeError: There is no such argument.
    """

    metadata: dict[str, Any] = dict(METADATA)  # noqa: RUF012 (Gymnasium's own type)

    def __init__(
        self, world: str | PathLike[str] | WorldModel[Any] = EnvConfig.world, **settings: Any
    ) -> None:
        config = EnvConfig(world, **settings)
        self.simulation = simulation_of(config)
        fps = config.render_fps(self.simulation.spec)
        self.metadata = {**type(self).metadata, "render_fps": fps}
        self.render_mode = config.render_mode
        self.action_space = self.simulation.actions.space
        self.observation_space = self.simulation.observation_space
        self._episode: Episode | None = None
        self._closed = False

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
        """The running episode's prompt. Never in `info`.

        Raises:
            ResetNeeded: There is no rollout yet.
        """
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
        estimated them. Never in `info`.

        Raises:
            ResetNeeded: There is no rollout yet.
        """
        return self._begun().intrinsics_from

    @property
    def horizon(self) -> int:
        """Chunks after which an episode is truncated."""
        return self.simulation.horizon

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, Info]:
        """Begin a rollout.

        Args:
            seed: Same seed, same start and noise, whatever other environments do.
            options: `scene` (int) and `prompt` (str) to draw a start there; or `image` (uint8
                [H, W, 3]), with `intrinsics`, `prompt`, `scene`, `scene_c2w`; or a whole `start`.
                What they leave open is as the environment was made.

        Raises:
            ValueError: An option is unknown or does not fit; the running rollout stays.
        """
        self._require_open()
        # A copy, so that the generator too is what it was if something fails on the way.
        rng, given = (
            (copy.deepcopy(self.np_random), self.np_random_seed)
            if seed is None
            else seeding.np_random(seed)
        )
        [episode] = self.simulation.begin([options], [rng])
        observation = self._observe(episode)
        self._episode, self._np_random, self._np_random_seed = episode, rng, given
        return observation, self.simulation.info(episode)

    def step(self, action: Any) -> Transition:
        """Move the camera for one chunk.

        Raises:
            ValueError: The action is not in the action space; nothing has changed.
            ResetNeeded: There is no running rollout, or it has ended.
        """
        episode = self._running()
        return self._play(episode, self.simulation.decode(episode, action))

    def step_string(self, text: str) -> Transition:
        """`step` with an action string as long as a chunk, such as "w-12,dw-12", in any mode.

        Raises:
            ValueError: The string has an error (it says where) or another number of frames.
            ResetNeeded: There is no running rollout, or it has ended.
        """
        episode = self._running()
        return self._play(episode, self.simulation.actions.text(text, episode.keys))

    def step_controls(self, controls: Controls) -> Transition:
        """`step` with the motion of each of the chunk's frames, in any action mode.

        Raises:
            ValueError: Another number of frames.
            ResetNeeded: There is no running rollout, or it has ended.
        """
        episode = self._running()
        self.world.spec.require_camera("step_controls")
        return self._play(episode, Command(controls))

    def _play(self, episode: Episode, command: Command) -> Transition:
        [after], [result] = self.simulation.play([episode], [command])
        observation = self._observe(after)
        self._episode = after
        truncated = after.chunk >= self.horizon
        info = self.simulation.info(after)
        return observation, float(result.reward), bool(result.terminated), truncated, info

    @property
    def compute_reward(self) -> Callable[[Any, Any, Any], npt.NDArray[np.float32]]:
        """The task's, of (achieved_goal, desired_goal, info), where goals can be relabelled.

        Raises:
            AttributeError: The task's goals cannot.
        """
        if not isinstance(self.task, Relabels):
            raise AttributeError(f"goals of task {self.task.name!r} cannot be relabelled")
        return self.task.compute_reward

    def render(self) -> Any:
        """The last frame, uint8 [H, W, 3], or the list of all frames of the last chunk."""
        episode = self._begun()
        if self.render_mode is None:
            gym.logger.warn("render() needs render_mode='rgb_array' or 'rgb_array_list'")
            return None
        if self.render_mode == "rgb_array":
            return self.simulation.frames([episode], last=True)[0].copy()
        return list(self.simulation.frames([episode])[0].copy())

    def close(self) -> None:
        """Forget the rollout. The world stays loaded for other environments."""
        self._closed = True
        self._episode = None

    def snapshot(self) -> Snapshot:
        """The whole state as a value: world, task, camera, key inertia and random generator."""
        state = self.np_random.bit_generator.state
        return Snapshot(self._begun(), dict(state), identity(self.world.spec, self.task))

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

    def branch(self, n: int) -> list[SanaWMEnv]:
        """`n` independent environments that stand where this one stands and share its world.

        They are bare: wrappers around this one are not repeated. The future depends on the state
        and the actions alone, so branches differ where their actions differ.

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
            env.restore(here)
        return branches

    def _observe(self, episode: Episode) -> Observation:
        """New arrays: whoever gets them may write in them."""
        [seen] = self.simulation.observe([episode])
        if isinstance(seen, dict):
            return {name: part.copy() for name, part in seen.items()}
        return seen.copy()

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
        ended = ending_of(episode, self.horizon)
        if ended:
            raise ResetNeeded(f"the rollout {ended}, expected reset() first")
        return episode


def ending_of(episode: Episode, horizon: int) -> str:
    """How an episode ended, or "" if it is still running."""
    if episode.over:
        return f"was ended by its task at chunk {episode.chunk}"
    return f"was truncated at its horizon of {horizon} chunks" if episode.chunk >= horizon else ""
