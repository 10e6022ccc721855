"""Episodes of a task in a world, any number at once. What both kinds of environment are made of.

    begin ──> Episode ──decode──> Controls ──play──> Episode, Verdict ──observe──> observation

A simulation holds settings alone and episodes are values, so whoever has an episode may try
futures from it (`play`, `move`) without disturbing anybody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.keys import KeyState
from sana_wm_gym.camera.trajectory import CameraState, CameraTrajectory, integrate
from sana_wm_gym.envs.actions import ActionView, action_view
from sana_wm_gym.envs.observations import Observation, ObservationView, observation_view
from sana_wm_gym.envs.snapshot import Episode, Shown
from sana_wm_gym.envs.start import Lens, Picture, default_options, start_choice, with_defaults
from sana_wm_gym.envs.tasks import load_task
from sana_wm_gym.envs.tasks.task import RenamesView, Task, Verdict
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.world_model import (
    CHUNK_FRAMES,
    ShowsLast,
    ShowsTogether,
    WorldModel,
    anchor_confidence,
)

Info = dict[str, Any]
Frames = npt.NDArray[np.uint8]
Options = Mapping[str, Any]
PictureT = TypeVar("PictureT")


@dataclass(frozen=True, eq=False)
class Simulation:
    """A world, a task set in it, and how an agent acts and sees. Nothing in it changes.

    Attributes:
        world: What is moved through.
        task: Goal, reward and end.
        actions: Action space, and the motion its actions stand for.
        view: Parts of the world that are observed.
        horizon: Chunks after which an episode is truncated.
        defaults: Reset options, where a reset leaves them open.
        observation_space: Of one environment: the view's, with the task's parts in a flat `Dict`.
    """

    world: WorldModel[Any]
    task: Task
    actions: ActionView
    view: ObservationView
    horizon: int
    defaults: Options
    observation_space: spaces.Space[Any]

    def begin(
        self, options: Sequence[Options | None], rngs: Sequence[np.random.Generator]
    ) -> list[Episode]:
        """New episodes, one per set of reset options and generator; see `SanaWMEnv.reset`.

        Raises:
            ValueError: An option is unknown or does not fit.
        """
        spec = self.world.spec
        choices = [start_choice(with_defaults(given, self.defaults), spec) for given in options]
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
                    anchor_confidence=anchor_confidence(self.world, state),
                    c2w=np.eye(4)[None],
                    chunk=0,
                )
            )
        states = self.task.begin(self, episodes, rngs) if episodes else []
        return [replace(e, task=state) for e, state in zip(episodes, states, strict=True)]

    def decode(self, episode: Episode, action: Any) -> tuple[Controls, KeyState]:
        """The motion an action stands for in an episode, and the key state after it.

        Raises:
            ValueError: The action is not in the action space.
        """
        return self.actions.chunk(action, episode.keys)

    def play(
        self,
        episodes: Sequence[Episode],
        controls: Sequence[Controls],
        keys: Sequence[KeyState] | None = None,
    ) -> tuple[list[Episode], list[Verdict]]:
        """One step of each episode, all in one batch: the task disturbs, the world moves, the task
        judges.

        Args:
            episodes: Possibly at different chunks, and any of them several times.
            controls: 24 frames of commanded motion per episode.
            keys: Key states after the step; at rest where they are left out.

        Returns:
            The episodes one chunk on, and what the task says of each step.

        Raises:
            ValueError: There is not one motion of 24 frames per episode.
        """
        moves = [
            self.task.disturb(episode.task, episode.chunk, motion)
            for episode, motion in zip(episodes, controls, strict=True)
        ]
        moved = self.move(episodes, moves, keys)
        after, verdicts = [], []
        for before, now in zip(episodes, moved, strict=True):
            state, verdict = self.task.judge(self, before, now)
            after.append(replace(now, task=state, over=verdict.terminated))
            verdicts.append(verdict)
        return after, verdicts

    def move(
        self,
        episodes: Sequence[Episode],
        controls: Sequence[Controls],
        keys: Sequence[KeyState] | None = None,
    ) -> list[Episode]:
        """As `play`, past the task: its state is carried along, undisturbed and not judged.

        Raises:
            ValueError: There is not one motion of 24 frames per episode.
        """
        spec = self.world.spec
        keys = [KeyState()] * len(episodes) if keys is None else keys
        if not len(episodes) == len(controls) == len(keys):
            raise ValueError(
                f"given {len(episodes)} episodes, {len(controls)} motions and {len(keys)} key "
                "states, expected one motion and one key state per episode"
            )
        for motion in controls:
            if len(motion) != CHUNK_FRAMES:
                raise ValueError(f"controls have {len(motion)} frames, expected {CHUNK_FRAMES}")
        if not episodes:
            return []
        poses, cameras, paths = [], [], []
        for episode, motion in zip(episodes, controls, strict=True):
            c2w, camera = integrate(episode.camera, motion, self.actions.pitch_limit)
            path = np.concatenate([episode.c2w[-1:], c2w])
            intrinsics = np.array(episode.intrinsics)
            poses.append(c2w)
            cameras.append(camera)
            paths.append(CameraTrajectory(path, intrinsics, spec.width, spec.height))
        worlds = self.world.advance([episode.world for episode in episodes], paths)
        return [
            Episode(
                world=world,
                camera=camera,
                keys=key,
                intrinsics=before.intrinsics,
                intrinsics_from=before.intrinsics_from,
                prompt=before.prompt,
                anchor_confidence=before.anchor_confidence,
                c2w=c2w,
                chunk=before.chunk + 1,
                task=before.task,
                over=before.over,
            )
            for before, world, camera, key, c2w in zip(
                episodes, worlds, cameras, keys, poses, strict=True
            )
        ]

    def frames(self, episode: Episode) -> Frames:
        """Frames of the last chunk, uint8 [24, H, W, 3]; [1, H, W, 3] before any. Read only."""
        return self.show([episode])[0]

    def show(self, episodes: Sequence[Episode]) -> list[Frames]:
        """`frames` of several episodes, decoded in one batch and each of them only once."""

        def make(states: list[Any]) -> list[Frames]:
            if isinstance(self.world, ShowsTogether):
                return self.world.show(states)
            return [self.world.frames(state) for state in states]

        return shown_once(episodes, lambda e: e.shown.of(e.world), make, Shown.keep)

    def last_frames(self, episodes: Sequence[Episode]) -> list[Frames]:
        """The last of each episode's `frames`, uint8 [H, W, 3], read only. Made in one batch, and
        where the world makes it for less, without the others."""
        if not isinstance(self.world, ShowsLast):
            return [frames[-1] for frames in self.show(episodes)]
        return shown_once(
            episodes, lambda e: e.shown.last_of(e.world), self.world.last_frames, Shown.keep_last
        )

    def look(self, episodes: Sequence[Episode], view: ObservationView) -> list[Any]:
        """Each episode through a view; only what is part of that is computed."""
        shown: Sequence[Frames | None] = [None] * len(episodes)
        if view.shows("frames"):
            shown = self.show(episodes)
        elif view.shows("frame"):
            shown = [frame[None] for frame in self.last_frames(episodes)]
        return [
            view.observe(frames, partial(self.world.latents, episode.world), episode.c2w[-1])
            for frames, episode in zip(shown, episodes, strict=True)
        ]

    def observe(self, episodes: Sequence[Episode]) -> list[Observation]:
        """What the agent sees in each episode: the world through the view, and the task's parts."""
        seen = self.look(episodes, self.view)
        if not isinstance(self.observation_space, spaces.Dict):
            return seen
        whole: list[Observation] = []
        for episode, parts in zip(episodes, seen, strict=True):
            named = parts if isinstance(parts, dict) else {self.view.names[0]: parts}
            # The task may show the same array again; whoever gets an observation may write in it.
            added = {n: part.copy() for n, part in self.task.observe(episode.task).items()}
            whole.append({**named, **added})
        return whole


