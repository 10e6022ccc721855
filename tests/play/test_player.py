"""No change of the keys is lost, whenever it comes and however long generation takes."""

from __future__ import annotations

import asyncio
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from chunk_worlds import ChunkWorld
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.play.player import Change, Player, Shown, plan_frames
from sana_wm_gym.play.session import Chunk, Session
from sana_wm_gym.play.walk import Steering

FRAMES = 12
STILL, FORWARD, LEFT = (Steering(frozenset(held)) for held in ((), ("forward",), ("yaw_left",)))


@dataclass
class Spec:
    fps: float = 200.0
    frames_per_chunk: int = FRAMES


@dataclass(frozen=True, eq=False)
class Place:
    """Where a chunk ends; it knows where it began."""

    chunk: int
    prompt: str = ""


@dataclass
class FakeSession:
    """Chunks of grey frames, made in a time that a test controls."""

    generate: Callable[[], None]
    spec: Spec = field(default_factory=Spec)
    here: Any = Place(0)
    chunks: list[Any] = field(default_factory=list)

    @property
    def simulation(self) -> FakeSession:
        return self

    @property
    def length(self) -> int:
        return len(self.chunks)

    def make(self, before: Place, steering: list[Steering]) -> Chunk:
        self.generate()
        frames = np.zeros((FRAMES, 2, 2, 3), np.uint8)
        after = Place(before.chunk + 1, before.prompt)
        return Chunk(before, tuple(steering), after, frames, None)  # type: ignore[arg-type]

    def accept(self, chunk: Chunk) -> Any:
        at_the_end: Any = self.here
        assert chunk.before is at_the_end or chunk.before.prompt != at_the_end.prompt
        self.chunks.append(chunk)
        self.here = chunk.after
        return self.here

    def with_prompt(self, place: Place, text: str) -> Place:
        return replace(place, prompt=text)


class Watcher:
    """Keeps what is shown; `on_frame` steers at the very frame."""

    def __init__(self, until: int, on_frame: Callable[[Shown], None], late_s: float = 0.0) -> None:
        self.until, self.on_frame, self.late_s = until, on_frame, late_s
        self.shown: list[Shown] = []
        self.over = asyncio.Event()

    async def show(self, shown: Shown) -> None:
        self.shown.append(shown)
        if len(self.shown) >= self.until:
            self.over.set()
        else:
            self.on_frame(shown)
        await asyncio.sleep(self.late_s)

    async def chunk_over(self, chunk: Chunk) -> None:
        pass

    async def waiting(self, is_waiting: bool) -> None:
        await asyncio.sleep(0.001)  # generation may end meanwhile


async def watch(player: Player, watcher: Watcher) -> None:
    """Play until the watcher has seen enough; no frame may fail to come."""
    player.audience = watcher
    playing = asyncio.create_task(player.play())
    enough = asyncio.create_task(watcher.over.wait())
    await asyncio.wait([playing, enough], timeout=200, return_when=asyncio.FIRST_COMPLETED)
    assert watcher.over.is_set(), playing
    playing.cancel()
    await asyncio.wait([playing])
    player.close()


def player_of(session: Any, **options: Any) -> Player:
    return Player(session, None, **options)  # type: ignore[arg-type]


def answers(watcher: Watcher) -> list[int]:
    return [shown.answers for shown in watcher.shown]


