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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

from sana_wm_gym.envs.simulation import Frames
from sana_wm_gym.play.session import Chunk, Session
from sana_wm_gym.play.walk import Steering

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
        """Frames stop because the next chunk is not ready, or go on."""
        ...


@dataclass(frozen=True, eq=False)
class _Ready:
    """A generated chunk, the change of the keys that each frame answers, and the twin's frames."""

    chunk: Chunk
    answers: tuple[int, ...]
    twin: Chunk | None


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
        self.latencies_s: deque[float] = deque(maxlen=10_000)
        self.agreement_db: deque[float] = deque(maxlen=10_000)
        self.generation_s: deque[float] = deque(maxlen=8)
        self._frames = session.spec.frames_per_chunk
        self._period = 1 / session.spec.fps
        self._running: _Ready | None = None
        self._at = 0
        self._next: _Ready | None = None
        self._changes: deque[tuple[int, float, Steering]] = deque()  # not generated under yet
        self._unshown: deque[tuple[int, float]] = deque()  # number and time of unanswered changes
        self._steering, self._number = Steering(), 0
        self._prompt: str | None = None  # set when the running chunk is over
        self._work, self._go = asyncio.Event(), asyncio.Event()
        self._lock = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="generate")
        self._work.set()

    @property
    def steering(self) -> Steering:
        """What is held now."""
        return self._steering

    @property
    def _is_time_for_next(self) -> bool:
        return self._running is None or self._at >= 2 * self._frames // 3

    @property
    def fast(self) -> bool:
        """Whether the world is fast enough for its running chunk to be generated again."""
        duration = self._frames * self._period
        return self.again and self._expected_s() < _TOO_SLOW * duration

    def steer(self, steering: Steering) -> int:
        """The keys changed; returns the change's number."""
        if steering == self._steering:
            return self._number
        now = time.monotonic()
        self._steering, self._number = steering, self._number + 1
        self._changes.append((self._number, now, steering))
        self._unshown.append((self._number, now))
        self._work.set()
        return self._number

    async def play(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pace())
            group.create_task(self._generate())

    async def edit(self, change: Callable[[], Any]) -> Any:
        """Stop at a frame, change the session in the generating thread, and go on from there.

        Chunks that are not wholly shown are dropped. Returns what `change` returns; what it raises
        leaves the walk as `change` left it.
        """
        async with self._lock:
            self._running = self._next = None
            self._at = 0
            try:
                return await self._in_thread(change)
            finally:
                self._work.set()

    def set_prompt(self, text: str) -> None:
        """Another prompt from the chunk after the running one on.

        Raises:
            ValueError: The world takes no prompts, or cannot read this one.
        """
        self.session.simulation.with_prompt(self.session.here, text)
        self._prompt = text

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _pace(self) -> None:
        due = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            if not await self._show_one():
                await self.audience.waiting(True)
                self._go.clear()
                self._work.set()
                await self._go.wait()
                await self.audience.waiting(False)
                due = time.monotonic()
                continue
            # Late frames are not made up for in a burst.
            due = max(due + self._period, time.monotonic() - self._period)

    async def _show_one(self) -> bool:
        async with self._lock:
            if self._running is None:
                if self._next is None:
                    return False
                self._running, self._next, self._at = self._next, None, 0
            ready, at = self._running, self._at
            self._at += 1
            self._note_latency(ready.answers[at])
            twin = None if ready.twin is None else ready.twin.frames[at]
            chunk = len(self.session.walk.chunks)
            shown = Shown(ready.chunk.frames[at], chunk, at, ready.answers[at], twin)
            if self._is_time_for_next:
                self._work.set()
            if self._at == self._frames:
                await self._finish(ready)
                self._running = None
        await self.audience.show(shown)
        return True

    async def _finish(self, ready: _Ready) -> None:
        self.session.accept(ready.chunk)
        if self.twin is not None and ready.twin is not None:
            self.twin.accept(ready.twin)
        if self._prompt is not None:
            for session in (self.session, self.twin):
                if session is not None:
                    session.set_prompt(self._prompt)
            self._prompt, self._next = None, None
        await self.audience.chunk_over(ready.chunk)

    def _note_latency(self, answers: int) -> None:
        while self._unshown and self._unshown[0][0] <= answers:
            self.latencies_s.append(time.monotonic() - self._unshown.popleft()[1])

    async def _generate(self) -> None:
        while True:
            await self._work.wait()
            self._work.clear()
            if self._changes and self._running is not None and self.fast:
                await self._again(self._running)
            elif self._is_time_for_next and (self._next is None or self._changes):
                await self._ahead()

    async def _again(self, running: _Ready) -> None:
        """The running chunk with the changes of the keys behind what will have been shown."""
        lead = math.ceil((self._expected_s() + _MARGIN_S) / self._period)
        keep = self._at + lead
        if keep >= self._frames:
            await self._ahead()
            return
        changes = list(self._changes)
        steering, answers = self._behind(running, keep, changes)
        made = await self._make(running.chunk.before, steering, self._twin_before(running))
        async with self._lock:
            if self._running is not running or self._at > keep:
                self._work.set()  # too late: the frames after `keep` are being shown already
                return
            self._compare(running.chunk, made[0], keep)
            self._running, self._next = _Ready(made[0], answers, made[1]), None
            self._forget(changes)
        self._work.set()

    async def _ahead(self) -> None:
        """The chunk after the running one."""
        running = self._running
        before = self.session.here if running is None else running.chunk.after
        twin = self._twin_after(running)
        changes = list(self._changes)
        steering, answers = self._behind(None, 0, changes)
        made = await self._make(before, steering, twin)
        async with self._lock:
            current = self.session.here if self._running is None else self._running.chunk.after
            if current is not before:
                self._work.set()
                return
            self._next = _Ready(made[0], answers, made[1])
            self._forget(changes)
            self._go.set()
        if self._changes:
            self._work.set()

    def _behind(
        self, running: _Ready | None, keep: int, changes: list[tuple[int, float, Steering]]
    ) -> tuple[tuple[Steering, ...], tuple[int, ...]]:
        """Steering and answers of a chunk's frames: as before up to `keep`, then the changes, each
        held as long as it was before the next one, at least one frame."""
        if running is None:
            steering: list[Steering] = []
            answers: list[int] = []
        else:
            steering, answers = list(running.chunk.steering[:keep]), list(running.answers[:keep])
        last = (self._number - len(self._changes), self._before_changes())
        for position, (number, at, what) in enumerate(changes):
            last = (number, what)
            if position + 1 == len(changes):
                break
            held = max(1, round((changes[position + 1][1] - at) / self._period))
            steering += [what] * held
            answers += [number] * held
        rest = max(1, self._frames - len(steering))
        # A flurry of changes that does not fit ends with the last one.
        steering = [*steering[: self._frames - 1], *[last[1]] * rest][: self._frames]
        answers = [*answers[: self._frames - 1], *[last[0]] * rest][: self._frames]
        return tuple(steering), tuple(answers)

    def _before_changes(self) -> Steering:
        if not self._changes:
            return self._steering
        return Steering() if self._running is None else self._running.chunk.steering[-1]

    def _forget(self, changes: list[tuple[int, float, Steering]]) -> None:
        for _ in changes:
            self._changes.popleft()

    async def _make(
        self, before: Any, steering: tuple[Steering, ...], twin_before: Any
    ) -> tuple[Chunk, Chunk | None]:
        def make() -> tuple[Chunk, Chunk | None]:
            twin = None if self.twin is None else self.twin.make(twin_before, steering)
            return self.session.make(before, steering), twin

        began = time.monotonic()
        made = await self._in_thread(make)
        self.generation_s.append(time.monotonic() - began)
        return made

    def _twin_before(self, running: _Ready) -> Any:
        return None if running.twin is None else running.twin.before

    def _twin_after(self, running: _Ready | None) -> Any:
        if self.twin is None:
            return None
        if running is None or running.twin is None:
            return self.twin.here
        return running.twin.after

    def _compare(self, old: Chunk, new: Chunk, keep: int) -> None:
        """Note how alike the frames already shown are in both versions, dB."""
        if keep:
            gap = (old.frames[:keep].astype("f4") - new.frames[:keep]) ** 2
            each = gap.mean(axis=(1, 2, 3))
            self.agreement_db.extend(
                100.0 if error < 1e-6 else 10 * math.log10(255**2 / error) for error in each
            )

    def _expected_s(self) -> float:
        return max(self.generation_s, default=math.inf)

    async def _in_thread(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)
