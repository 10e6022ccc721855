"""The window: keys of its events steer, its frames are the walk's."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from sana_wm_gym import cli
from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.envs.vector_env import SanaWMVectorEnv

pygame = pytest.importorskip("pygame")

from sana_wm_gym.play.config import PlayConfig  # noqa: E402
from sana_wm_gym.play.desktop import Desktop  # noqa: E402
from sana_wm_gym.play.player import Shown  # noqa: E402


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")


def press(key: int, down: bool = True) -> None:
    kind = pygame.KEYDOWN if down else pygame.KEYUP
    pygame.event.post(pygame.event.Event(kind, key=key))


def corner(screen: Any) -> Any:
    return np.asarray(pygame.surfarray.array3d(screen)).swapaxes(0, 1)


class Script:
    """Presses keys at frames, as a player would."""

    def __init__(self, desktop: Desktop) -> None:
        self.desktop, self.show_there = desktop, desktop.show
        self.shown: list[Shown] = []
        self.walked: list[int] = []

    async def show(self, shown: Shown) -> None:
        await self.show_there(shown)
        pixels = corner(self.desktop.window._screen)
        assert np.array_equal(pixels[::8, ::8][: len(shown.frame)], shown.frame)
        self.shown.append(shown)
        match len(self.shown):
            case 3:
                press(pygame.K_w)
                press(pygame.K_LEFT)
            case 60:
                pygame.event.post(pygame.event.Event(pygame.WINDOWFOCUSLOST))
            case 80:
                self.walked.append(self.desktop.player.session.length)
                press(pygame.K_BACKSPACE)
            case 130:
                press(pygame.K_r)
            case 180:
                press(pygame.K_ESCAPE)


def test_keys_steer_rewind_reset_and_end() -> None:
    desktop = Desktop(PlayConfig(EnvConfig("procedural", action_mode="keys"), 3))
    script = Script(desktop)
    desktop.show = script.show  # type: ignore[method-assign]
    player, seed = desktop.player, desktop.player.session.seed
    asyncio.run(asyncio.wait_for(desktop.run(), 120))
    answers = [shown.answers for shown in script.shown]
    assert answers[0] == 0 and answers == sorted(answers)
    assert max(answers) >= 2 and not player.steering.held
    assert np.linalg.norm(script.shown[70].frame.astype(float) - script.shown[2].frame) > 100
    assert script.walked == [3]
    assert [shown.chunk for shown in script.shown[80:110]].count(2) > 10  # chunk 2 once more
    assert player.session.seed != seed


def test_the_twin_is_drawn_next_to_the_world() -> None:
    desktop = Desktop(PlayConfig(EnvConfig("tiny", action_mode="keys"), 3))
    left, right = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 200, np.uint8)
    asyncio.run(desktop.show(Shown(left, 0, 0, 0, right)))
    pixels = corner(desktop.window._screen)
    assert pixels[:, : pixels.shape[1] // 2].max() == 0
    assert pixels[:, pixels.shape[1] // 2 :].min() == 200
    desktop.player.close()
    desktop.window.close()


def test_a_human_sees_every_frame_of_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    env = SanaWMEnv("procedural", render_mode="human")
    env.reset(seed=3)
    assert env._window is not None
    shown: list[Any] = []
    monkeypatch.setattr(env._window, "show", shown.append)
    env.step(env.action_space.sample())
    assert env.render() is None
    other = SanaWMEnv("procedural", render_mode="rgb_array_list")
    other.restore(env.snapshot())
    assert np.array_equal(np.stack(shown), np.stack(other.render()))
    [branch] = env.branch(1)
    branch.step(branch.action_space.sample())
    assert branch.render_mode is branch._window is None and len(shown) == 24
    env.close()
    assert not pygame.display.get_init()


def test_windows_that_cannot_be_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="render_mode is 'human'"):
        SanaWMVectorEnv(2, "procedural", render_mode="human")
    for name in ("SDL_VIDEODRIVER", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert cli.main(["play", "--window", "--world", "procedural"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: no window: ") and error.count("\n") == 1
