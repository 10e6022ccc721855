"""Episodes of a task in a world, any number at once: the common part of all environments.

    begin ──> Episode ──decode──> Command ──play──> Episode, StepResult ──observe──> observation

A simulation holds settings alone and episodes are values, so futures can be tried from any episode
(`play`, `move`) without changing it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.keys import KeyState
from sana_wm_gym.camera.trajectory import CameraState, CameraTrajectory, integrate
from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.envs.actions import ActionView, Command, action_view
from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.frame_cache import FrameCache
from sana_wm_gym.envs.observations import Observation, ObservationView, observation_view
from sana_wm_gym.envs.start import default_options, start_choice, with_defaults
from sana_wm_gym.envs.tasks import TASKS
from sana_wm_gym.envs.tasks.task import Episodes, Rngs, StepResult, Task
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.world_model import ChunkInput, WorldModel, WorldSpec, as_arrays

Info = dict[str, Any]
Frames = npt.NDArray[np.uint8]
Options = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Simulation:
    """A world, a task set in it, and how an agent acts and observes. Nothing in it changes.

    Pickled as its config: what is read back uses the process's world of that name. A copy is the
    same object.

    Attributes:
        config: What it was made from.
        world: What is moved through.
        task: Goal, reward and end.
        actions: Action space, and the motion its actions stand for.
        view: Parts of the world that are observed.
        max_episode_steps: Steps (chunks) after which an episode is truncated.
        defaults: Reset options, where a reset leaves them open.
        observation_space: Of one environment: the view's, with the task's parts in a flat `Dict`.
        cache: Decoded frames.
    """

    config: EnvConfig
    world: WorldModel[Any]
    task: Task
    actions: ActionView
    view: ObservationView
    max_episode_steps: int
    defaults: Options
    observation_space: spaces.Space[Any]
    cache: FrameCache = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cache", FrameCache.of(self.world))

    def __reduce__(self) -> tuple[Any, ...]:
        return simulation_of, (self.config,)

    def __deepcopy__(self, memo: Any) -> Simulation:
        return self

    @property
    def spec(self) -> WorldSpec:
        """Of the world."""
        return self.world.spec

    def begin(self, options: Sequence[Options | None], rngs: Rngs) -> list[Episode]:
        """New episodes, one per set of reset options and generator; see `SanaWMEnv.reset`.

        Raises:
            ValueError: An option is unknown or does not fit.
        """
        choices = [start_choice(with_defaults(one, self.defaults), self.spec) for one in options]
        episodes = []
        for choice, rng in zip(choices, rngs, strict=True):
            # Drawn first, so that the noise of a seed does not depend on how the start is chosen.
            noise_seed = int(rng.integers(2**31))
            start = choice.start(self.world, rng)
            state = self.world.begin(start, noise_seed)
            episodes.append(
                Episode(
                    world=state,
                    camera=CameraState(),
                    keys=KeyState(),
                    intrinsics=start.intrinsics,
                    intrinsics_from=start.intrinsics_from,
                    prompt=start.prompt,
                    anchor_confidence=self.world.anchor_confidence(state),
                    c2w=np.eye(4)[None],
                    chunk=0,
                )
            )
        states = self.task.begin(self, episodes, rngs) if episodes else []
        return [replace(e, task=state) for e, state in zip(episodes, states, strict=True)]

    def decode(self, episode: Episode, action: Any) -> Command:
        """The command of an action in an episode; a ValueError if it is not in the action space."""
        return self.actions.chunk(action, episode.keys)

    def play(
        self, episodes: Episodes, commands: Sequence[Command]
    ) -> tuple[list[Episode], list[StepResult]]:
        """One step of each episode, all in one batch: the task disturbs, the world moves, the task
        evaluates.

        Args:
            episodes: Possibly at different chunks, and any of them several times.
            commands: One per episode.

        Returns:
            The episodes one chunk on, and the results of the steps.

        Raises:
            ValueError: There is not one command of a chunk's frames per episode.
        """
        disturbed = [
            replace(command, controls=self.task.disturb(e.task, e.chunk, command.controls))
            for e, command in zip(episodes, commands, strict=True)
        ]
        moved = self.move(episodes, disturbed)
        found = [self.task.evaluate(self, *pair) for pair in zip(episodes, moved, strict=True)]
        after = [
            replace(episode, task=state, over=result.terminated)
            for episode, (state, result) in zip(moved, found, strict=True)
        ]
        return after, [result for _, result in found]

    def move(self, episodes: Episodes, commands: Sequence[Command]) -> list[Episode]:
        """As `play`, past the task: its state is carried along, undisturbed and not evaluated."""
        frames = self.spec.frames_per_chunk
        if len(episodes) != len(commands):
            raise ValueError(
                f"given {len(episodes)} episodes and {len(commands)} commands, expected one each"
            )
        for command in commands:
            if len(command.controls) != frames:
                raise ValueError(f"controls have {len(command.controls)} frames, expected {frames}")
        if not episodes:
            return []
        moved, inputs = [], []
        for episode, command in zip(episodes, commands, strict=True):
            c2w, camera = integrate(episode.camera, command.controls, self.actions.pitch_limit)
            inputs.append(self._input(episode, command, c2w))
            moved.append(
                replace(episode, camera=camera, keys=command.keys, c2w=c2w, chunk=episode.chunk + 1)
            )
        worlds = self.world.advance([episode.world for episode in episodes], inputs)
        return [replace(after, world=world) for after, world in zip(moved, worlds, strict=True)]

    def _input(
        self, episode: Episode, command: Command, c2w: npt.NDArray[np.float64]
    ) -> ChunkInput:
        spec, camera = self.spec, None
        if spec.has_camera:
            path = np.concatenate([episode.c2w[-1:], c2w])
            camera = CameraTrajectory(path, np.array(episode.intrinsics), spec.width, spec.height)
        keys: tuple[frozenset[str], ...] = ()
        if "keys" in spec.driven_by:
            keys = command.held or (frozenset(),) * spec.frames_per_chunk
        return ChunkInput(camera, keys)

    def with_prompt(self, episode: Episode, text: str) -> Episode:
        """The episode, with another prompt from its next chunk on.

        Raises:
            ValueError: The world takes no prompts, or cannot read this one.
        """
        if not self.spec.prompts:
            raise ValueError(f"world {self.spec.name!r} takes no prompts, given {text!r}")
        return replace(episode, world=self.world.with_prompt(episode.world, text), prompt=text)

    def frames(self, episodes: Episodes, last: bool = False) -> list[Frames]:
        """Frames of each episode's last chunk, uint8 [n, H, W, 3], [1, ...] before any; with
        `last` the last one, [H, W, 3]. Decoded in one batch, each only once. Read only."""
        return as_arrays(self.cache.decode([episode.world for episode in episodes], last))

    def look(
        self,
        episodes: Episodes,
        view: ObservationView,
        convert: Callable[[list[Any]], list[Any]] = as_arrays,
    ) -> list[dict[str, Any]]:
        """The world's parts of a view of each episode; only those are computed. Read only.

        `convert` is applied to the lists that the world returns.
        """
        states: list[Any] = [episode.world for episode in episodes]
        clips: list[Any] = [None] * len(states)
        lasts, latents = clips, clips
        if view.shows("frames"):
            clips = convert(self.cache.decode(states))
            lasts = [clip[-1] for clip in clips]
        elif view.shows("frame"):
            lasts = convert(self.cache.decode(states, last=True))
        if view.shows("latent"):
            latents = convert(self.world.latents(states, last=True))
        return [
            view.parts(clip, last, latent, episode.c2w[-1])
            for clip, last, latent, episode in zip(clips, lasts, latents, episodes, strict=True)
        ]

    def observe(self, episodes: Episodes) -> list[Observation]:
        """Observation of each episode: the world through the view, and the task's parts.
        Read only."""
        seen = self.look(episodes, self.view)
        if not isinstance(self.observation_space, spaces.Dict):
            return [next(iter(parts.values())) for parts in seen]
        return [
            {**parts, **self.task.observe(episode.task)}
            for parts, episode in zip(seen, episodes, strict=True)
        ]

    def info(self, episode: Episode) -> Info:
        """`info` of an environment at `episode`: new values, numbers alone, each of one shape and
        type from reset to the end."""
        info: Info = {"chunk_index": episode.chunk, "anchor_confidence": episode.anchor_confidence}
        if self.spec.has_camera:
            # Before any chunk, the start pose in place of each frame's.
            repeats = self.spec.frames_per_chunk // len(episode.c2w)
            info["c2w"] = np.repeat(episode.c2w, repeats, axis=0)
            info["intrinsics"] = np.array(episode.intrinsics, dtype=np.float64)
        return {**info, **self.task.info(self, episode)}


def simulation_of(config: EnvConfig) -> Simulation:
    """The simulation of an environment; raises as `SanaWMEnv`."""
    world, task, steps = config.world, config.task, config.max_episode_steps
    if isinstance(world, (str, PathLike)):
        world = load_world(world, config.world_kwargs)
    elif config.world_kwargs:
        raise ValueError("world_kwargs are for a world that is named, given a world itself")
    if not hasattr(world, "spec"):
        raise ValueError(f"world is {world!r}, expected a world, its name or its file")
    if isinstance(task, str):
        require_choice("task", task, TASKS)
        task = TASKS[task]()
    if not isinstance(task, Task):
        raise ValueError(f"task is {task!r}, expected a name or an instance of a Task")
    spec = world.spec
    if task.needs_camera:
        spec.require_camera(f"task {task.name!r}")
    view = task.renamed(observation_view(config.observation, config.observation_size, spec))
    simulation = Simulation(
        config=config,
        world=world,
        task=task,
        actions=action_view(config.action_mode, config.actions_per_chunk, config.key_map, spec),
        view=view,
        max_episode_steps=checked_steps(task.max_episode_steps if steps is None else steps),
        defaults=default_options(config.image, config.intrinsics, config.prompt, spec),
        observation_space=view.space,
    )
    added = task.spaces(simulation)
    both = sorted(added.keys() & set(view.names))
    if both:
        raise ValueError(
            f"task {task.name!r} adds observation parts {both}, expected names other than those "
            f"of the world's {sorted(view.names)}"
        )
    if not added:
        return simulation
    return replace(simulation, observation_space=spaces.Dict({**view.boxes, **added}))


def checked_steps(steps: Any) -> int:
    """`max_episode_steps` if it is an integer of at least 1, else a ValueError."""
    return require_integer("max_episode_steps", steps, 1)
