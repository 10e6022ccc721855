"""One connected page and the walk that it steers; `wire` lists the messages."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from sana_wm_gym.camera.keys import KEY_MAPS
from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.envs.simulation import Frames
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.metrics.pose import PoseScore
from sana_wm_gym.play.config import PlayConfig, player_of
from sana_wm_gym.play.estimated import Seen
from sana_wm_gym.play.player import Shown
from sana_wm_gym.play.recording import KINDS, save_walk
from sana_wm_gym.play.session import Chunk, Future, Session
from sana_wm_gym.play.walk import Steering, Walk
from sana_wm_gym.play.wire import FRAME, FUTURE, GOAL, MAX_MESSAGE, TWIN, Wire

_T = TypeVar("_T")
_SNAPSHOT_EVERY = 4  # chunks


class Connection:
    """One connected page and the walk that it steers."""

    def __init__(self, socket: WebSocket, config: PlayConfig) -> None:
        self.wire, self.config = Wire(socket), config
        self.futures: list[Future] = []
        self.goal: Frames | None = None  # that the page has chosen
        self._rng = np.random.default_rng(config.seed)
        self._playing: asyncio.Task[None] | None = None
        self._later: set[asyncio.Task[None]] = set()
        self._saving = False
        self.player = player_of(config, self)

    # What the player shows.

    async def show(self, shown: Shown) -> None:
        """Send a frame, and the twin's."""
        await self.wire.picture(FRAME, shown.frame, shown)
        if shown.twin is not None:
            await self.wire.picture(TWIN, shown.twin, shown)

    async def chunk_over(self, chunk: Chunk) -> None:
        """Report a chunk, and now and then send a snapshot to go on from."""
        session = self.player.session
        await self.wire.send(
            "chunk",
            chunk=session.length,
            poses=chunk.poses[:, [0, 2], 3].round(4).tolist(),
            reward=float(chunk.result.reward),
            over=bool(chunk.result.terminated),
            generation_s=round(self.player.generation_s[-1], 3),
            fast=self.player.fast,
            prompt=chunk.after.prompt,
            policy=self.player.pilot is not None,
        )
        if session.length % _SNAPSHOT_EVERY == 0 and session.spec.snapshots:
            # The value is taken now and written behind the picture's back.
            self._in_background(self._send_snapshot(session.snapshot()))

    async def waiting(self, is_waiting: bool) -> None:
        """Report that frames stop or go on."""
        await self.wire.send("waiting", waiting=is_waiting)

    async def _send_snapshot(self, snapshot: Snapshot) -> None:
        simulation = self.player.session.simulation

        def packed() -> bytes:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "snapshot.safetensors"
                snapshot.save(path, simulation.world, simulation.task)
                return path.read_bytes()

        with suppress(RuntimeError, WebSocketDisconnect):  # the page may have left meanwhile
            data = await asyncio.to_thread(packed)
            if len(data) <= MAX_MESSAGE:
                await self.wire.snapshot(data)

    # What the page asks for.

    async def serve(self) -> None:
        """Until the page leaves."""
        try:
            await self._hello()
            self._start()
            while True:
                await self._receive()
        except (WebSocketDisconnect, RuntimeError):
            return
        finally:
            await self._stop()
            for task in self._later:
                task.cancel()
            self.player.close()

    def _start(self) -> None:
        if self._playing is None or self._playing.done():
            self._playing = asyncio.create_task(self._play())

    async def _play(self) -> None:
        try:
            await self.player.play()
        except* (WebSocketDisconnect, RuntimeError):
            pass  # the page has left; `serve` ends too
        except* Exception as failure:
            await self._refuse(failure.exceptions[0])

    async def _stop(self) -> None:
        if self._playing is not None:
            self._playing.cancel()
            await asyncio.wait([self._playing])

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._later.add(task)
        task.add_done_callback(self._later.discard)

    async def _edit(self, change: Callable[[], _T]) -> _T:
        """Change the session; futures that are on the page are dropped."""
        result = await self.player.edit(change)
        self.futures = []
        self._start()
        return result

    async def _refuse(self, error: BaseException) -> None:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        await self.wire.send("error", message=text)

    async def _hello(self) -> None:
        session = self.player.session
        spec, config = session.spec, session.simulation.config
        await self.wire.send(
            "hello",
            world=str(config.world),
            worlds=list(self.config.worlds),
            size=list(spec.size),
            fps=spec.fps,
            frames_per_chunk=spec.frames_per_chunk,
            letters=dict(KEY_MAPS[config.key_map].bindings),
            camera=spec.has_camera,
            prompts=spec.prompts,
            phrases=[s.phrase(v) for s in spec.surfaces for v in range(len(s.variants))],
            prompt=session.here.prompt,
            twin=self.player.twin is not None,
            task=session.simulation.task.name,
            seed=session.seed,
            goal=self._goal() is not None,
            policy=self.config.pilot is not None,
        )
        await self._show_goal()
        await self._still(session)

    def _goal(self) -> Frames | None:
        """The picture to go to: the page's, or the task's if it has one."""
        session = self.player.session
        picture = getattr(session.here.task, "picture", None) if self.goal is None else self.goal
        shape = (*session.spec.size, 3)
        return picture if picture is not None and picture.shape == shape else None

    async def _show_goal(self) -> None:
        if (goal := self._goal()) is not None:
            await self.wire.picture(GOAL, goal, Shown(goal, 0, 0, 0))

    async def _still(self, session: Session) -> None:
        """The picture that the walk has reached."""
        frame = await self.player.in_thread(
            lambda: session.simulation.frames([session.here], last=True)[0]
        )
        await self.wire.picture(FRAME, frame, Shown(frame, session.length, 0, 0))

    async def _receive(self) -> None:
        message = await self.wire.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        try:
            if message.get("bytes") is not None:
                await self._resume(message["bytes"])
                return
            values = json.loads(message.get("text") or "")
            kind = values.get("type") if isinstance(values, dict) else None
            handler = _HANDLERS.get(kind) if isinstance(kind, str) else None
            if handler is None:
                raise ValueError(f"message of type {kind!r}, expected one of {sorted(_HANDLERS)}")
            await handler(self, values)
        except KeyError as error:
            await self._refuse(ValueError(f"the message has no field {error}"))
        except (ValueError, TypeError, ArithmeticError, RecursionError, OSError) as error:
            await self._refuse(error)

    async def _resume(self, data: bytes) -> None:
        session = self.player.session
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot.safetensors"
            path.write_bytes(data)
            snapshot = Snapshot.load(path, session.simulation.world, session.simulation.task)
        self.player.twin = None  # where the twin stood is not in the snapshot
        await self._edit(lambda: session.restore(snapshot))
        await self.wire.send("resumed", chunk=session.here.chunk)
        await self._still(session)

    async def _on_keys(self, values: Mapping[str, Any]) -> None:
        held = values["held"]
        if not isinstance(held, list) or not all(isinstance(name, str) for name in held):
            raise ValueError(f"held is {str(held)[:60]!r}, expected a list of controls")
        number = self.player.steer(Steering(frozenset(held)))
        await self.wire.send("steered", change=number)

    async def _on_axes(self, values: Mapping[str, Any]) -> None:
        twist = values["twist"]
        if not isinstance(twist, list):
            raise ValueError(f"twist is {str(twist)[:60]!r}, expected five numbers")
        self.player.session.spec.require_camera("a stick")
        number = self.player.steer(Steering(twist=tuple(twist)))
        await self.wire.send("steered", change=number)

    async def _on_reset(self, values: Mapping[str, Any]) -> None:
        seed = require_integer("seed", values.get("seed", self._rng.integers(2**31)), 0, 2**63 - 1)
        sessions = [s for s in (self.player.session, self.player.twin) if s is not None]
        await self._edit(lambda: [session.reset(seed) for session in sessions])
        await self._hello()

    async def _on_rewind(self, values: Mapping[str, Any]) -> None:
        session, twin = self.player.session, self.player.twin
        chunk = require_integer("chunk", values["chunk"], 0, session.length)
        await self._edit(lambda: [each.rewind(chunk) for each in (session, twin) if each])
        await self._still(session)
        await self.wire.send("rewound", chunk=chunk, path=_path(session))

    async def _on_branch(self, values: Mapping[str, Any]) -> None:
        session, steering, goal = self.player.session, self.player.steering, self._goal()
        # The chunk that is running is dropped: futures begin at the end of what was shown whole.
        self.futures = await self.player.edit(
            lambda: session.futures(session.here, steering, self._rng, goal=goal)
        )
        await self._stop()
        await self.wire.send("futures", names=[future.name for future in self.futures])
        for index in range(len(self.futures[0].chunks) * session.spec.frames_per_chunk):
            at, frame = divmod(index, session.spec.frames_per_chunk)
            for kind, future in enumerate(self.futures, FUTURE):
                shown = Shown(future.chunks[at].frames[frame], at, frame, 0)
                await self.wire.picture(kind, shown.frame, shown)

    async def _on_adopt(self, values: Mapping[str, Any]) -> None:
        """Take one of the futures, or with -1 none."""
        if not self.futures:
            raise ValueError("there are no futures to choose from, expected 'branch' first")
        index = require_integer("index", values["index"], -1, len(self.futures) - 1)
        session, twin = self.player.session, self.player.twin
        chosen = self.futures[index : index + 1] if index >= 0 else []
        sessions = [each for each in (session, twin) if each is not None]
        await self._edit(lambda: [each.adopt(future) for each in sessions for future in chosen])
        await self.wire.send("adopted", index=index, chunk=session.length, path=_path(session))

    async def _on_policy(self, values: Mapping[str, Any]) -> None:
        """The policy takes over, or hands back to the keys."""
        if self.config.pilot is None:
            raise ValueError("there is no policy, expected `sana-wm play --policy RUN`")
        on = values["on"]
        if not isinstance(on, bool):
            raise ValueError(f"on is {str(on)[:60]!r}, expected true or false")
        if on:
            self.player.take_over(self.config.pilot)
        elif self.player.pilot is not None:
            self.player.steer(self.player.steering)
        await self.wire.send("policy", on=on)

    async def _on_goal(self, values: Mapping[str, Any]) -> None:
        """The view at the end of the last whole chunk becomes the goal."""
        session = self.player.session
        here = session.here
        [self.goal] = await self.player.in_thread(
            lambda: session.simulation.frames([here], last=True)
        )
        await self.wire.send("aimed")
        await self._show_goal()

    async def _on_estimate(self, values: Mapping[str, Any]) -> None:
        seen = await self.player.in_thread(lambda: Seen.of(self.player.session))
        self._in_background(self._estimate(seen))

    async def _estimate(self, seen: Seen) -> None:
        """While the generating thread continues."""
        score, centres = await asyncio.to_thread(seen.estimate)
        path = [] if centres is None else centres[:, [0, 2]].round(4).tolist()
        await self.wire.send("estimated", path=path, score=_errors(score.scale_only))

    async def _on_prompt(self, values: Mapping[str, Any]) -> None:
        text = values["text"]
        if not isinstance(text, str) or len(text) > 2000:
            raise ValueError("text is no prompt of at most 2000 characters")
        await self.player.set_prompt(text)
        await self.wire.send("prompted", text=text)

    async def _on_world(self, values: Mapping[str, Any]) -> None:
        require_choice("world", values["name"], self.config.worlds)
        config = replace(self.config, env=replace(self.config.env, world=values["name"]))
        player = await asyncio.to_thread(player_of, config, self)
        await self._stop()
        self.player.close()
        self.player, self.config, self.futures, self.goal = player, config, [], None
        await self._hello()
        self._start()

    async def _on_save(self, values: Mapping[str, Any]) -> None:
        if self._saving:
            raise ValueError("a walk is being saved: expected its end first")
        require_choice("what", values["what"], KINDS)
        self._saving = True
        self._in_background(self._save(values["what"]))

    async def _save(self, what: str) -> None:
        """Step by step, so that frames keep coming while a video is made."""
        player, path = self.player, None
        steps = save_walk(player.session, what, self.config.folder)
        try:
            while (step := await player.in_thread(lambda: next(steps, None))) is not None:
                path = step
            await self.wire.send("saved", path=str(path))
        except (ValueError, OSError) as error:
            await self._refuse(error)
        finally:
            self._saving = False

    async def _on_walk(self, values: Mapping[str, Any]) -> None:
        """The walk as text, to share."""
        await self.wire.send("walk", walk=self.player.session.walk.to_text())

    async def _on_replay(self, values: Mapping[str, Any]) -> None:
        # In the background: a page that leaves or changes its mind does not wait for a long walk.
        self._in_background(self._replay(Walk.from_text(str(values["walk"]))))

    async def _replay(self, walk: Walk) -> None:
        session = self.player.session
        chunks = session.replay(walk)
        try:
            async with self.player.editing():
                self.player.twin, self.futures = None, []
                while await self.player.in_thread(lambda: next(chunks, None)) is not None:
                    pass
            self._start()
            await self._still(session)
            await self.wire.send("rewound", chunk=session.length, path=_path(session))
        except ValueError as error:
            await self._refuse(error)

    async def _on_stats(self, values: Mapping[str, Any]) -> None:
        player = self.player
        await self.wire.send(
            "stats",
            latencies_s=[round(value, 4) for value in player.latencies_s],
            agreement_db=[round(value, 2) for value in player.agreement_db],
            seam_db=[round(value, 2) for value in player.seam_db],
            generation_s=[round(value, 4) for value in player.generation_s],
            fast=player.fast,
        )


_HANDLERS: Mapping[str, Callable[[Connection, Mapping[str, Any]], Awaitable[None]]] = {
    name: getattr(Connection, f"_on_{name}")
    for name in (
        "keys", "axes", "reset", "rewind", "branch", "adopt", "prompt", "world", "goal", "policy",
        "estimate", "save", "walk", "replay", "stats",
    )
}  # fmt: skip


def _errors(score: PoseScore | str) -> str:
    if isinstance(score, str) or score.rot_err is None or score.trans_err is None:
        return f"undefined ({score if isinstance(score, str) else 'not enough motion'})"
    return f"RotErr {score.rot_err:.2f} deg, TransErr {score.trans_err:.3f} m"


def _path(session: Session) -> list[list[float]]:
    return session.poses()[:, [0, 2], 3].round(4).tolist()
