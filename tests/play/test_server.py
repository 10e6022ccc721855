"""The page's socket: keys in, frames out; nothing without the token, nothing from other sites."""

from __future__ import annotations

import asyncio
import io
import json
import random
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

from sana_wm_gym.play.connection import PlayConfig  # noqa: E402
from sana_wm_gym.play.server import play_app  # noqa: E402

TOKEN = "secret"
FIELDS = ("held", "twist", "seed", "chunk", "index", "text", "name", "what", "walk")


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


def test_nothing_malformed_is_executed_or_ends_the_walk(port: int) -> None:
    rng = random.Random(0)
    kinds = ["keys", "axes", "reset", "rewind", "adopt", "prompt", "world", "save", "replay", "x"]
    junk = [None, "", -1, 1e308, "a" * 100, [], {}, [1], ["forward", 1], {"a": 1}, True, "../../x"]
    with Page(port) as page:
        page.next("hello")
        for _ in range(300):
            fields = {
                name: rng.choice(junk)
                for name in (
                    "held",
                    "twist",
                    "seed",
                    "chunk",
                    "index",
                    "text",
                    "name",
                    "what",
                    "walk",
                )
            }
            texts = [
                json.dumps({"type": rng.choice(kinds), **fields}),
                json.dumps(rng.choice(junk)),
                "[" * rng.randrange(2000),
                "\ud83d{" * 3,
            ]
            page.socket.send(rng.choice(texts[:3]))
        page.socket.send(bytes(range(256)))
        with pytest.raises(ValueError, match="."):
            page.next("nothing")
        while True:
            page.send("stats")
            try:
                page.next("stats")
                break
            except ValueError:
                continue


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
