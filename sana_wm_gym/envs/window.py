"""A window on the desktop that shows frames, with pygame (extra `play`)."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

_SHORTEST = 480  # pixels of the window's shorter side, at least


def _pygame() -> ModuleType:
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    import pygame

    return pygame


class Window:
    """Shows frames of one size, scaled up by an integer.

    Args:
        size: (height, width) of frames in pixels.
        fps: Frames per second at which `play` shows them.
        title: Of the window.

    Raises:
        ModuleNotFoundError: pygame is not installed.
        OSError: There is no display. `SDL_VIDEODRIVER=dummy` does without one.
    """

    def __init__(self, size: tuple[int, int], fps: float, title: str) -> None:
        self._pygame = _pygame()
        self._period = 1 / fps
        self._due = 0.0
        scale = max(1, -(-_SHORTEST // min(size)))
        try:
            self._pygame.display.init()
            self._screen = self._pygame.display.set_mode((size[1] * scale, size[0] * scale))
        except self._pygame.error as error:
            raise OSError(f"no window: {error}") from error
        driver = self._pygame.display.get_driver()
        # Without a display SDL draws off screen, and nobody would see it.
        if driver == "offscreen" and os.environ.get("SDL_VIDEODRIVER") != driver:
            self.close()
            raise OSError("no window: there is no display on this machine")
        self._pygame.display.set_caption(title)

    def show(self, frame: npt.NDArray[np.uint8]) -> None:
        """Show a frame, uint8 [H, W, 3], at once."""
        surface = self._pygame.surfarray.make_surface(frame.swapaxes(0, 1))
        self._pygame.transform.scale(surface, self._screen.get_size(), self._screen)
        self._pygame.display.flip()

    def play(self, frames: Iterable[npt.NDArray[np.uint8]]) -> None:
        """Show frames at their rate; returns when the last one is due to be followed."""
        for frame in frames:
            time.sleep(max(0.0, self._due - time.monotonic()))
            self.show(frame)
            self._pygame.event.pump()  # the desktop takes the window for hung otherwise
            self._due = max(self._due, time.monotonic() - self._period) + self._period

    def title(self, text: str) -> None:
        """Another title."""
        self._pygame.display.set_caption(text)

    def events(self) -> list[Any]:
        """What has happened to the window since the last call, as `pygame.event.get`."""
        return list(self._pygame.event.get())

    def close(self) -> None:
        """Close the window."""
        self._pygame.display.quit()
