"""The page's socket: keys in, frames out; nothing without the token, nothing from other sites."""

from __future__ import annotations

import asyncio
import io
import json
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chunk_worlds import ChunkWorld
from PIL import Image

from sana_wm_gym.envs.config import EnvConfig

uvicorn = pytest.importorskip("uvicorn")
client = pytest.importorskip("websockets.sync.client")

from sana_wm_gym.play.config import PlayConfig  # noqa: E402
from sana_wm_gym.play.server import play_app  # noqa: E402
from sana_wm_gym.play.walk import Steering, Walk  # noqa: E402

TOKEN = "secret"
FIELDS = ("held", "twist", "seed", "chunk", "index", "text", "name", "what", "walk", "on")


def serve(config: PlayConfig) -> Any:
    server = uvicorn.Server(
        uvicorn.Config(
            play_app(config, TOKEN, 0), port=0, log_level="error", ws="websockets-sansio"
        )
    )
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    return server, server.servers[0].sockets[0].getsockname()[1]


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("walks")
    env = EnvConfig("procedural", action_mode="keys")
    server, port = serve(PlayConfig(env, 3, folder=folder))
    yield port
    server.should_exit = True


class Page:
    """A client that keeps what it was sent."""

    def __init__(self, port: int, token: str = TOKEN, **headers: str) -> None:
        url = f"ws://127.0.0.1:{port}/play?token={token}"
        self._connection = client.connect(url, additional_headers=headers, max_size=2**26)
        self.socket = self._connection.__enter__()
        self.frames: list[tuple[int, int, int, int, Any]] = []

    def __enter__(self) -> Page:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.__exit__(None, None, None)

    def send(self, kind: str, **values: Any) -> None:
        self.socket.send(json.dumps({"type": kind, **values}))

    def next(self, kind: str) -> Any:
        """The next JSON message of this type; pictures on the way are kept."""
        while True:
            message = self.socket.recv(timeout=30)
            if isinstance(message, bytes):
                if message[0] != 8:
                    picture = np.asarray(Image.open(io.BytesIO(message[13:])))
                    self.frames.append((*struct.unpack("<BIII", message[:13]), picture))
                continue
            values = json.loads(message)
            if values["type"] == kind:
                return values
            if values["type"] == "error":
                raise ValueError(values["message"])


def test_keys_move_the_picture(port: int) -> None:
    with Page(port) as page:
        hello = page.next("hello")
        assert (hello["world"], hello["frames_per_chunk"]) == ("procedural", 24)
        page.next("chunk")
        still = page.frames[-1][4].astype(float)
        page.send("keys", held=["yaw_left", "forward"])
        change = page.next("steered")["change"]
        page.next("chunk")
        page.next("chunk")
        answered = [frame for frame in page.frames if frame[3] == change]
        assert answered and np.abs(answered[-1][4] - still).mean() > 5
        page.send("stats")
        stats = page.next("stats")
        assert len(stats["latencies_s"]) == 1
        page.send("axes", twist=[0.0, 0.0, 0.0, 0.0, -1.0])
        assert page.next("steered")["change"] == change + 1


def test_the_path_is_estimated_from_the_frames(port: int) -> None:
    with Page(port) as page:
        page.next("hello")
        page.send("estimate")
        with pytest.raises(ValueError, match="no chunk was shown whole yet"):
            page.next("estimated")
        page.send("keys", held=["forward"])
        poses = [pose for _ in range(3) for pose in page.next("chunk")["poses"]]
        page.send("estimate")
        answer = page.next("estimated")
        assert "RotErr" in answer["score"]
        ends = np.asarray(answer["path"])[[0, -1]]
        gaps = [np.linalg.norm(np.asarray(poses) - end, axis=1).min() for end in ends]
        assert max(gaps) < 0.3 and np.linalg.norm(ends[1] - ends[0]) > 0.5


def test_rewind_returns_the_same_frame(port: int) -> None:
    with Page(port) as page:
        page.next("hello")
        page.send("keys", held=["yaw_right"])
        page.next("chunk")
        page.next("chunk")
        last = [frame for frame in page.frames if frame[1] == 0][-1]
        assert last[2] == 23
        page.send("rewind", chunk=1)
        page.next("rewound")
        assert np.array_equal(page.frames[-1][4], last[4])


