"""Parts of a Markdown page that a command writes: tables between two marks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


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
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")
    os.replace(temporary, path)
