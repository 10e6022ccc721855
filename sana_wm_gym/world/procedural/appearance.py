"""Appearance of a scene: which variant each of its varying surfaces shows, in numbers and in words.

A phrase is a variant's word and a surface's name ("red door"); a prompt is phrases with commas
between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Surface:
    """A surface of a scene whose appearance varies from episode to episode.

    Attributes:
        name: One word, as in a prompt; unique in its scene.
        variants: One word each, at least two.
    """

    name: str
    variants: tuple[str, ...]

    def phrase(self, variant: int) -> str:
        """What a prompt calls the variant with this index, such as "red door"."""
        return f"{self.variants[variant]} {self.name}"


def draw_appearance(surfaces: Sequence[Surface], rng: np.random.Generator) -> tuple[int, ...]:
    """Index into the `variants` of each surface, uniform and independent; one number is drawn per
    surface, in order."""
    return tuple(int(rng.integers(len(surface.variants))) for surface in surfaces)


def prompt_of(surfaces: Sequence[Surface], appearance: Sequence[int]) -> str:
    """The prompt that names every surface's variant, such as "red door, green crates"; errors as of
    `check_appearance`."""
    check_appearance(surfaces, appearance)
    phrases = (s.phrase(variant) for s, variant in zip(surfaces, appearance, strict=True))
    return ", ".join(phrases)


def parse_prompt(surfaces: Sequence[Surface], prompt: str) -> tuple[int | None, ...]:
    """The variants that a prompt names.

    Args:
        surfaces: The vocabulary.
        prompt: Phrases in any order and case, with commas between them. An empty prompt names
            nothing.

    Returns:
        Per surface, an index into its `variants`, or None where the prompt does not name it.

    Raises:
        ValueError: A phrase is unknown, or two phrases name different variants of one surface.
    """
    known = {s.phrase(v): (i, v) for i, s in enumerate(surfaces) for v in range(len(s.variants))}
    named: list[int | None] = [None] * len(surfaces)
    for part in prompt.split(",") if prompt.strip() else ():
        phrase = " ".join(part.lower().split())
        if phrase not in known:
            raise ValueError(
                f"unknown phrase {phrase!r} in the prompt, expected phrases out of: "
                f"{', '.join(known)}"
            )
        surface, variant = known[phrase]
        if named[surface] not in (None, variant):
            raise ValueError(
                f"the prompt names two variants of the {surfaces[surface].name}, expected one"
            )
        named[surface] = variant
    return tuple(named)


def check_appearance(surfaces: Sequence[Surface], appearance: Sequence[int]) -> None:
    """Raise ValueError unless `appearance` is one variant per surface."""
    counts = [len(surface.variants) for surface in surfaces]
    if len(appearance) != len(counts) or not all(
        0 <= variant < count for variant, count in zip(appearance, counts, strict=True)
    ):
        raise ValueError(
            f"appearance is {tuple(appearance)}, expected one variant per surface, "
            f"below {tuple(counts)}"
        )
