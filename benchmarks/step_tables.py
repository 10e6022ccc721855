"""Tables of the speed benchmark, for a terminal and for a page of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pages import line, replace_between
from sana_wm_gym.world.world_model import CHUNK_FRAMES

Result = dict[str, Any]

BEGIN, END = "<!-- benchmarks.env_step -->", "<!-- end -->"


def table_rows(result: Result) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Title -> (headings, rows of text) of every table."""
    tables: dict[str, tuple[list[str], list[list[str]]]] = {}
    tables["Tiers, one environment"] = (
        ["world", "tier", "steps/s", "steps/CPU s", "frames/CPU s"],
        [
            [
                row["world"],
                row["tier"],
                f"{row['steps_per_s']:.2f}",
                f"{row['steps_per_cpu_s']:.2f}",
                f"{CHUNK_FRAMES * row['steps_per_cpu_s']:.0f}",
            ]
            for row in result["tiers"]
        ],
    )
    tables["Batches"] = (
        ["world", "worlds", "steps/s", "steps/CPU s", "frames/CPU s", "undecoded/CPU s", "ratio"],
        [
            [
                row["world"],
                str(row["batch"]),
                f"{row['steps_per_s']:.2f}",
                f"{row['steps_per_cpu_s']:.2f}",
                f"{row['frames_per_cpu_s']:.0f}",
                f"{row['undecoded_steps_per_cpu_s']:.2f}",
                f"{row['ratio_to_first_world']:.2f}",
            ]
            for row in result["batches"]
        ],
    )
    phases: list[Result] = result["phases"]
    if phases:
        names = list(phases[0]["cpu_ms"])
        tables["Phases of a step, ms of processor time"] = (
            ["world", "worlds", *names],
            [
                [row["world"], str(row["batch"]), *(f"{row['cpu_ms'][name]:.1f}" for name in names)]
                for row in phases
            ],
        )
    tables["Memory, one rollout"] = (
        ["world", "chunk", "state, kB", "process, MB", "peak, MB"],
        [
            [
                name,
                str(row["chunk"]),
                f"{row['state_bytes'] / 1000:.1f}",
                f"{row['resident_mb']:.0f}",
                f"{row['peak_mb']:.0f}",
            ]
            for name, rows in result["memory"].items()
            for row in (rows[0], rows[-1])
        ],
    )
    starts: dict[str, dict[str, float]] = result["cold_start_s"]
    tables["Cold start, s"] = (
        ["world", *next(iter(starts.values()))],
        [[name, *(f"{value:.2f}" for value in parts.values())] for name, parts in starts.items()],
    )
    return tables


def markdown(result: Result) -> str:
    """The tables, and where they come from, as Markdown."""
    weights = result["weights"]
    lines = [
        f"`{result['command']}`, commit {result['commit'][:12]}, {result['date']}, one thread on "
        f"{result['device']}, load average {result['load_average']}"
        + (f", weights {weights['sha256'][:12]}." if weights else "."),
    ]
    for title, (headings, rows) in table_rows(result).items():
        lines += ["", f"**{title}**", "", line(headings), line(["---"] * len(headings))]
        lines += [line(row) for row in rows]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    """Print every table."""
    for title, (headings, rows) in table_rows(result).items():
        table = Table(title=title, title_justify="left")
        words = ("world", "tier")
        for heading in headings:
            table.add_column(heading, justify="left" if heading in words else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def renew_page(path: Path, result: Result) -> None:
    """Replace what stands between the page's two marks by the tables of a result.

    Raises:
        ValueError: The page has no such marks.
    """
    replace_between(path, BEGIN, END, markdown(result))
