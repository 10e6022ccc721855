"""What a release takes on disk and in memory, and which settings would fit this machine.

Numbers are *derived* from names and shapes, *stated* by the release or published for a run, or
*measured* on files that are here, and marked so. Nothing is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, prod
from pathlib import Path

from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.weights.containers import open_container
from sana_wm_gym.weights.fetch import known_revisions
from sana_wm_gym.weights.names import (
    RELEASED,
    Shapes,
    Variant,
    expected_shapes,
    quantised,
    quantised_refiner,
)
from sana_wm_gym.weights.preflight import Machine
from sana_wm_gym.weights.releases import Component, Release

CELLS = 22 * 40
"""Latent cells of a 704x1280 frame."""

SOFTMAX_FRAMES = 7
"""Latent frames that a softmax block remembers: first chunk of four, last chunk of three."""

Chooser = Callable[[str, tuple[int, ...]], bool]


class Precision(StrEnum):
    """How weights are stored while they are used."""

    BF16 = "bf16"
    FP8 = "fp8"
    NVFP4 = "NVFP4"


CAPABILITY: Mapping[Precision, tuple[int, int]] = dict(
    zip(Precision, ((8, 0), (9, 0), (10, 0)), strict=True)
)
"""CUDA compute capability that a precision needs."""


@dataclass(frozen=True)
class Row:
    """One part of a release.

    Attributes:
        component: Which.
        disk: Bytes of its files; None if unknown.
        disk_source: "measured", "stated", "derived" or "unknown".
        memory: Bytes of its weights per precision; None if unknown.
        present: Its files are in the cache.
    """

    component: Component
    disk: int | None
    disk_source: str
    memory: Mapping[Precision, int | None]
    present: bool


@dataclass(frozen=True)
class Option:
    """A setting and whether it fits.

    Attributes:
        name: The setting.
        vram: GPU memory in bytes.
        source: "published", or what a derived number leaves out.
        fits: None where the machine's memory is not known.
        reason: Why not, if it does not.
    """

    name: str
    vram: int
    source: str
    fits: bool | None
    reason: str = ""


def rows(release: Release, cache: Path) -> list[Row]:
    """One row per part, from the files where they are in the cache at a known commit."""
    return [_row(part, cache) for part in release.components]


def weight_bytes(shapes: Mapping[str, tuple[int, ...]], precision: Precision, few: Chooser) -> int:
    """Bytes of a set of weights; those that `few` chooses are quantised, the others bfloat16.

    fp8 takes a byte per weight and a float32 scale per 128x128 block; NVFP4 half a byte, a byte of
    scale per 16 weights and a float32 per tensor.
    """
    total = 0
    for name, shape in shapes.items():
        elements = prod(shape)
        if precision is Precision.BF16 or not few(name, shape):
            total += 2 * elements
        elif precision is Precision.FP8:
            total += elements + 4 * ceil(shape[0] / 128) * ceil(prod(shape[1:]) / 128)
        else:
            total += elements // 2 + ceil(elements / 16) + 4
    return total


def memory_bytes(config: SanaWMConfig = RELEASED, cells: int = CELLS) -> int:
    """Bytes that the streaming generator remembers between chunks, sink and one recent chunk.

    States in float32, the rest in bfloat16: `GeneratorState`, analytically.
    """
    width, head = config.width, config.width // config.heads
    softmax = config.depth // config.softmax_every
    ffn_tail = (config.temporal_kernel // 2) * cells * width * 2
    delta = 4 * config.heads * (2 * head * head + head)
    key_tail = (config.conv_kernel - 1) * cells * width * 2
    window = SOFTMAX_FRAMES * cells * 4 * width * 2
    blocks = (config.depth - softmax) * (delta + key_tail) + softmax * window
    return blocks + config.depth * ffn_tail


def options(release: Release, table: Sequence[Row], machine: Machine) -> list[Option]:
    """Settings from the largest to the smallest, each compared with the free GPU memory."""
    found = [
        _option(f"{f.option}, with refiner", f.vram, "published peak", f.capability, machine)
        for f in release.figures
    ]
    by_name = {row.component.name: row for row in table}
    vae = by_name["vae"].memory[Precision.BF16] or by_name["vae"].disk
    state = memory_bytes() if release.variant is Variant.STREAMING else 0
    for precision, capability in CAPABILITY.items():
        weights = by_name["generator"].memory[precision]
        assert weights is not None, "the generator's shapes are always known"
        base = weights + state
        for offloaded, size in (("text", base + (vae or 0)), ("text and VAE", base)):
            if vae is not None or offloaded != "text":
                name = f"{precision}, refiner off, {offloaded} offloaded"
                source = "derived, without activations"
                found.append(_option(name, size, source, capability, machine))
    return sorted(found, key=lambda option: -option.vram)


def _option(
    name: str, vram: int, source: str, capability: tuple[int, int], machine: Machine
) -> Option:
    if machine.vram is None:
        return Option(name, vram, source, None)
    reason = ""
    if machine.vram == 0:
        reason = "no GPU"
    elif machine.capability is not None and machine.capability < capability:
        reason = "needs compute capability {}.{}".format(*capability)
    elif vram > machine.vram:
        reason = "VRAM"
    return Option(name, vram, source, not reason, reason)


def _row(part: Component, cache: Path) -> Row:
    hub_id = part.repository.hub_id
    commit = known_revisions([part], cache).get(hub_id)
    folder = cache / f"models--{hub_id.replace('/', '--')}" / "snapshots" / str(commit)
    files = [] if commit is None else part.files(folder)
    disk, source = part.disk, "unknown" if part.disk is None else "stated"
    if files:
        disk, source = sum(file.stat().st_size for file in files), "measured"

    shapes: Shapes = {}
    few: Chooser = quantised_refiner if part.name == "refiner" else lambda name, shape: False
    if part.name == "generator":
        shapes, few = expected_shapes(), quantised
    else:  # from the headers of its files
        for file in files:
            if file.suffix == ".safetensors":
                stored = open_container(file).stored
                shapes |= {f"{file.parent.name}.{n}": item.shape for n, item in stored.items()}
    memory: dict[Precision, int | None] = dict.fromkeys(Precision)
    if shapes:
        memory = {p: weight_bytes(shapes, p, few) for p in Precision}
    if part.name == "generator" and disk is None:
        # bfloat16 is the least that such a file can have.
        disk, source = memory[Precision.BF16], "derived, at least"
    return Row(part, disk, source, memory, bool(files))
