"""The page in a headless Chromium, served by the command as for a user."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

CHROMIUM = shutil.which("chromium")
if CHROMIUM is None:
    pytest.skip("no chromium on this machine", allow_module_level=True)
playwright = pytest.importorskip("playwright.sync_api")

pytestmark = pytest.mark.browser
PATIENCE_S = 60
FRAMES = 24
# Keeps the picture of every frame that is drawn, by chunk and place, in the order of drawing.
WATCH = """() => {
  window.drawings = [];
  const canvas = document.getElementById("frame");
  new MutationObserver(() => {
    const {chunk, index} = canvas.dataset;
    drawings.push([Number(chunk), Number(index), canvas.toDataURL()]);
  }).observe(canvas, {attributes: true, attributeFilter: ["data-frames"]});
}"""
GAMEPAD = """window.axes = null;
navigator.getGamepads = () => window.axes ? [{axes: window.axes}] : [null];"""


class Served:
    """A `sana-wm play` and its URL; started again it has the same one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, 0
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "sana_wm_gym", "play", "--world", "procedural"]
        command += ["--no-browser", "--token", "t", "--folder", str(self.folder)]
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        self.port = int(re.fullmatch(r"http://127\.0\.0\.1:(\d+)/\?token=t", self.url)[1])  # type: ignore[index]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("walks"))
    yield server
    server.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, served: Served) -> Iterator[Any]:
    context = browser.new_context(has_touch=True)
    context.add_init_script(GAMEPAD)
    opened = context.new_page()
    opened.set_default_timeout(PATIENCE_S * 1000)
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda line: line.type == "error" and problems.append(line.text))
    opened.goto(served.url)
    opened.evaluate(WATCH)
    until(opened, "state.frames > 1")
    opened.problems = problems
    yield opened
    context.close()
    assert problems == []


def until(page: Any, condition: str, arg: Any = None) -> None:
    """Wait. Playwright's own waiting evaluates text in the page, which its policy forbids."""
    deadline = time.monotonic() + PATIENCE_S
    while not page.evaluate(condition, arg):
        assert time.monotonic() < deadline, f"{condition} is not so: {page.inner_text('body')}"
        page.wait_for_timeout(50)


def frames_later(page: Any, count: int) -> None:
    until(page, f"state.frames > {page.evaluate('state.frames') + count}")


def path_after(page: Any, chunks: int) -> Any:
    """The path on the page some whole chunks later."""
    until(page, f"state.chunk >= {page.evaluate('state.chunk') + chunks}")
    return np.asarray(page.evaluate("state.path"))


def test_keys_move_the_picture_and_are_released_with_the_focus(page: Any) -> None:
    frames_later(page, 3)
    still = page.evaluate("drawings.at(-1)[2]")
    page.keyboard.down("w")
    page.keyboard.down("ArrowLeft")
    assert page.locator("#keys .held").all_inner_texts() == ["w forward", "a yaw left"]
    until(page, "still => drawings.at(-1)[2] !== still", arg=still)
    path = path_after(page, 2)
    assert path[-1][1] > 0.1  # forward is z
    page.evaluate("dispatchEvent(new Event('blur'))")
    assert page.locator("#keys .held").count() == 0
    path_after(page, 4)  # inertia
    path = path_after(page, 1)
    assert np.linalg.norm(path[-1] - path[-2]) < 0.01


def test_letters_in_the_prompt_are_no_keys(page: Any) -> None:
    assert page.locator("#prompt").is_disabled()  # a world without prompts says so
    assert "takes no prompts" in page.locator("#prompt").get_attribute("placeholder")
    page.select_option("#world", "tiny")
    until(page, "state.world === 'tiny' && state.frames > 2")
    assert page.locator("#twin-view").is_visible()
    page.fill("#prompt", "")
    page.type("#prompt", "was")
    assert page.locator("#keys .held").count() == 0
    page.press("#prompt", "Enter")
    until(page, "$('message').textContent.length > 0")


