"""The Python blocks of the documentation run, page by page; its commands are understood."""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sana_wm_gym import cli, hydra_settings
from sana_wm_gym.flags import FlagParser

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMED = {tool.name for tool in cli.TOOLS} | {"TOOL"}
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text(encoding="utf-8")
    names: dict[str, object] = {}
    for block in BLOCK.finditer(text):
        line = text.count("\n", 0, block.start(1))
        # Blank lines in front, so that a traceback names the line of the page.
        exec(compile("\n" * line + block[1], str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    links = LINK.findall(page.read_text(encoding="utf-8"))
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing, f"{page.name} links to {missing}"


def commands(text: str) -> Iterator[str]:
    """Every `sana-wm` command in a text, in a block or within a line."""
    text = text.replace("\\\n", " ")
    yield from re.findall(r"^(?: {4}| {2})?sana-wm (.+)$", text, re.MULTILINE)
    yield from re.findall(r"`sana-wm ([^`]+)`", text)


@pytest.fixture
def understood(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], None]:
    """Check that commands are understood: each is stopped where its flags are read, or its
    settings composed."""
    parse = FlagParser.parse_args

    def stop(*_: object) -> None:
        raise ValueError("understood")

    def check(text: str) -> None:
        monkeypatch.setattr(hydra_settings, "instantiated", stop)
        monkeypatch.setattr(FlagParser, "parse_args", lambda *given: stop(parse(*given)))
        for command in commands(text):
            arguments = shlex.split(command, comments=True)
            # `sana-wm train` within a line only names the tool.
            if " ".join(arguments) in NAMED or "..." in command or arguments[-1] == "--help":
                continue
            # argparse and sweeps end the process.
            with contextlib.suppress(SystemExit):
                cli.main(arguments)
            said = capsys.readouterr().err
            assert "understood" in said or "needs its plugin" in said, f"{command}: {said}"

    return check


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_of_pages_are_understood(page: Path, understood: Callable[[str], None]) -> None:
    understood(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("tool", cli.TOOLS, ids=lambda tool: tool.name)
def test_commands_of_help_are_understood(
    tool: cli.Tool, capsys: pytest.CaptureFixture[str], understood: Callable[[str], None]
) -> None:
    with pytest.raises(SystemExit):
        cli.main([*tool.name.split(), "--help"])
    text = capsys.readouterr().out
    assert any(command.startswith(tool.name) for command in commands(text))
    # What stands in several columns is an example and its explanation.
    understood(re.sub(r"(sana-wm .*?\S) {3,}.*", r"\1", text))


def test_every_tool_is_on_the_page_of_commands() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert [tool.name for tool in cli.TOOLS if f"| `sana-wm {tool.name}" not in text] == []
