"""A session: chunks of a world made ahead of the moment they are shown, and made again.

Nothing here knows a network or a clock. `make` is a pure function of values, so that the chunk
that is on the screen can be generated again with other keys from the frame that comes next:

    chunk = session.make(here, [steering] * n)          # generated ahead
    chunk = session.remake(chunk, keep=9, steering)     # after 9 frames were shown, keys changed
    here = session.accept(chunk)                        # all of it was shown
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import Controls, twist_to_controls
from sana_wm_gym.camera.keys import KeyState, keys_to_controls
from sana_wm_gym.camera.trajectory import integrate
from sana_wm_gym.checks import require_integer
from sana_wm_gym.envs.actions import Command
from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Frames, simulation_of
from sana_wm_gym.envs.snapshot import Snapshot, identity
from sana_wm_gym.envs.tasks.task import StepResult
from sana_wm_gym.play.walk import Steering, Walk

_RECENT = 8  # chunks whose starts are all kept
_SPACED = 32  # of older ones at most; others are made again from the nearest one before
_CANDIDATES = 12  # random plans of which the one nearest to a goal picture is taken


@dataclass(frozen=True, eq=False)
class Chunk:
    """A chunk of a walk.

    Attributes:
        before: Where it begins.
        steering: What is asked for in each of its frames.
        after: Where it ends.
        frames: uint8 [n, H, W, 3].
        result: The task's reward and end.
    """

    before: Episode
    steering: tuple[Steering, ...]
    after: Episode
    frames: Frames
    result: StepResult

    @property
    def poses(self) -> npt.NDArray[np.float64]:
        """Commanded poses of its frames relative to the walk's first one, [n, 4, 4]."""
        return self.after.c2w


@dataclass(frozen=True, eq=False)
class Future:
    """One of several ways to go on.

    Attributes:
        name: What it is.
        chunks: Successive chunks.
        prompt: Prompt that was set before, or None.
    """

    name: str
    chunks: tuple[Chunk, ...]
    prompt: str | None = None


