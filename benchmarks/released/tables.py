"""Tables of the released-size benchmark, for a terminal and for a page of the documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.pages import line, replace_between

Result = dict[str, Any]
BEGIN, END = "<!-- benchmarks.released_step -->", "<!-- end of benchmarks.released_step -->"


def table_rows(result: Result) -> dict[str, tuple[list[str], list[list[str]]]]:
    """Title -> (headings, rows of text) of every table that has rows."""

    def of(kind: str) -> list[tuple[Result, Result, Result]]:
        """Case, result and record of all cases of a kind."""
        return [(r["case"], r["result"], r) for r in result["cases"] if r["case"]["kind"] == kind]

    roofs = {(case["device"], case["dtype"]): found for case, found, _ in of("roof")}
    tables = {
        "Files": (
            ["files", "type", "tensors", "GB", "write, s", "CPU s", "load average"],
            [
                [
                    case["container"],
                    case["stored"],
                    str(found["tensors"]),
                    _gb(found["bytes"]),
                    f"{found['s']:.1f}",
                    f"{found['processor_s']:.1f}",
                    _load(record),
                ]
                for case, found, record in of("write")
            ],
        ),
        "Loading": (
            [
                "files",
                "into",
                "load, s",
                "CPU s",
                "result, GB",
                "peak, GB",
                "peak / result",
                "load average",
            ],
            [
                [
                    case["container"],
                    f"{case['dtype']}, {case['device']}",
                    f"{found['s']:.1f}",
                    f"{found['processor_s']:.1f}",
                    _gb(found["bytes"]),
                    _gb(found["peak_bytes"]),
                    f"{found['ratio']:.3f}",
                    _load(record),
                ]
                for case, found, record in of("load")
            ],
        ),
        "What the device reaches": (
            ["device", "type", "TFLOP/s", "GB/s", "load average"],
            [
                [
                    record["device"],
                    case["dtype"],
                    f"{found['operations_per_s'] / 1e12:.3f}",
                    f"{found['bytes_per_s'] / 1e9:.1f}",
                    _load(record),
                ]
                for case, found, record in of("roof")
            ],
        ),
        "One chunk of the generator": (
            [
                "frames",
                "window",
                "kernels",
                "passes",
                "s",
                "CPU s",
                "s per pass",
                "TFLOP",
                "floor, s",
                "working memory, GB",
                "memory, GB",
                "difference",
                "load average",
            ],
            [_step(case, found, record, roofs) for case, found, record in of("step")],
        ),
        "Decoding": (
            [
                "frames",
                "latent frames",
                "s",
                "CPU s",
                "TFLOP",
                "working memory, GB",
                "memory, GB",
                "load average",
            ],
            [
                [
                    f"{case['height']}x{case['width']}",
                    str(case["latents"]),
                    _seconds(found["s"]),
                    _seconds(found["processor_s"]),
                    _tera(found["operations"]),
                    _gb(found["working_bytes"]),
                    _gb(found["peak_bytes"]),
                    _load(record),
                ]
                for case, found, record in of("decode")
            ],
        ),
    }
    return {title: table for title, table in tables.items() if table[1]}


def _step(
    case: Result, found: Result, record: Result, roofs: dict[tuple[str, str], Result]
) -> list[str]:
    window = "all" if case["window"] is None else str(case["window"])
    roof = roofs.get((case["device"], case["dtype"]))
    floor = "" if roof is None else _seconds(floor_seconds(found, roof))
    kind = "fused" if case["fused"] else "plain"
    difference = found["difference"]
    return [
        f"{case['height']}x{case['width']}",
        f"{window} of {case['history']}",
        f"{kind}, {case['compiler']}" if case["compiler"] else kind,
        str(case["passes"]),
        _seconds(found["s"]),
        _seconds(found["processor_s"]),
        " ".join(_seconds(seconds) for seconds in found["pass_s"]),
        _tera(found["operations"]),
        floor,
        _gb(found["working_bytes"]),
        _gb(found["peak_bytes"]),
        "" if difference is None else f"{difference:.1e}",
        _load(record),
    ]


def floor_seconds(found: Result, roof: Result) -> float:
    """The least time of a step on a device: its operations or its bytes, whichever take longer."""
    return max(
        found["operations"] / roof["operations_per_s"], found["read_bytes"] / roof["bytes_per_s"]
    )


def markdown(result: Result) -> str:
    """The tables, and where they come from, as Markdown."""
    lines = ["Random weights: times and memory, no result.", ""]
    for device in sorted({record["device"] for record in result["cases"]}):
        there = [record for record in result["cases"] if record["device"] == device]
        commits = ", ".join(sorted({_short(record["commit"]) for record in there}))
        dates = ", ".join(sorted({record["date"] for record in there}))
        lines.append(f"* {device}; {dates}; at commits {commits}.")
    for title, (headings, rows) in table_rows(result).items():
        lines += ["", f"**{title}**", "", line(headings), line(["---"] * len(headings))]
        lines += [line(row) for row in rows]
    return "\n".join(lines) + "\n"


def show(result: Result, console: Console) -> None:
    """Print every table."""
    for title, (headings, rows) in table_rows(result).items():
        table = Table(title=title, title_justify="left")
        for heading in headings:
            table.add_column(heading)
        for row in rows:
            table.add_row(*row)
        console.print(table)


def renew_page(path: Path, result: Result) -> None:
    """Replace what stands between the page's two marks by the tables of a result.

    Raises:
        ValueError: The page has no such marks.
    """
    replace_between(path, BEGIN, END, markdown(result))


def _short(commit: str) -> str:
    """A commit in twelve digits, with the mark of edits since."""
    digits, plus, mark = commit.partition("+")
    return digits[:12] + plus + mark


def _gb(size: int) -> str:
    return f"{size / 1e9:.2f}" if size >= 1e7 else f"{size / 1e9:.2g}"


def _seconds(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _tera(operations: int) -> str:
    return f"{operations / 1e12:.3g}"


def _load(record: Result) -> str:
    """Load averages before and after a case: above the number of cores, others had a share."""
    before, after = record["load_average"]
    return f"{before:.1f}, {after:.1f}"
