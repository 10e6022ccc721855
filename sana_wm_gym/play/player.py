"""Plays a session in real time: paces frames, and generates behind their back.

One task shows frames at the world's rate. Another generates, one job at a time in a thread: the
running chunk again when the keys have changed, the next chunk in the last third of the running
one. Worlds that are too slow for the first answer at the next chunk.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Protocol, TypeVar

import numpy as np

from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.simulation import Frames
from sana_wm_gym.metrics.image import psnr
from sana_wm_gym.play.pilot import Pilot
from sana_wm_gym.play.session import Chunk, Session
from sana_wm_gym.play.walk import Steering

_T = TypeVar("_T")
_TOO_SLOW = 0.5  # of a chunk's duration; worlds whose chunks take longer answer at the next chunk
_MARGIN_S = 0.015  # beyond the expected time of generation, before the first new frame is due


@dataclass(frozen=True)
class Shown:
    """A frame that is due.

    Attributes:
        frame: uint8 [H, W, 3].
        chunk: Number of its chunk, from 0.
        index: Its place there.
        answers: Number of the last change of the keys that it was generated under.
        twin: The same frame of the twin, or None.
    """

    frame: Frames
    chunk: int
    index: int
    answers: int
    twin: Frames | None = None


class Audience(Protocol):
    """Who is shown frames; a connected page is one."""

    async def show(self, shown: Shown) -> None:
        """A frame, at the time when it is due."""
        ...

    async def chunk_over(self, chunk: Chunk) -> None:
        """All frames of a chunk were shown."""
        ...

    async def waiting(self, is_waiting: bool) -> None:
        """Frames stop because the next chunk is not ready, or resume."""
        ...


@dataclass(frozen=True)
class Change:
    """A change of the keys: its number, from 1, the time when it arrived, what is held since."""

    number: int
    at_s: float
    steering: Steering


@dataclass(frozen=True, eq=False)
class _Ready:
    """A generated chunk, the change that each frame answers, and the same chunk of the twin."""

    chunk: Chunk
    plan: tuple[Change, ...]
    twin: Chunk | None


def plan_frames(
    kept: Sequence[Change], last: Change, changes: Sequence[Change], frames: int, period_s: float
) -> tuple[Change, ...]:
    """Which change each frame of a chunk is generated under.

    Each change is held as long as it was before the next one, at least one frame, so that a key
    tapped for less than a frame is seen. What was held longest is shortened where the newest change
    would not be in the chunk: a world slower than its frames does not fall behind the keys. Of more
    changes than frames the rest is left for the next chunk.

    Args:
        kept: Of the chunk's first frames, which stay.
        last: Of the frame before.
        changes: Oldest first; those that are not newer than the last frame kept do not count.
        frames: Of the chunk.
        period_s: Of a frame.
    """
    plan = list(kept)
    last = plan[-1] if plan else last
    new = [change for change in changes if change.number > last.number]
    held = [max(1, round((b.at_s - a.at_s) / period_s)) for a, b in pairwise(new)]
    room, longest = frames - len(plan) - 1, frames
    while longest > 1 and sum(min(longest, each) for each in held) > room:
        longest -= 1
    for change, each in zip(new, held, strict=False):
        plan += [change] * min(longest, each)
    plan += [new[-1] if new else last] * frames
    return tuple(plan[:frames])


class Player:
    """Plays one session to one audience.

    Args:
        session: The walk.
        audience: Who is shown it.
        twin: The same walk in the ground truth, shown next to it; or None.
        again: Whether the running chunk may be generated again. False is the usual way, in which
            keys act from the next chunk on.
    """

    def __init__(
        self,
        session: Session,
        audience: Audience,
        twin: Session | None = None,
        again: bool = True,
    ) -> None:
        self.session, self.audience, self.twin, self.again = session, audience, twin, again
        self.pilot: Pilot | None = None
        self.latencies_s: deque[float] = deque(maxlen=10_000)
        self.agreement_db: deque[float] = deque(maxlen=10_000)
        self.seam_db: deque[float] = deque(maxlen=10_000)
        self.generation_s: deque[float] = deque(maxlen=8)
        self._frames = session.spec.frames_per_chunk
        self._period = 1 / session.spec.fps
        self._running: _Ready | None = None
        self._shown: list[Frames] = []  # of the running chunk, as they were shown
        self._next: _Ready | None = None
        self._last = Change(0, time.monotonic(), Steering())  # of the last frame shown
        self._newest = self._last
        self._changes: deque[Change] = deque()  # later than the last frame shown
        self._planned = 0  # newest change that generated chunks take into account
        self._prompt: str | None = None  # wanted from the next chunk on
        self._work, self._go = asyncio.Event(), asyncio.Event()
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generate")

    @property
    def steering(self) -> Steering:
        """What is held now."""
        return self._newest.steering

    @property
    def fast(self) -> bool:
        """Whether the world is fast enough for its running chunk to be generated again."""
        duration = self._frames * self._period
        return self.again and self._expected_s() < _TOO_SLOW * duration

    def steer(self, steering: Steering) -> int:
        """The keys changed, which ends what a policy does; returns the change's number."""
        if steering == self.steering and self.pilot is None:
            return self._newest.number
        self.pilot = None
        before = self._newest
        self._newest = Change(before.number + 1, time.monotonic(), steering)
        # A moving stick is sampled, not queued; of more changes than a chunk has frames the last
        # ones become one.
        sticks = before.steering.twist is not None and steering.twist is not None
        if self._changes and (sticks or len(self._changes) >= self._frames):
            first = self._changes.pop()
            self._newest = Change(self._newest.number, first.at_s, steering)
        self._changes.append(self._newest)
        self._work.set()
        return self._newest.number

    def take_over(self, pilot: Pilot) -> None:
        """A policy steers from the next chunk on, until `steer` is called.

        Raises:
            ValueError: It acts in another world or task.
        """
        pilot.check_fits(self.session)
        self.pilot, self._next = pilot, None
        self._work.set()

    async def play(self) -> None:
        """Until cancelled."""
        self._work.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pace())
            group.create_task(self._generate())

    async def edit(self, change: Callable[[], _T]) -> _T:
        """Stop at a frame, change the session in the generating thread, and go on from there.

        Chunks that are not wholly shown are dropped. Returns what `change` returns; what it raises
        leaves the walk as `change` left it.
        """
        async with self.editing():
            return await self.in_thread(change)

    @asynccontextmanager
    async def editing(self) -> AsyncIterator[None]:
        """As `edit`, for changes of several steps: no frame is shown within the block."""
        async with self._lock:
            self._running = self._next = self._prompt = None
            self._shown = []
            try:
                yield
            finally:
                self._work.set()

    async def in_thread(self, function: Callable[[], _T]) -> _T:
        """Call a function in the generating thread, between two chunks."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    async def set_prompt(self, text: str) -> None:
        """Another prompt from the chunk after the running one on.

        Raises:
            ValueError: The world takes no prompts, or cannot read this one.
        """
        here = self.session.here
        await self.in_thread(lambda: self.session.simulation.with_prompt(here, text))
        self._prompt, self._next = text, None
        self._work.set()

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _pace(self) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not await self._show_one():
                await self.audience.waiting(True)
                self._work.set()
                await self._go.wait()
                await self.audience.waiting(False)
                due = time.monotonic()
                continue
            # Late frames are not made up for in a burst.
            due = max(due + self._period, time.monotonic() - self._period)

    async def _show_one(self) -> bool:
        over: Chunk | None = None
        async with self._lock:
            if self._running is None:
                if self._next is None:
                    self._go.clear()
                    return False
                self._running, self._next = self._next, None
            ready, at = self._running, len(self._shown)
            frame, self._last = ready.chunk.frames[at], ready.plan[at]
            twin = None if ready.twin is None else ready.twin.frames[at]
            shown = Shown(frame, self.session.length, at, self._last.number, twin)
            answered = []
            while self._changes and self._changes[0].number <= self._last.number:
                answered.append(self._changes.popleft())
            self._shown.append(frame)
            if len(self._shown) == self._frames:
                over = ready.chunk
                self.session.accept(ready.chunk)
                if self.twin is not None and ready.twin is not None:
                    self.twin.accept(ready.twin)
                self._running, self._shown = None, []
            if self._is_time_for_next:
                self._work.set()
        await self.audience.show(shown)
        sent = time.monotonic()
        self.latencies_s.extend(sent - change.at_s for change in answered)
        if over is not None:
            await self.audience.chunk_over(over)
        return True

    @property
    def _is_time_for_next(self) -> bool:
        return self._running is None or len(self._shown) >= 2 * self._frames // 3

    async def _generate(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            changed = self._newest.number > self._planned
            running = self._running
            if changed and running is not None and self.fast:
                lead = math.ceil((self._expected_s() + _MARGIN_S) / self._period)
                keep = len(self._shown) + lead
                if keep < self._frames:
                    await self._again(running, keep)
                    continue
            if self._is_time_for_next and (self._next is None or changed):
                await self._ahead(running)

    async def _again(self, running: _Ready, keep: int) -> None:
        """The running chunk with the changes of the keys behind what will have been shown."""
        newest, plan = self._newest.number, self._plan(running.plan[:keep])
        twin = None if running.twin is None else running.twin.before
        made = await self._make(running.chunk.before, plan, twin, None, None)
        async with self._lock:
            self._work.set()
            if self._running is not running or len(self._shown) > keep:
                return  # too late: frames after `keep` are being shown already
            self._compare(made.chunk)
            self._running, self._next, self._planned = made, None, newest

    async def _ahead(self, running: _Ready | None) -> None:
        """The chunk after the running one."""
        before = self.session.here if running is None else running.chunk.after
        newest, prompt, pilot = self._newest.number, self._prompt, self.pilot
        plan = self._plan((), None if running is None else running.plan[-1])
        twin = None if self.twin is None else self.twin.here
        if running is not None and running.twin is not None:
            twin = running.twin.after
        made = await self._make(before, plan, twin, prompt, pilot)
        async with self._lock:
            now = self._running
            current = self.session.here if now is None else now.chunk.after
            if current is before and (prompt, pilot) == (self._prompt, self.pilot):
                self._next, self._planned = made, newest
                self._go.set()
            if self._next is None or self._newest.number > newest:
                self._work.set()

    def _plan(self, kept: Sequence[Change], last: Change | None = None) -> tuple[Change, ...]:
        last = self._last if last is None else last
        return plan_frames(kept, last, list(self._changes), self._frames, self._period)

    async def _make(
        self,
        before: Episode,
        plan: tuple[Change, ...],
        twin_before: Episode | None,
        prompt: str | None,
        pilot: Pilot | None,
    ) -> _Ready:
        def made(session: Session, episode: Episode, steered: Sequence[Change]) -> Chunk:
            if prompt is not None and prompt != episode.prompt:
                episode = session.simulation.with_prompt(episode, prompt)
            return session.make(episode, [change.steering for change in steered])

        def make() -> _Ready:
            steered, twin = plan, self.twin
            if pilot is not None:
                pairs = zip(plan, pilot.steering(before), strict=True)
                steered = tuple(replace(change, steering=chosen) for change, chosen in pairs)
            beside = None
            if twin is not None and twin_before is not None:
                beside = made(twin, twin_before, steered)
            return _Ready(made(self.session, before, steered), steered, beside)

        began = time.monotonic()
        ready = await self.in_thread(make)
        self.generation_s.append(time.monotonic() - began)
        return ready

    def _compare(self, new: Chunk) -> None:
        """Note how alike the frames already shown and their second generation are, dB."""
        if not self._shown:
            return
        again = new.frames[: len(self._shown)]
        decibels = np.minimum(psnr(np.stack(self._shown), again, (1, 2, 3)), 100.0).tolist()
        self.agreement_db.extend(decibels)
        self.seam_db.append(decibels[-1])

    def _expected_s(self) -> float:
        return max(self.generation_s, default=math.inf)