class Session:
    """A walk in a world: its time line, and functions that make what comes next.

    Args:
        config: Of an environment: world, task, first picture, prompt, key map.
        seed: Of the walk's start and noise.

    Raises:
        ValueError: As `simulation_of`.
        FileNotFoundError: As `simulation_of`.
    """

    def __init__(self, config: EnvConfig, seed: int = 0) -> None:
        self.simulation = simulation_of(config)
        self.spec = self.simulation.spec
        self.reset(seed)

    def reset(self, seed: int) -> Episode:
        """Begin another walk."""
        require_integer("seed", seed, 0)
        rng = np.random.default_rng(seed)
        [episode] = self.simulation.begin([None], [rng])
        self.seed, self._rng = seed, dict(rng.bit_generator.state)
        config = self.simulation.config
        self._origin = Walk(str(config.world), self.simulation.task.name, config.key_map, seed)
        self._begin_at(episode)
        return episode

    def _begin_at(self, episode: Episode) -> None:
        self._chunks: list[tuple[Steering, ...]] = []
        self._prompts: dict[int, str] = {}
        self._starts = {0: episode}

    @property
    def walk(self) -> Walk:
        """What was steered so far.

        Raises:
            ValueError: It began at a snapshot, so that its start cannot be made again.
        """
        if self._starts[0].chunk:
            raise ValueError("the walk began at a snapshot: expected one that began at a seed")
        return replace(self._origin, chunks=tuple(self._chunks), prompts=dict(self._prompts))

    @property
    def length(self) -> int:
        """Chunks of the walk."""
        return len(self._chunks)

    @property
    def here(self) -> Episode:
        """After the last accepted chunk."""
        return self._starts[self.length]

    def ends(self, chunks: int) -> list[Episode]:
        """Where the last chunks end, oldest first; at most the recent ones, which are all kept."""
        first = max(1, self.length - min(chunks, _RECENT) + 1)
        return [self._starts[index] for index in range(first, self.length + 1)]

    def first_frame(self) -> npt.NDArray[np.uint8]:
        """The picture that the walk begins with, uint8 [H, W, 3]."""
        return self.simulation.frames([self._starts[0]], last=True)[0]

    def make(self, before: Episode, steering: Sequence[Steering]) -> Chunk:
        """Generate a chunk.

        Args:
            before: Where it begins.
            steering: One per frame of a chunk.

        Raises:
            ValueError: There is another number of frames, or a stick steers a world of keys.
        """
        [chunk] = self._make([before], [tuple(steering)])
        return chunk

    def remake(self, chunk: Chunk, keep: int, steering: Steering) -> Chunk:
        """The chunk again: its first `keep` frames move as before, the others as steered now."""
        rest = self.spec.frames_per_chunk - keep
        return self.make(chunk.before, chunk.steering[:keep] + (steering,) * rest)

    def accept(self, chunk: Chunk) -> Episode:
        """Append a chunk that was shown to the walk; returns where it ends."""
        if chunk.before.prompt != self.here.prompt:
            self._prompts[self.length] = chunk.before.prompt
        self._chunks.append(chunk.steering)
        self._starts[self.length] = chunk.after
        recent = self.length - _RECENT
        stride = 1 << (recent // _SPACED).bit_length() if recent > 0 else 1
        self._starts = {i: s for i, s in self._starts.items() if i >= recent or i % stride == 0}
        return chunk.after

    def rewind(self, chunks: int) -> Episode:
        """Go back to the end of the walk's first `chunks` chunks; what came after is dropped.

        Starts that are no longer kept are generated again from the nearest one before: the same
        bytes on the same device.

        Raises:
            ValueError: The walk has fewer chunks.
        """
        require_integer("chunks", chunks, 0, self.length)
        nearest = max(index for index in self._starts if index <= chunks)
        episode = self._starts[nearest]
        for index in range(nearest, chunks):
            episode = self._again(episode, index).after
        self._starts = {i: start for i, start in self._starts.items() if i < chunks}
        self._starts[chunks] = episode
        del self._chunks[chunks:]
        self._prompts = {at: text for at, text in self._prompts.items() if at < chunks}
        return episode

    def replay(self, walk: Walk) -> Iterator[Chunk]:
        """Make a recorded walk again, chunk by chunk, in place of this one.

        Raises:
            ValueError: It was made in another world, task or key map.
        """
        mine, theirs = ((w.world, w.task, w.key_map) for w in (self._origin, walk))
        if mine != theirs:
            raise ValueError(f"the walk is of world, task, key map {theirs}; this is {mine}")
        self.reset(walk.seed)
        for at, steering in enumerate(walk.chunks):
            chunk = self.make(self._prompted(self.here, walk.prompts.get(at)), steering)
            self.accept(chunk)
            yield chunk

    def poses(self) -> npt.NDArray[np.float64]:
        """Commanded poses of the whole walk, first frame included, float64 [n, 4, 4]."""
        start = self._starts[0]
        camera, keys, poses = start.camera, start.keys, [start.c2w[-1:]]
        for steering in self._chunks:
            command = self._command(steering, keys)
            c2w, camera = integrate(camera, command.controls, self.simulation.actions.pitch_limit)
            keys = command.keys
            poses.append(c2w)
        return np.concatenate(poses)

    def snapshot(self) -> Snapshot:
        """Where the walk is, for a file or an environment."""
        return Snapshot(self.here, self._rng, identity(self.spec, self.simulation.task))

    def restore(self, snapshot: Snapshot) -> Episode:
        """Resume from a snapshot; the walk that led there is not known any more.

        Raises:
            ValueError: It was made in another world or task.
        """
        snapshot.check_fits(self.spec, self.simulation.task)
        self._begin_at(snapshot.episode)
        return snapshot.episode

    def futures(
        self,
        here: Episode,
        steering: Steering,
        rng: np.random.Generator,
        *,
        chunks: int = 2,
        goal: npt.NDArray[np.uint8] | None = None,
    ) -> list[Future]:
        """Four ways to go on from here, computed in one batch.

        Keys held as they are; another prompt, or a turn to the left where the world has no
        vocabulary of prompts; random keys; and, with a picture of a goal, what comes nearest to it
        of several random plans, without one a turn to the right.

        Args:
            here: Where they begin.
            steering: What is held now.
            rng: Source of what is random.
            chunks: Length of each.
            goal: uint8 [H, W, 3], the picture to go to.
        """
        n, text = self.spec.frames_per_chunk, self._other_prompt(rng)

        def turn(side: str) -> list[tuple[Steering, ...]]:
            return [(Steering(frozenset({f"yaw_{side}"})),) * n] * chunks

        held = [(steering,) * n] * chunks
        kinds: list[tuple[str, Episode, list[tuple[Steering, ...]], str | None]] = [
            ("keys held", here, held, None),
            ("turn left", here, turn("left"), None),
            ("random", here, [self._random(rng) for _ in range(chunks)], None),
            ("turn right", here, turn("right"), None),
        ]
        if text is not None:
            kinds[1] = ("another prompt", self._prompted(here, text), held, text)
        if goal is not None:
            kinds[3] = ("toward the goal", here, self._planned(here, goal, rng, chunks), None)
        made: list[list[Chunk]] = [[] for _ in kinds]
        episodes = [episode for _, episode, _, _ in kinds]
        for step in range(chunks):
            new = self._make(episodes, [plan[step] for _, _, plan, _ in kinds])
            episodes = [chunk.after for chunk in new]
            for chunk, mine in zip(new, made, strict=True):
                mine.append(chunk)
        return [
            Future(name, tuple(mine), text)
            for (name, _, _, text), mine in zip(kinds, made, strict=True)
        ]

    def adopt(self, future: Future) -> Episode:
        """Append one of the futures to the walk.

        Its chunks are made again alone: in a batch products are rounded otherwise, and a walk is to
        replay to the same bytes.
        """
        before = self._prompted(self.here, future.prompt)
        for chunk in future.chunks:
            before = self.accept(self.make(before, chunk.steering))
        return before

    def _make(
        self, before: Sequence[Episode], steering: Sequence[tuple[Steering, ...]]
    ) -> list[Chunk]:
        commands = [
            self._command(mine, episode.keys)
            for mine, episode in zip(steering, before, strict=True)
        ]
        after, results = self.simulation.play(before, commands)
        frames = self.simulation.frames(after)
        return [
            Chunk(*parts) for parts in zip(before, steering, after, frames, results, strict=True)
        ]

    def _command(self, steering: Sequence[Steering], keys: KeyState) -> Command:
        """What the steering of a chunk's frames commands; keys have inertia, sticks have none."""
        actions = self.simulation.actions
        motion: list[Controls] = []
        for what, run in groupby(steering):
            frames = len(list(run))
            if what.twist is None:
                controls, keys = keys_to_controls([what.held] * frames, actions.key_map, keys)
            else:
                self.spec.require_camera("a stick")
                controls = twist_to_controls(what.twist, self.spec.limits, frames)
                keys = KeyState()
            motion.append(controls)
        return Command(Controls.concatenate(motion), tuple(s.held for s in steering), keys)

    def _again(self, episode: Episode, at: int) -> Chunk:
        return self.make(self._prompted(episode, self._prompts.get(at)), self._chunks[at])

    def _prompted(self, episode: Episode, text: str | None) -> Episode:
        return episode if text is None else self.simulation.with_prompt(episode, text)

    def _other_prompt(self, rng: np.random.Generator) -> str | None:
        """Another variant of each surface, of worlds that have a vocabulary for them."""
        if not (self.spec.prompts and self.spec.surfaces):
            return None
        return ", ".join(s.phrase(int(rng.integers(len(s.variants)))) for s in self.spec.surfaces)

    def _random(self, rng: np.random.Generator) -> tuple[Steering, ...]:
        n = self.spec.frames_per_chunk
        names = ("forward", "back", "yaw_left", "yaw_right", "strafe_left", "strafe_right")
        first, second = (
            Steering(frozenset(map(str, rng.choice(names, rng.integers(1, 3), replace=False))))
            for _ in range(2)
        )
        return (first,) * (n // 2) + (second,) * (n - n // 2)

    def _planned(
        self, here: Episode, goal: npt.NDArray[np.uint8], rng: np.random.Generator, chunks: int
    ) -> list[tuple[Steering, ...]]:
        plan: list[tuple[Steering, ...]] = []
        for _ in range(chunks):
            tries = [self._random(rng) for _ in range(_CANDIDATES)]
            made = self._make([here] * len(tries), tries)
            gaps = [float(np.mean((c.frames[-1].astype(float) - goal) ** 2)) for c in made]
            best = made[int(np.argmin(gaps))]
            plan.append(best.steering)
            here = best.after
        return plan
