"""What fits where, how fast, and what is downloaded: the tables on the docs' first page.

Nothing is measured here. Memory is added up from sizes, and from what a step and a decode needed
beside them when `benchmarks.released_step` ran them; speed lies between two fractions of a card's
peak that published runs reached. Every number says whether it is measured, derived, stated by a
release, or published for a run.

    python -m benchmarks.released.hardware --page docs/index.md
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.pages import line, replace_between
from benchmarks.released.needs import (
    CARDS,
    CONTEXT,
    REFINER_PARAMETERS,
    RUNS,
    SETTINGS,
    TEXT_PARAMETERS,
    VAE_PARAMETERS,
    Needs,
    needs,
    operations,
    reached,
)
from sana_wm_gym.weights.generator import generator_bytes
from sana_wm_gym.weights.names import RELEASED
from sana_wm_gym.weights.preflight import GB
from sana_wm_gym.weights.releases import release
from sana_wm_gym.weights.world_file import EMBEDDED

Result = dict[str, Any]

BEGIN, END = "<!-- benchmarks.released.hardware -->", "<!-- end of benchmarks.released.hardware -->"


def cards(found: Needs) -> tuple[list[str], list[list[str]]]:
    """Headings and one row per card."""
    headings = ["card", "streaming world", "worlds at once", "steps/s", "new prompts", "refined"]
    low, high = sorted(reached(run) for run in RUNS)
    figures = sorted(release("sana-wm-streaming").figures, key=lambda figure: -figure.vram)
    table = []
    for card in CARDS:
        refined = [
            f"{figure.option} ({figure.vram / GB:.1f} GB)"
            for figure in figures
            if figure.vram <= card.bytes and figure.capability <= card.capability
        ]
        row = [f"{card.memory} GB ({card.example})"]
        setting = found.setting(card)
        if setting is None:
            row += ["no", "", "", "", "no"]
        else:
            beside = found.encoding(setting) <= card.bytes
            speed = card.peak * 1e12 / (operations() + found.decode_operations)
            row += [
                str(setting),
                str(found.worlds(card, setting)),
                f"{low * speed:.2g} to {high * speed:.2g}",
                "on the card" if beside else "on the CPU",
                refined[0] if refined else "no",
            ]
        table.append(row)
    return headings, table


def processors(found: Needs, embedded: Result) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of what runs without a card: steps per second of processor time."""
    headings = ["world", "frames", "memory", "steps per CPU second", "CPU seconds per step"]
    table = [
        [
            f"`{tier['world']}`",
            "64 x 64",
            f"{embedded['memory'][tier['world']][-1]['peak_mb'] / 1000:.1f} GB",
            f"{tier['steps_per_cpu_s']:.1f}",
            f"{1 / tier['steps_per_cpu_s']:.2f}",
        ]
        for tier in embedded["tiers"]
        if tier["tier"] == "environment"
    ]
    streaming = [
        "`sana-wm-streaming`, random weights",
        "704 x 1280",
        f"{(found.stepping(SETTINGS[0]) - CONTEXT) / GB:.1f} GB (derived)",
        f"{1 / found.processor_s:.2g}",
        f"{found.processor_s:.0f}",
    ]
    return headings, [*table, streaming]


def downloads() -> tuple[list[str], list[list[str]]]:
    """Headings and rows of what a release brings along."""
    stated = {part.name: part.disk for part in release("sana-wm-bidirectional").components}
    least, most = (generator_bytes(RELEASED, t) for t in (torch.bfloat16, torch.float32))

    def gb(size: int | None) -> str:
        return "unknown" if size is None else f"{size / GB:.1f} GB"

    shipped = (EMBEDDED / "tiny.safetensors").stat().st_size
    return ["part", "size", "how known"], [
        ["`tiny`", f"{shipped / 1e6:.0f} MB", "measured; in the package"],
        ["generator", f"{gb(least)} to {gb(most)}", "derived: bfloat16, float32"],
        ["VAE", gb(2 * VAE_PARAMETERS), "derived: bfloat16"],
        ["text encoder (gemma-2-2b-it)", gb(2 * TEXT_PARAMETERS), "derived: bfloat16"],
        ["refiner, optional", gb(2 * REFINER_PARAMETERS), "derived: bfloat16, audio half included"],
        [
            "its text encoder (Gemma-3), optional",
            gb(stated["refiner_text"]),
            "stated by the bidirectional release",
        ],
    ]


