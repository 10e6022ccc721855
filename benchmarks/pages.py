"""Parts of a Markdown page that a command writes: tables between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sana_wm_gym.files import write_text


def line(cells: Sequence[str]) -> str:
    """One row of a table."""
    return "| " + " | ".join(cells) + " |"


def replace_between(path: Path, begin: str, end: str, text: str) -> None:
    """Replace what stands between the first `begin` and the next `end`. The page is never half
    written.

    Raises:
        ValueError: The page has no such marks.
    """
    before, found_begin, rest = path.read_text(encoding="utf-8").partition(begin)
    _, found_end, after = rest.partition(end)
    if not found_begin or not found_end:
        raise ValueError(f"{path} has no {begin} ... {end}")
    write_text(path, f"{before}{begin}\n{text}{end}{after}")
