"""The run as a document: summary.json, report.md, one self-contained report.html, the terminal."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table as RichTable

from sana_wm_gym.evaluation.control.cells import Table
from sana_wm_gym.evaluation.control.pictures import COLUMNS, legend, path_plots, strip_times
from sana_wm_gym.evaluation.control.run_folder import RunFolder
from sana_wm_gym.evaluation.control.summary import SplitSummary
from sana_wm_gym.evaluation.control.tables import failure_table, scene_table, split_tables
from sana_wm_gym.files import write_json, write_text

_STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; max-width: 1180px; margin: 2em auto; padding: 0 1em;
       color: #222; }
table { border-collapse: collapse; margin: .6em 0; }
caption { text-align: left; font-weight: 600; padding: .3em 0; }
th, td { padding: .2em .7em; border-bottom: 1px solid #e4e4e4; text-align: left;
         font-variant-numeric: tabular-nums; white-space: pre-wrap; }
tr.other td { color: #777; }
p.note { color: #555; margin: .2em 0; max-width: 75em; }
section.scene { border-top: 1px solid #ccc; margin-top: 1.5em; }
img.strip { width: 100%; max-width: 900px; image-rendering: pixelated; display: block; }
dt { font-weight: 600; } dd { margin: 0 0 .3em 1em; overflow-wrap: anywhere; }
"""


@dataclass(frozen=True)
class Report:
    """Everything a report says.

    Attributes:
        name: What made the videos.
        provenance: Command, commit, device, date, identity of the run; plain values.
        summaries: One per split.
        results: Of every scene, in order.
        folder: Where strips are and reports go.
    """

    name: str
    provenance: Mapping[str, Any]
    summaries: Sequence[SplitSummary]
    results: Sequence[Mapping[str, Any]]
    folder: RunFolder

    def tables(self) -> list[Table]:
        """Tables of all splits, then what failed."""
        found = [table for summary in self.summaries for table in split_tables(self.name, summary)]
        failures = failure_table(self.summaries)
        return found if failures is None else [*found, failures]

    def write(self) -> list[Path]:
        """Write summary.json, report.md and report.html, each whole."""
        names = ("summary.json", "report.md", "report.html")
        summary, markdown, html = (self.folder.path / name for name in names)
        write_json(
            summary,
            {
                "method": self.name,
                **self.provenance,
                "splits": {one.split: one.to_dict() for one in self.summaries},
            },
        )
        write_text(markdown, self.markdown())
        write_text(html, self.html())
        return [summary, markdown, html]

    def print(self, console: Console) -> None:
        """Draw the tables in a terminal."""
        for table in self.tables():
            shown = RichTable(title=table.title, title_justify="left", box=None)
            for column, head in enumerate(table.heads):
                shown.add_column(head, overflow="fold", no_wrap=column == 0)
            for index, row in enumerate(table.rows):
                shown.add_row(*map(_plain, row), style="dim" if index >= table.ours else None)
            console.print(shown)
            for note in table.notes:
                console.print(_plain(note), style="dim")
            console.print()

    def markdown(self) -> str:
        """The tables and where they come from."""
        parts = [f"# Camera control: {self.name}", _sentence(self.provenance)]
        for table in [*self.tables(), scene_table(self.results)]:
            lines = [f"## {table.title}", "", *_markdown_rows(table), ""]
            lines += [f"{note}\n" for note in table.notes]
            parts.append("\n".join(lines).rstrip())
        parts.append("Camera paths and frames of every scene are in report.html.")
        return "\n\n".join(parts) + "\n"

    def html(self) -> str:
        """One file that needs no other."""
        title = f"Camera control: {self.name}"
        facts = "".join(
            f"<dt>{escape(str(key))}</dt><dd>{escape(_value(value))}</dd>"
            for key, value in self.provenance.items()
        )
        tables = [*self.tables(), scene_table(self.results)]
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>"
            f"<h1>{escape(title)}</h1><dl>{facts}</dl>"
            + "".join(map(_html_table, tables))
            + "<h2>Scene by scene</h2>"
            + "".join(self._html_scene(result) for result in self.results)
            + "</body></html>\n"
        )

    def _html_scene(self, result: Mapping[str, Any]) -> str:
        label = f"{result['split']} / {result['scene']} / {result['trajectory']}"
        head = f'<section class="scene"><h3>{escape(label)}</h3>'
        if result["status"] != "scored":
            reason = f"{result['code']}: {result['message']}"
            return f'{head}<p class="note">No result. {escape(reason)}</p></section>'
        paths, video = result["paths"], result["video"]
        parts = [head, path_plots(paths, label), f"<p>{legend(paths)}</p>"]
        if paths["estimated"] is None:
            code = next(iter(result["pose"]["scores"].values()))["code"]
            parts.append(
                f'<p class="note">No path could be read from the video: {escape(code)}.</p>'
            )
        strip = self.folder.strip_file(result["split"], result["scene"])
        if strip.is_file():
            data = base64.b64encode(strip.read_bytes()).decode()
            parts.append(
                f'<img class="strip" alt="frames of {escape(label)}" '
                f'src="data:image/png;base64,{data}">'
            )
            times = ", ".join(f"{t:.1f}" for t in strip_times(video["frames"], video["fps"]))
            above = "; the true video above" if result["twin"] else ""
            parts.append(f'<p class="note">{COLUMNS} frames, at {times} s{above}.</p>')
        return "".join(parts) + "</section>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_value, value))
    return str(value)


def _sentence(provenance: Mapping[str, Any]) -> str:
    return "\n".join(f"- {key}: {_value(value)}" for key, value in provenance.items())


def _markdown_rows(table: Table) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.strip().replace("|", "/") for cell in cells) + " |"

    return [line(table.heads), "|" + "---|" * len(table.heads), *map(line, table.rows)]


def _html_table(table: Table) -> str:
    heads = "".join(f"<th>{escape(head)}</th>" for head in table.heads)
    rows = []
    for index, row in enumerate(table.rows):
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        rows.append(f"<tr{'' if index < table.ours else ' class=other'}>{cells}</tr>")
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f"<table><caption>{escape(table.title)}</caption><thead><tr>{heads}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>{notes}"
    )


def _plain(text: str) -> str:
    """Keep square brackets from being read as markup."""
    return text.replace("[", "\\[")
