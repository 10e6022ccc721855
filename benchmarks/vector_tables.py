"""Tables of the batching benchmark, for a terminal and for a page of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pages import line, replace_between

Result = dict[str, Any]
Rows = tuple[list[str], list[list[str]]]

BEGIN, END = "<!-- benchmarks.vector_step -->", "<!-- end of benchmarks.vector_step -->"


def tables_of(result: Result) -> dict[str, Rows]:
    """Title -> (headings, rows of text) of every table."""
    tables: dict[str, Rows] = {}
    tables["Environment steps per second, batch against one by one"] = (
        ["world", "observation", "N", "batch", "one by one", "ratio"],
        [
            [
                row["world"],
                row["observation"],
                str(row["batch"]),
                f"{row['batch_steps_per_s']:.1f}",
                f"{row['one_by_one_steps_per_s']:.1f} ({row['one_by_one_threads']} thr.)",
                f"{row['ratio']:.2f}",
            ]
            for row in result["batches"]
        ],
    )
    seen = {
        (row["world"], row["batch"]): row["batch_steps_per_s"]
        for row in reversed(result["batches"])
    }
    if result["processes"]:
        tables["The same with a process per environment (SubprocVecEnv), last frames"] = (
            ["world", "N", "steps/s", "batch above, steps/s", "start, s", "memory, MB"],
            [
                [
                    row["world"],
                    str(row["processes"]),
                    f"{row['steps_per_s']:.1f}",
                    f"{seen[row['world'], row['processes']]:.1f}",
                    f"{row['start_s']:.0f}",
                    f"{row['memory_mb']:.0f}",
                ]
                for row in result["processes"]
            ],
        )
    tables["State of one world in a batch"] = (
        ["world", "kB"],
        [[world, f"{size / 1000:.0f}"] for world, size in result["state_bytes"].items()],
    )
    return tables


def markdown(result: Result) -> str:
    """The tables, and where they come from, as Markdown."""
    lines = [
        f"`{result['command']}`, commit {result['commit'][:12]}, {result['date']}, "
        f"{result['threads']} threads on {result['device']}, load average "
        f"{result['load_average']}, weights {result['weights_sha256'][:12]}.",
    ]
    for title, (headings, rows) in tables_of(result).items():
        lines += ["", f"**{title}**", "", line(headings), line(["---"] * len(headings))]
        lines += [line(row) for row in rows]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    """Print every table."""
    for title, (headings, rows) in tables_of(result).items():
        table = Table(title=title, title_justify="left")
        for heading in headings:
            words = heading in ("world", "observation")
            table.add_column(heading, justify="left" if words else "right")
        for row in rows:
            table.add_row(*row)
        console.print(table)


def renew_page(path: Path, result: Result) -> None:
    """Replace what stands between the page's two marks by the tables of a result.

    Raises:
        ValueError: The page has no such marks.
    """
    replace_between(path, BEGIN, END, markdown(result))