def shown_once(
    episodes: Sequence[Episode],
    known: Callable[[Episode], PictureT | None],
    make: Callable[[list[Any]], Sequence[PictureT]],
    keep: Callable[[Shown, Any, PictureT], None],
) -> list[PictureT]:
    """A picture of each episode, from its memo or made: in one batch, and of each world state once.

    Args:
        episodes: Several may share a world state.
        known: What the memo has; None where it has nothing.
        make: Pictures of world states.
        keep: Puts a picture of a world state into a memo.
    """
    pictures = {id(episode.world): known(episode) for episode in episodes}
    hidden = {id(e.world): e.world for e in episodes if pictures[id(e.world)] is None}
    pictures |= zip(hidden, make(list(hidden.values())) if hidden else (), strict=True)
    shown = []
    for episode in episodes:
        picture = pictures[id(episode.world)]
        assert picture is not None, "it is known or made"
        keep(episode.shown, episode.world, picture)
        shown.append(picture)
    return shown


def simulation_of(
    world: str | WorldModel[Any],
    task: str | Task,
    *,
    image: Picture | None,
    intrinsics: Lens | None,
    prompt: str | None,
    action_mode: str,
    actions_per_chunk: int,
    key_map: str,
    observation: Sequence[str],
    observation_size: tuple[int, int] | None,
    horizon: int | None,
) -> Simulation:
    """The simulation for an environment's constructor arguments; see `SanaWMEnv`.

    Raises:
        ValueError: A name is unknown, a number out of range, or the task cannot be set here.
        FileNotFoundError: `image`, or the world of this name, is not on this machine.
    """
    world = load_world(world) if isinstance(world, str) else world
    task = load_task(task) if isinstance(task, str) else task
    horizon = checked_horizon(task.horizon if horizon is None else horizon)
    spec = world.spec
    view = observation_view(observation, observation_size, spec)
    view = task.renamed(view) if isinstance(task, RenamesView) else view
    simulation = Simulation(
        world=world,
        task=task,
        actions=action_view(action_mode, actions_per_chunk, key_map, spec.limits),
        view=view,
        horizon=horizon,
        defaults=default_options(image, intrinsics, prompt, spec),
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


def info_of(episode: Episode, verdict: Verdict | None = None) -> Info:
    """`info` of an environment that stands at `episode`: new values, without a clock."""
    return {
        "c2w": episode.c2w.copy(),
        "intrinsics": np.array(episode.intrinsics, dtype=np.float64),
        "intrinsics_from": episode.intrinsics_from,
        "chunk_index": episode.chunk,
        "anchor_confidence": episode.anchor_confidence,
        **({} if verdict is None else verdict.info),
    }


def checked_horizon(horizon: Any) -> int:
    """The number itself.

    Raises:
        ValueError: It is not a whole number of at least 1.
    """
    whole = isinstance(horizon, (int, np.integer)) and not isinstance(horizon, bool)
    if not whole or horizon < 1:
        raise ValueError(f"horizon is {horizon!r}, expected an integer >= 1")
    return int(horizon)
