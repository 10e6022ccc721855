"""Messages between a page and its server: JSON up; JSON, JPEG frames and snapshots down.

Up, one JSON object each: `{"type": "keys", "held": [...]}`, `axes` with `twist`, `reset` with
`seed`, `rewind` with `chunk`, `branch`, `adopt` with `index`, `prompt` with `text`, `world` with
`name`, `goal`, `policy` with `on`, `estimate`, `save` with `what`, `walk`, `replay` with `walk`,
`stats`; and one binary message, a snapshot to resume from. Down, JSON with a `type`, and binary
messages that begin with a byte: 0 frame, 1 twin, 2 to 5 futures, 6 goal (then chunk, frame and
answered change as uint32, little endian, and a JPEG), 8 a snapshot.
"""

from __future__ import annotations

import asyncio
import io
import json
import struct
from typing import Any

from PIL import Image
from starlette.websockets import WebSocket

from sana_wm_gym.envs.simulation import Frames
from sana_wm_gym.play.player import Shown

FRAME, TWIN, FUTURE, GOAL, SNAPSHOT = 0, 1, 2, 6, 8
"""First byte of binary messages down; futures are 2 to 5."""
MAX_MESSAGE = 2**24
"""Bytes of a message up; a snapshot is the largest."""
_QUALITY = 90


class Wire:
    """The sending end of a page's socket; one message at a time."""

    def __init__(self, socket: WebSocket) -> None:
        self.socket = socket
        self._sending = asyncio.Lock()

    async def send(self, kind: str, **values: Any) -> None:
        """A JSON message."""
        async with self._sending:
            await self.socket.send_text(json.dumps({"type": kind, **values}))

    async def picture(self, kind: int, frame: Frames, shown: Shown) -> None:
        """A picture, uint8 [H, W, 3], and the place in the walk that it is from."""
        head = struct.pack("<BIII", kind, shown.chunk, shown.index, shown.answers)
        await self._send_bytes(head + jpeg(frame))

    async def snapshot(self, data: bytes) -> None:
        """A snapshot's file, for the page to keep."""
        await self._send_bytes(bytes([SNAPSHOT]) + data)

    async def _send_bytes(self, data: bytes) -> None:
        async with self._sending:
            await self.socket.send_bytes(data)


def jpeg(frame: Frames) -> bytes:
    """A frame uint8 [H, W, 3] as a JPEG file."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
