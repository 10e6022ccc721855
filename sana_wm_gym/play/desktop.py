"""The same walk in a window on the desktop: `sana-wm play --window`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pygame

from sana_wm_gym.camera.keys import KEY_MAPS
from sana_wm_gym.envs.window import Window
from sana_wm_gym.play.config import PlayConfig, player_of
from sana_wm_gym.play.player import Shown
from sana_wm_gym.play.session import Chunk
from sana_wm_gym.play.walk import Steering

_ARROWS = {
    pygame.K_UP: "forward",
    pygame.K_DOWN: "back",
    pygame.K_LEFT: "yaw_left",
    pygame.K_RIGHT: "yaw_right",
}
_POLL_S = 1 / 120


class Desktop:
    """A window and the walk that its keys steer: R begins a new walk, Backspace goes back a chunk,
    Escape or closing the window ends.

    Args:
        config: What is shown.

    Raises:
        OSError: There is no display.
    """

    def __init__(self, config: PlayConfig) -> None:
        self.player = player_of(config, self)
        spec, key_map = self.player.session.spec, KEY_MAPS[config.env.key_map]
        self._controls = {ord(letter): name for letter, name in key_map.bindings.items()} | _ARROWS
        self._pressed: dict[int, str] = {}
        self._rng = np.random.default_rng(config.seed)
        pictures = 1 if self.player.twin is None else 2
        self._name = f"{spec.name}, ground truth" if pictures == 2 else spec.name
        self.window = Window((spec.height, spec.width * pictures), spec.fps, self._name)

    async def run(self) -> None:
        """Until the window is closed; errors of the world are raised."""
        playing = asyncio.create_task(self.player.play())
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait([playing, listening], return_when=asyncio.FIRST_COMPLETED)
            for task in (playing, listening):
                if task.done():
                    _raise_first(task.exception())
        finally:
            for task in (playing, listening):
                task.cancel()
            await asyncio.wait([playing, listening])
            self.player.close()
            self.window.close()

    async def show(self, shown: Shown) -> None:
        """Draw a frame, and the twin's next to it."""
        pictures = [shown.frame] if self.player.twin is None else [shown.frame, shown.twin]
        black = np.zeros_like(shown.frame)  # where the twin has stopped
        self.window.show(np.hstack([black if one is None else one for one in pictures]))

    async def chunk_over(self, chunk: Chunk) -> None:
        """Report the chunk in the title."""
        reward = f", reward {chunk.result.reward:.2f}" if chunk.result.reward else ""
        over = ", the task is over: R begins a new walk" if chunk.result.terminated else ""
        slow = "" if self.player.fast or not self.player.again else ", slow: keys act a chunk later"
        self.window.title(f"{self._name}: chunk {self.player.session.length}{reward}{over}{slow}")

    async def waiting(self, is_waiting: bool) -> None:
        """The last frame stays."""

    async def _listen(self) -> None:
        while True:
            for event in self.window.events():
                if event.type == pygame.QUIT:
                    return
                if event.type == pygame.KEYDOWN and event.key == pygame.K_ESCAPE:
                    return
                await self._on(event)
            await asyncio.sleep(_POLL_S)

    async def _on(self, event: Any) -> None:
        if event.type == pygame.KEYDOWN and event.key in self._controls:
            self._pressed[event.key] = self._controls[event.key]
        elif event.type == pygame.KEYDOWN and event.key == pygame.K_r:
            seed = int(self._rng.integers(2**31))
            await self._edit(lambda session: session.reset(seed))
        elif event.type == pygame.KEYDOWN and event.key == pygame.K_BACKSPACE:
            chunk = max(0, self.player.session.length - 1)
            await self._edit(lambda session: session.rewind(chunk))
        elif event.type == pygame.KEYUP:
            self._pressed.pop(event.key, None)
        elif event.type == pygame.WINDOWFOCUSLOST:
            self._pressed.clear()
        self.player.steer(Steering(frozenset(self._pressed.values())))

    async def _edit(self, change: Callable[[Any], Any]) -> None:
        sessions = [one for one in (self.player.session, self.player.twin) if one is not None]
        await self.player.edit(lambda: [change(session) for session in sessions])


def _raise_first(error: BaseException | None) -> None:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None:
        raise error
