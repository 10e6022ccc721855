"""One table of text cells, drawn in a terminal, as Markdown or as csv; and the progress bar."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table as RichTable

NONE = "-"
"""The cell of a value that there is not."""


@dataclass(frozen=True)
class Table:
    """Text cells under column heads.

    Attributes:
        title: Above.
        heads: Column heads.
        rows: Cells, each row as long as `heads`.
        notes: Lines below.
        dim_from: Rows from this one on are drawn dim in a terminal, such as those that others
            published; None for no row.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    dim_from: int | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.heads):
                raise ValueError(f"row {row} has {len(row)} cells, expected {len(self.heads)}")

    @classmethod
    def of(
        cls, title: str, rows: Iterable[Mapping[str, object]], digits: int = 2, notes: str = ""
    ) -> Table:
        """A table of records with the same keys, which become the heads; see `cell`."""
        records = list(rows)
        heads = tuple(records[0]) if records else ()
        cells = tuple(tuple(cell(record[head], digits) for head in heads) for record in records)
        return cls(title, heads, cells, (notes,) if notes else ())

    def print(self, console: Console) -> None:
        """Draw it in a terminal; the text is not read as rich's markup."""
        drawn = RichTable(title=_drawn(self.title), title_justify="left", box=None)
        for column, head in enumerate(self.heads):
            drawn.add_column(
                _drawn(head),
                justify="left" if column == 0 else "right",
                overflow="fold",
                no_wrap=column == 0,
            )
        for index, row in enumerate(self.rows):
            dim = self.dim_from is not None and index >= self.dim_from
            drawn.add_row(*map(_drawn, row), style="dim" if dim else None)
        console.print(drawn)
        for note in self.notes:
            console.print(_drawn(note), style="dim")
        console.print()

    def markdown(self) -> str:
        """Heads and rows as lines of Markdown, without title and notes."""

        def line(cells: Sequence[str]) -> str:
            texts = (plain_markdown(text.strip()).replace("|", "\\|") for text in cells)
            return "| " + " | ".join(texts) + " |\n"

        return (
            line(self.heads) + "|" + "---|" * len(self.heads) + "\n" + "".join(map(line, self.rows))
        )

    def csv(self) -> str:
        """Heads and rows as csv."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.heads, *self.rows])
        return text.getvalue()


def cell(value: object, digits: int = 2) -> str:
    """A value as text: floats with so many digits, None as a dash, all else as it prints."""
    if value is None:
        return NONE
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """A text of data without control characters, with which it could drive a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def plain_markdown(text: str) -> str:
    """A text of data as one line of Markdown in which no tag is one."""
    return html.escape(printable(text).replace("\n", " "), quote=False)


def _drawn(text: str) -> str:
    return escape(printable(text))


def progress(console: Console) -> Progress:
    """A progress bar that leaves nothing behind, and draws nothing outside of a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