def test_rewind_returns_the_same_frame(page: Any) -> None:
    page.keyboard.down("d")
    page.keyboard.down("w")
    until(page, f"drawings.some(([c, i]) => c === 1 && i === {FRAMES - 1})")
    until(page, "state.chunk >= 3")
    shown = page.evaluate(f"drawings.find(([c, i]) => c === 1 && i === {FRAMES - 1})[2]")
    before = page.evaluate("drawings.length")
    page.evaluate("$('time').value = 2; $('time').dispatchEvent(new Event('change'))")
    until(
        page,
        "([from, shown]) => drawings.slice(from).some(d => d[2] === shown)",
        arg=[before, shown],
    )
    until(page, f"state.path.length >= {1 + 3 * FRAMES} && state.chunk >= 3")
    assert page.evaluate("state.path.length === 1 + 24 * state.chunk")


def test_four_futures_differ_and_one_is_taken(page: Any) -> None:
    page.keyboard.down("w")
    page.click("#aim")
    page.wait_for_selector("#goal-view:not([hidden])")
    path_after(page, 1)
    page.click("#branch")
    until(page, f"state.futures && state.futures.every(c => c.frames.length === {2 * FRAMES})")
    pictures = """state.futures.map(canvas => {
      canvas.getContext("2d").drawImage(canvas.frames.at(-1), 0, 0);
      return canvas.toDataURL();
    })"""
    assert len(set(page.evaluate(pictures))) == 4
    names = page.locator("#futures figcaption").all_inner_texts()
    assert names[0] == "1: keys held" and names[3] == "4: toward the goal"
    paused = page.evaluate("state.chunk")
    page.keyboard.press("2")
    until(page, f"state.chunk === {paused + 2}")
    assert page.locator("#futures").is_hidden()
    path_after(page, 1)


def test_a_gamepad_walks(page: Any) -> None:
    page.evaluate("axes = [0, -1, 0, 0]")
    until(page, "state.sent.startsWith('[\"axes\"')")
    assert path_after(page, 3)[-1][1] > 0.3
    page.evaluate("axes = null")
    until(page, "state.sent.startsWith('[\"keys\"')")


def test_touch_walks(page: Any) -> None:
    box = page.locator("#pad").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 2
    touch = page.context.new_cdp_session(page)
    for kind, points in (("touchStart", [{"x": x, "y": y}]), ("touchMove", [{"x": x, "y": y + 1}])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert path_after(page, 3)[-1][1] > 0.3
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    until(page, "state.sent.startsWith('[\"keys\"')")


def test_a_walk_is_saved_and_replayed(page: Any, tmp_path: Path) -> None:
    page.keyboard.down("w")
    path = path_after(page, 2)
    page.select_option("#what", "walk")
    page.click("#save")
    until(page, "$('message').textContent.startsWith('saved ')")
    file = Path(page.inner_text("#message").removeprefix("saved "))
    chunks = len(json.loads(file.read_text())["chunks"])
    page.click("#reset")
    until(page, "state.chunk < 2")
    page.set_input_files("#replay", file)
    until(page, f"state.path.length >= {1 + chunks * FRAMES}")
    assert page.evaluate("state.path")[: len(path)] == path.tolist()
    page.screenshot(path=tmp_path / "page.png")
    assert np.asarray(Image.open(tmp_path / "page.png")).std() > 10


def test_a_walk_resumes_after_the_server_was_killed(page: Any, served: Served) -> None:
    until(page, "state.snapshot !== null")
    served.kill()
    until(page, "$('status').textContent === 'disconnected'")
    served.start()
    until(page, "$('message').textContent.startsWith('resumed at chunk')")
    frames_later(page, 3)
    page.problems.clear()  # Chromium reports the refused connections


def test_another_tab_takes_over(page: Any, served: Served) -> None:
    other = page.context.new_page()
    other.goto(served.url)
    until(other, "state.frames > 1")
    until(page, "$('message').textContent === 'another page took over'")
    other.close()


def test_a_page_without_the_token_is_refused(page: Any, served: Served) -> None:
    stranger = page.context.new_page()
    answer = stranger.goto(served.url.replace("token=t", "token=x"))
    assert answer.status == 403 and "token missing or wrong" in answer.text()
    stranger.close()
