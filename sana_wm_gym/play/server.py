"""The page and its WebSocket, on 127.0.0.1; nothing is answered without the token."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from importlib.resources import files

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from sana_wm_gym.play.config import PlayConfig
from sana_wm_gym.play.connection import Connection

PAGE = files("sana_wm_gym.play") / "page"
FILES = {
    "": ("index.html", "text/html"),
    "play.js": ("play.js", "text/javascript"),
    "play.css": ("play.css", "text/css"),
}


def play_app(config: PlayConfig, token: str, port: int) -> Starlette:
    """The page, its two files and the socket; nothing is answered without the token.

    Args:
        config: What is served.
        token: Secret that the URL carries.
        port: Of 127.0.0.1, for the check of a browser's `Origin`.
    """
    origins = {f"http://{host}:{port}" for host in ("127.0.0.1", "localhost")}
    connected: dict[WebSocket, asyncio.Task[None]] = {}

    def known(given: str | None) -> bool:
        return secrets.compare_digest((given or "").encode(), token.encode())

    async def page(request: Request) -> Response:
        name = request.path_params.get("name", "")
        if not name and not known(request.query_params.get("token")):
            return PlainTextResponse("token missing or wrong: use the printed URL\n", 403)
        if name not in FILES:
            return PlainTextResponse("not found\n", 404)
        headers = {
            "Cache-Control": "no-store",
            "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; "
            "frame-ancestors 'none'",
            "Referrer-Policy": "no-referrer",
        }
        file, media_type = FILES[name]
        text = (PAGE / file).read_text(encoding="utf-8")
        return Response(text, media_type=media_type, headers=headers)

    async def socket(websocket: WebSocket) -> None:
        origin = websocket.headers.get("origin")
        if (origin is not None and origin not in origins) or not known(
            websocket.query_params.get("token")
        ):
            await websocket.close(1008, "token missing or wrong, or the page is another site's")
            return
        await websocket.accept()
        task = asyncio.current_task()
        assert task is not None
        while connected:  # the newest page steers
            other, serving = connected.popitem()
            with suppress(
                WebSocketDisconnect, RuntimeError, TimeoutError
            ):  # it has left, or does not read
                await asyncio.wait_for(other.close(1000, "another page took over"), 1.0)
            serving.cancel()
        connected[websocket] = task
        try:
            connection = await asyncio.to_thread(Connection, websocket, config)
            await connection.serve()
        except asyncio.CancelledError:
            if websocket in connected:  # the server ends
                raise
        finally:
            connected.pop(websocket, None)

    return Starlette(
        routes=[Route("/", page), Route("/{name}", page), WebSocketRoute("/play", socket)]
    )
