"""A table as plain text cells, and how numbers become cells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

NONE = "-"
Row = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Text cells under heads.

    Attributes:
        title: Above.
        heads: Column heads.
        rows: Cells.
        ours: How many rows from the top are this run's; the others were published by others.
        notes: Lines below.
    """

    title: str
    heads: Row
    rows: tuple[Row, ...]
    ours: int
    notes: tuple[str, ...] = ()


def show(value: float | None, digits: int) -> str:
    """A number, or a dash."""
    return NONE if value is None else f"{value:.{digits}f}"


def codes(counts: Mapping[str, int]) -> str:
    """Reason codes with their counts."""
    return ", ".join(f"{code} {count}" for code, count in sorted(counts.items()))