@pytest.mark.parametrize("again", [True, False])
@pytest.mark.parametrize("longest_s", [0.0, 0.02, 0.05, 0.2])
def test_taps_at_every_frame_are_shown(longest_s: float, again: bool) -> None:
    rng = np.random.default_rng(0)
    session = FakeSession(lambda: time.sleep(rng.uniform(0, longest_s)))
    player = player_of(session, again=again)
    steered: dict[int, Steering] = {0: STILL}

    def tap(shown: Shown) -> None:
        if shown.chunk % 2 == 0 and shown.index == (5 * shown.chunk // 2) % FRAMES:
            for steering in (FORWARD, LEFT, STILL):
                steered[player.steer(steering)] = steering

    watcher = Watcher(FRAMES * 24, tap)
    asyncio.run(watch(player, watcher))
    numbers = answers(watcher)
    assert numbers == sorted(numbers)
    assert set(numbers) >= set(range(numbers[-1] + 1)) and numbers[-1] >= 27
    # What was shown is what the walk keeps, although chunks were generated again meanwhile.
    for shown in watcher.shown:
        if shown.chunk < session.length:
            kept = session.chunks[shown.chunk].steering[shown.index]
            assert kept == steered[shown.answers]
    order = [(shown.chunk, shown.index) for shown in watcher.shown]
    assert order == [divmod(i, FRAMES) for i in range(len(order))]
    assert len(player.latencies_s) == numbers[-1]


@pytest.mark.parametrize("again", [True, False])
def test_a_fast_world_answers_within_the_running_chunk(again: bool) -> None:
    session = FakeSession(lambda: None, Spec(20.0))
    player = player_of(session, again=again)

    def press(shown: Shown) -> None:
        if (shown.chunk, shown.index) == (2, 1):
            player.steer(FORWARD)

    watcher = Watcher(FRAMES * 4, press)
    asyncio.run(watch(player, watcher))
    first = next(shown for shown in watcher.shown if shown.answers)
    assert (first.chunk, first.index > 1) == (2, True) if again else (3, False)
    assert session.chunks[2].steering[0] == STILL


def test_a_moving_stick_is_sampled_and_ends_where_it_is() -> None:
    player = player_of(FakeSession(lambda: None))
    sticks = [Steering(twist=(0.0, 0.0, 0.0, 0.0, i / 1000)) for i in range(1, 1000)]

    def move(shown: Shown) -> None:
        for _ in range(7):
            if sticks:
                player.steer(sticks.pop(0))

    watcher = Watcher(FRAMES * 20, move)
    asyncio.run(watch(player, watcher))
    seen = sorted(set(answers(watcher)))
    assert len(seen) > 10 and seen[-1] == 999
    behind = [7 * (i + 1) - number for i, number in enumerate(answers(watcher)) if number < 999]
    assert max(behind) <= 7 * 2 * FRAMES  # it does not fall further and further behind


def test_a_flood_of_changes_is_bounded_and_the_last_one_holds() -> None:
    session = FakeSession(lambda: None)
    player = player_of(session)

    def flood(shown: Shown) -> None:
        if shown.chunk < 3:
            for i in range(200):
                player.steer((FORWARD, LEFT)[i % 2])

    watcher = Watcher(FRAMES * 8, flood)
    asyncio.run(watch(player, watcher))
    assert watcher.shown[-1].answers == player.steer(LEFT)
    assert session.chunks[-1].steering[-1] == LEFT


def test_an_edit_while_a_chunk_is_generated_drops_it() -> None:
    entered, release = threading.Event(), threading.Event()

    def generate() -> None:
        entered.set()
        release.wait(30)

    session = FakeSession(generate)

    async def run() -> list[Shown]:
        player, elsewhere = player_of(session), Place(50)

        def change() -> str:
            session.here, session.chunks = elsewhere, []
            return "changed"

        async def edit() -> None:
            await asyncio.to_thread(entered.wait)
            edited = asyncio.create_task(player.edit(change))
            await asyncio.sleep(0)
            release.set()
            assert await edited == "changed"

        watcher = Watcher(FRAMES * 2, lambda shown: None)
        await asyncio.gather(watch(player, watcher), edit())
        return watcher.shown

    shown = asyncio.run(run())
    assert [s.chunk for s in shown] == [0] * FRAMES + [1] * FRAMES
    assert session.chunks[0].before.chunk == 50  # `accept` checks the rest


def test_edits_at_any_time_do_not_stop_the_frames() -> None:
    rng = np.random.default_rng(1)
    session = FakeSession(lambda: time.sleep(rng.uniform(0, 0.02)))

    async def run() -> None:
        player = player_of(session)
        watcher = Watcher(FRAMES * 20, lambda shown: None)
        watching = asyncio.create_task(watch(player, watcher))
        for _ in range(30):
            await asyncio.sleep(rng.uniform(0, 0.05))
            if rng.random() < 0.5:
                player.steer((FORWARD, STILL)[int(rng.integers(2))])
            with pytest.raises(ZeroDivisionError):
                await player.edit(lambda: 1 / 0)
        await watching

    asyncio.run(run())


def test_a_prompt_applies_from_the_next_chunk() -> None:
    session = FakeSession(lambda: time.sleep(0.01))

    async def run() -> None:
        player = player_of(session)
        tasks = []

        def ask(shown: Shown) -> None:
            if (shown.chunk, shown.index) == (2, FRAMES - 3):  # the next chunk is ready
                tasks.append(asyncio.create_task(player.set_prompt("red door")))

        await watch(player, Watcher(FRAMES * 6, ask))

    asyncio.run(run())
    prompts = [chunk.before.prompt for chunk in session.chunks]
    assert prompts[:3] == [""] * 3 and set(prompts[4:]) == {"red door"}


def test_who_looks_slowly_sees_every_frame_late_and_nothing_queues() -> None:
    session = FakeSession(lambda: None)
    player = player_of(session)

    def press(shown: Shown) -> None:
        if len(watcher.shown) == 20:
            player.steer(FORWARD)

    watcher = Watcher(60, press, late_s=0.02)  # four times the period
    asyncio.run(watch(player, watcher))
    assert [shown.index for shown in watcher.shown[:24]] == [*range(FRAMES)] * 2
    assert answers(watcher).index(1) <= 20 + 2 * FRAMES


def test_a_failing_world_ends_the_play_with_its_error() -> None:
    def fail() -> None:
        raise ValueError("not finite")

    async def run() -> None:
        player = player_of(FakeSession(fail))
        player.audience = Watcher(1, lambda shown: None)
        await asyncio.wait_for(player.play(), 30)

    with pytest.raises(ExceptionGroup) as failure:
        asyncio.run(run())
    assert failure.group_contains(ValueError, match="not finite")


class QuickWorld(ChunkWorld):
    """Shown as fast as this machine can."""

    @property
    def spec(self) -> Any:
        return replace(super().spec, fps=100_000.0)


def test_long_walks_do_not_fill_memory() -> None:
    rng = np.random.default_rng(0)
    session = Session(EnvConfig(QuickWorld(6, driven_by=("keys",)), action_mode="keys"))
    player, sizes = player_of(session), {}

    def press(shown: Shown) -> None:
        if shown.index == 3:
            player.steer((FORWARD, LEFT, STILL)[int(rng.integers(3))])
        if shown.index == 0 and shown.chunk in (200, 600):
            sizes[shown.chunk] = tracemalloc.get_traced_memory()[0]

    watcher = Watcher(6 * 601, press)
    watcher.shown = Counted()
    tracemalloc.start()
    try:
        asyncio.run(watch(player, watcher))
    finally:
        tracemalloc.stop()
    # The walk itself, so that it can be saved, and bounded statistics: half a kilobyte a chunk.
    assert sizes[600] - sizes[200] < 400 * 512


class Counted(list[Any]):
    """A list that keeps its length alone."""

    count = 0

    def append(self, value: Any) -> None:
        self.count += 1

    def __len__(self) -> int:
        return self.count


@given(
    st.integers(0, FRAMES - 1),
    st.lists(st.floats(0, 3), max_size=20),
    st.integers(0, 5),
)
def test_plans(kept: int, gaps: list[float], behind: int) -> None:
    times = np.cumsum(gaps).tolist()
    changes = [Change(i + 1, at, (STILL, FORWARD, LEFT)[i % 3]) for i, at in enumerate(times)]
    last = Change(0, 0.0, STILL) if behind == 0 or behind > len(changes) else changes[behind - 1]
    plan = plan_frames([last] * kept, last, changes, FRAMES, 1.0)
    assert len(plan) == FRAMES and plan[:kept] == (last,) * kept
    numbers = [change.number for change in plan]
    assert numbers == sorted(numbers) and set(numbers[kept:]) <= set(range(len(changes) + 1))
    new = [change.number for change in changes if change.number > last.number]
    shown = [number for number in dict.fromkeys(numbers[kept:]) if number > last.number]
    assert shown == new[: FRAMES - kept]  # in this chunk, and none is left out


class LeftPilot:
    """Turns left."""

    def check_fits(self, session: Any) -> None:
        pass

    def steering(self, episode: Any) -> tuple[Steering, ...]:
        return (LEFT,) * FRAMES


def test_a_policy_takes_over_and_a_key_hands_back() -> None:
    session = FakeSession(lambda: None, Spec(50.0))
    player = player_of(session)

    def act(shown: Shown) -> None:
        if (shown.chunk, shown.index) == (1, FRAMES - 2):  # the next chunk is ready
            player.take_over(LeftPilot())  # type: ignore[arg-type]
        if (shown.chunk, shown.index) == (4, 2):
            player.steer(FORWARD)
        if (shown.chunk, shown.index) == (6, 2):
            player.take_over(LeftPilot())  # type: ignore[arg-type]
        if (shown.chunk, shown.index) == (9, 2):
            player.steer(player.steering)  # by the button, not a key

    asyncio.run(watch(player, Watcher(FRAMES * 12, act)))
    steered = [chunk.steering for chunk in session.chunks]
    assert set(steered[0] + steered[1]) == {STILL}
    assert set(steered[3]) == {LEFT} and steered[4][0] == LEFT and steered[4][-1] == FORWARD
    assert set(steered[5]) == {FORWARD} and set(steered[8]) == {LEFT}
    assert steered[9][-1] == FORWARD and set(steered[10]) == {FORWARD}
