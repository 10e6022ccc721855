"""What a parity check is: one number against one tolerance, or a named reason for none."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


_NUMBER = re.compile(r"\d+")


class GoldenError(ValueError):
    """A reference file is unreadable, incomplete or contradicts itself."""


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: Tensor or entry that was compared, as the reference names it.
        error: Distance to the reference in `unit`; infinite when shapes differ.
        tolerance: Largest error that passes.
        unit: How the distance is measured.
        note: What went wrong beyond the number; empty otherwise.
        noise: Measures how far rounding noise alone moves the tensor; None where it plays no part.
    """

    name: str
    error: float
    tolerance: float
    unit: str
    note: str = ""
    noise: Callable[[], float] | None = None

    @property
    def passed(self) -> bool:
        """Whether the error is within tolerance; NaN never is."""
        return bool(self.error <= self.tolerance)

    @property
    def severity(self) -> float:
        """Error in units of its tolerance, for sorting; an exact check that fails is infinite."""
        if not self.passed:
            return np.inf if self.tolerance == 0 or np.isnan(self.error) else self.excess
        return 0.0 if self.tolerance == 0 else self.excess

    @property
    def excess(self) -> float:
        """Error divided by a tolerance that is not zero."""
        return self.error / self.tolerance


@dataclass(frozen=True)
class Skip:
    """An entry that was not compared, and why."""

    name: str
    reason: str


Outcome: TypeAlias = Check | Skip


def relative_l2(name: str, ours: Array, reference: Array, tolerance: float) -> Check:
    """Compare by |ours - reference| / |reference|, or by |ours| where the reference is zero."""
    if mismatch := _shape_mismatch(ours, reference):
        return Check(name, np.inf, tolerance, "relative L2", mismatch)
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    size = float(np.linalg.norm(b)) or 1.0
    return Check(name, float(np.linalg.norm(a - b)) / size, tolerance, "relative L2")


def largest_difference(name: str, ours: Array, reference: Array, tolerance: float) -> Check:
    """Compare by the largest absolute difference of any entry."""
    if mismatch := _shape_mismatch(ours, reference):
        return Check(name, np.inf, tolerance, "absolute", mismatch)
    difference = np.abs(ours.astype(np.float64) - reference.astype(np.float64))
    return Check(name, float(difference.max(initial=0.0)), tolerance, "absolute")


def relative_or_absolute(name: str, ours: Array, reference: Array, tolerance: float) -> Check:
    """Relative L2, or the largest difference where that is smaller (references near zero)."""
    return min(
        relative_l2(name, ours, reference, tolerance),
        largest_difference(name, ours, reference, tolerance),
        key=lambda check: check.error,
    )


def close(name: str, ours: Array, reference: Array, tolerance: float) -> Check:
    """Compare entry by entry: the largest |ours - reference| / max(1, |reference|)."""
    if mismatch := _shape_mismatch(ours, reference):
        return Check(name, np.inf, tolerance, "entrywise", mismatch)
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    error = np.abs(a - b) / np.maximum(1.0, np.abs(b))
    return Check(name, float(error.max(initial=0.0)), tolerance, "entrywise")


def equal(name: str, ours: object, reference: object) -> Check:
    """Compare exactly; the error is 0 or 1."""
    if ours == reference:
        return Check(name, 0.0, 0.0, "exact")
    return Check(name, 1.0, 0.0, "exact", f"expected {_brief(reference)}, got {_brief(ours)}")


def compare_named(
    prefix: str,
    ours: Mapping[str, Array],
    reference: Mapping[str, Array],
    compare: Callable[[str, Array, Array], Check],
) -> Iterator[Outcome]:
    """Compare tensors of equal name; name those that only one side has.

    Args:
        prefix: Put before every name.
        ours: Tensors computed here.
        reference: Tensors of the reference file.
        compare: Measures one pair, by its (prefixed) name.
    """
    for name in reference:
        full = prefix + name
        if name in ours:
            yield compare(full, ours[name], reference[name])
        else:
            yield Skip(full, "nothing here computes it")
    for name in ours:
        if name not in reference:
            yield Skip(prefix + name, "absent from the file")


def fold_names(names: Iterable[str]) -> list[str]:
    """Shorten a list of names without losing one, in the brace notation of a shell.

    `a_00/x`, `a_01/x`, `a_00/y`, `a_01/y` become `a_{00,01}/{x, y}`.
    """
    numbers: dict[tuple[str, str], list[list[str]]] = {}
    for name in names:
        folder, slash, leaf = name.rpartition("/")
        skeleton = _NUMBER.sub("#", folder + slash)
        numbers.setdefault((skeleton, leaf), []).append(_NUMBER.findall(folder))
    folders: dict[str, list[str]] = {}
    for (skeleton, leaf), rows in numbers.items():
        for folder in _fold_numbers(skeleton, rows):
            folders.setdefault(folder, []).append(leaf)
    return [
        f"{folder}{{{', '.join(leaves)}}}"
        if folder and len(leaves) > 1
        else ", ".join(folder + leaf for leaf in leaves)
        for folder, leaves in folders.items()
    ]


def _fold_numbers(skeleton: str, rows: list[list[str]]) -> list[str]:
    """One folder where the numbers fill a whole grid, else every folder."""
    choices = [list(dict.fromkeys(column)) for column in zip(*rows, strict=True)]
    if prod(len(choice) for choice in choices) == len(rows):
        rows = [[c[0] if len(c) == 1 else f"{{{','.join(c)}}}" for c in choices]]
    pieces = skeleton.split("#")
    return [
        "".join(piece + number for piece, number in zip(pieces, [*row, ""], strict=True))
        for row in rows
    ]


def _shape_mismatch(ours: Array, reference: Array) -> str:
    if ours.shape == reference.shape:
        return ""
    return f"expected shape {reference.shape}, got {ours.shape}"


def _brief(value: object, limit: int = 160) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