def test_futures_saving_and_sharing(port: int) -> None:
    with Page(port) as page:
        page.next("hello")
        page.next("chunk")
        page.send("branch")
        assert len(page.next("futures")["names"]) == 4
        page.send("adopt", index=2)
        page.next("adopted")
        kinds = {frame[0] for frame in page.frames}
        assert {2, 3, 4, 5} <= kinds
        page.send("walk")
        walk = page.next("walk")["walk"]
        page.send("replay", walk=walk)
        assert page.next("rewound")["chunk"] == len(json.loads(walk)["chunks"])
        for what in ("walk", "trajectory", "snapshot", "video"):
            page.send("save", what=what)
            path = Path(page.next("saved")["path"])
            assert path.is_file()
        snapshot = next(path.parent.glob("*.safetensors")).read_bytes()
    with Page(port) as page:
        page.next("hello")
        page.socket.send(snapshot)
        assert page.next("resumed")["chunk"] >= 1


@pytest.mark.parametrize(
    ("token", "headers"), [("", {}), ("wrong", {}), (TOKEN, {"Origin": "http://example.org"})]
)
def test_strangers_are_refused(port: int, token: str, headers: dict[str, str]) -> None:
    with pytest.raises(Exception, match="403"):
        Page(port, token, **headers)


def test_a_second_page_takes_over(port: int) -> None:
    with Page(port) as first:
        first.next("hello")
        with Page(port) as second:
            second.next("hello")
            with pytest.raises(Exception, match="another page took over"):
                first.next("nothing")


MESSAGES = 500
KINDS = ["keys", "axes", "reset", "rewind", "adopt", "prompt", "world", "policy", "save", "replay"]
JUNK = [None, "", -1, 1e308, 10**400, "a" * 100, {}, [1], ["forward", 1], {"a": 1}, True]
JUNK += [[{}] * 5, [1e308] * 5, "../../x", "[" * 5000, '{"format": "sana-wm-walk-1"}', float("nan")]


def malformed(rng: random.Random) -> str:
    # Without a seed, "reset" is right.
    fields = {name: rng.choice(JUNK) for name in FIELDS if name == "seed" or rng.random() < 0.9}
    texts = [
        json.dumps({"type": rng.choice([*KINDS, "x", *JUNK]), **fields}),
        json.dumps(rng.choice(JUNK)),
        "[" * rng.randrange(2000),
    ]
    return rng.choice(texts)


def test_nothing_malformed_is_executed_or_ends_the_walk(port: int) -> None:
    rng = random.Random(0)
    with Page(port) as page:
        page.next("hello")
        refused = 0
        for count in range(1, MESSAGES + 1):
            page.socket.send(bytes(range(256)) if count % 100 == 0 else malformed(rng))
            if count % 50 == 0:  # the answers are read, or nobody would send on
                page.send("stats")
                done = False
                while not done:
                    try:
                        done = bool(page.next("stats"))
                    except ValueError:
                        refused += 1
                page.frames.clear()
        assert refused == MESSAGES
        page.send("walk")
        walk = Walk.from_text(page.next("walk")["walk"])
        assert {s for chunk in walk.chunks for s in chunk} <= {Steering()} and walk.seed == 3


def test_clients_that_are_killed_leave_a_server_that_serves(port: int) -> None:
    for _ in range(10):
        page = Page(port)
        page.next("hello")
        page.send("keys", held=["forward"])
        page.socket.socket.shutdown(socket.SHUT_RDWR)  # without a closing handshake
    with Page(port) as page:
        page.next("hello")
        page.next("chunk")


def test_worlds_of_keys_and_other_chunks() -> None:
    env = EnvConfig(ChunkWorld(6, driven_by=("keys",)), action_mode="keys")
    server, port = serve(PlayConfig(env, 0, twin=False))
    try:
        with Page(port) as page:
            assert page.next("hello")["frames_per_chunk"] == 6
            page.send("keys", held=["forward"])
            page.next("chunk")
            page.send("axes", twist=[0.0] * 5)
            with pytest.raises(ValueError, match="needs a camera"):
                page.next("steered")
            page.send("prompt", text="a dragon")
            with pytest.raises(ValueError, match="takes no prompts"):
                page.next("prompted")
    finally:
        server.should_exit = True


def test_the_page_is_served_with_the_token_alone(port: int) -> None:
    async def get(path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        text = (await reader.read()).decode()
        writer.close()
        return text

    assert " 403 " in asyncio.run(get("/"))
    assert "sana-wm play" in asyncio.run(get(f"/?token={TOKEN}"))
    assert " 404 " in asyncio.run(get("/../setup.cfg"))
    assert "WebSocket" in asyncio.run(get("/play.js"))
