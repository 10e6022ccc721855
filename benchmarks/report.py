"""What the scripts have in common: their command line, and what they write."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.tables import Table


def parser_of(module: str, text: str | None) -> FlagParser:
    """The command line of a script, whose help is its module docstring."""
    return FlagParser(f"python -m {module}", text)


def write_report(
    path: Path, document: Mapping[str, Any], tables: Mapping[str, Table], console: Console
) -> None:
    """Write a json file, print the tables that have rows, and write each to a csv file next to it,
    named after both."""
    write_json(path, dict(document))
    for name, table in tables.items():
        if table.rows:
            table.print(console)
            write_text(path.with_name(f"{path.stem}_{name}.csv"), table.csv())
    console.print(f"wrote {path} and its csv files", markup=False)