def markdown(records: Sequence[Result], embedded: Result) -> str:
    """The tables and what their numbers are made of.

    Args:
        records: Cases of `benchmarks.released_step`.
        embedded: Result of `benchmarks.env_step`.
    """
    found = needs(records)
    low, high = sorted(RUNS, key=reached)
    tera = {"generator": operations() / 1e12, "decoder": found.decode_operations / 1e12}
    peaks = ", ".join(f"{card.example} {card.peak:.0f}" for card in CARDS)
    lines: list[str] = []

    def add(title: str, table: tuple[list[str], list[list[str]]]) -> None:
        headings, rows = table
        lines.extend([f"**{title}**", "", line(headings), line(["---"] * len(headings))])
        lines.extend([*(line(row) for row in rows), ""])

    def gb(size: float) -> str:
        return f"{size / GB:.1f} GB"

    generators = ", ".join(f"{p} {gb(size)}" for p, size in found.generator.items())
    add("Without a card (measured)", processors(found, embedded))
    lines += [
        f"One thread of {found.device}, shared with other work. A step is 24 frames. The streaming "
        "world's time is that of one chunk of its generator and of its decoder.",
        "",
    ]
    add("With a card (derived; the last column published)", cards(found))
    lines += [
        "* Streaming world: the plainest setting that fits. Weights (generator: "
        f"{generators}; VAE: {gb(found.vae)}) + a world's memories ({gb(found.memories)}) + what "
        f"making a chunk ({gb(found.step)}) or decoding it ({gb(found.decode)}) needs beside them, "
        f"measured on a CPU in plain torch, + {gb(CONTEXT)} for CUDA: "
        f"{gb(found.stepping(SETTINGS[0]))} in bf16. fp8 needs compute capability 9.0, NVFP4 10.0.",
        "* Worlds at once: the same sum with memories and working memory once for each.",
        f"* steps/s: of one world, not refined; peak / {sum(tera.values()):.0f} TFLOP (generator "
        f"{tera['generator']:.0f}, decoder {tera['decoder']:.0f}) x {reached(low):.2f} to "
        f"{reached(high):.2f}, the parts of the peak that the generator reached in bf16 in runs "
        f"that were published for {low.card} ({low.seconds:.0f} s for 40 chunks) and {high.card} "
        f"({high.seconds:.0f} s). Peaks are the vendor's dense bf16 rates: {peaks} TFLOP/s.",
        f"* New prompts: where the text encoder of {gb(found.text)} runs, beside what rests on "
        "the card. Prompts that are encoded already do not need it.",
        "* Refined: the largest setting whose peak, as NVIDIA published it, is below the card's "
        "size.",
        "",
    ]
    add("Downloads", downloads())
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.released.hardware")
    parser.add_argument("--data", type=Path, default=Path("docs/data"), help="folder of results")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are replaced")
    options = parser.parse_args(arguments)
    try:
        text = of_results(options.data)
        if options.page is not None:
            replace_between(options.page, BEGIN, END, text)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(text, end="")
    return 0


def of_results(folder: Path) -> str:
    """The tables, from the stored results in a folder."""
    released, embedded = (
        json.loads((folder / name).read_text(encoding="utf-8"))
        for name in ("released_step.json", "env_step.json")
    )
    return markdown(released["cases"], embedded)


if __name__ == "__main__":
    sys.exit(main())
