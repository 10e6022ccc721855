"""One table, three ways to draw it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sana_wm_gym.tables import Table, cell

TABLE = Table.of("Scores [dB]", [{"world": "a|b", "PSNR": 24.256}, {"world": "c", "PSNR": None}])


def test_cells() -> None:
    assert [cell(v, 1) for v in (None, 3, 2.25, "x")] == ["-", "3", "2.2", "x"]
    with pytest.raises(ValueError, match=r"has 1 cells, expected 2"):
        Table("t", ("a", "b"), (("1",),))


def test_three_drawings_have_the_same_cells() -> None:
    assert TABLE.markdown().splitlines() == [
        "| world | PSNR |",
        "|---|---|",
        "| a\\|b | 24.26 |",
        "| c | - |",
    ]
    assert TABLE.csv() == "world,PSNR\na|b,24.26\nc,-\n"
    out = io.StringIO()
    TABLE.print(Console(file=out, width=60))
    assert "Scores [dB]" in out.getvalue() and "24.26" in out.getvalue()
