"""Statistics of a stream of numbers in constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Array = npt.NDArray[np.float64]

# Gates crowd towards 0 and 1, norms may reach anything: fine bins at both ends of (0, 1), then
# bins that widen by about 1 % each.
_EDGES = np.concatenate(
    [[0.0], expit(np.linspace(-18, 18, 1801)), [1.0], 1 + np.logspace(-8, 18, 2601), [np.inf]]
)


@dataclass(frozen=True)
class Quantiles:
    """Where the values lie; the ends are exact, the rest to about 2 %."""

    lowest: float
    q05: float
    median: float
    q95: float
    highest: float


class Running:
    """Histograms of several rows of non-negative numbers, with exact extremes.

    Args:
        rows: Number of rows, each with its own statistics.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.count = 0
        self._bins = np.zeros((rows, len(_EDGES) - 1), np.int64)
        self._lowest = np.full(rows, np.inf)
        self._highest = np.full(rows, -np.inf)

    def add(self, values: Array) -> None:
        """Count finite non-negative values [rows, n]."""
        bins = np.searchsorted(_EDGES, values, side="right") - 1
        for row, found in enumerate(bins):
            self._bins[row] += np.bincount(found, minlength=self._bins.shape[1])
        self._lowest = np.minimum(self._lowest, values.min(axis=1))
        self._highest = np.maximum(self._highest, values.max(axis=1))
        self.count += values.shape[1]

    def quantiles(self, row: int) -> Quantiles:
        """Summary of one row.

        Raises:
            ValueError: Nothing has been counted.
        """
        if not self.count:
            raise ValueError("given no values to summarise")
        low, high = float(self._lowest[row]), float(self._highest[row])
        rank = np.searchsorted(np.cumsum(self._bins[row]), np.array([0.05, 0.5, 0.95]) * self.count)
        q05, median, q95 = np.clip(0.5 * (_EDGES[rank] + _EDGES[rank + 1]), low, high).tolist()
        return Quantiles(low, q05, median, q95, high)


class Peaks:
    """Largest value per row in each of a fixed number of slots along a rollout.

    Args:
        rows: Number of rows.
        chunks: Length of the rollout.
        slots: Number of slots, fewer where the rollout is shorter.
    """

    def __init__(self, rows: int, chunks: int, slots: int) -> None:
        self._chunks = chunks
        self._peaks = np.zeros((rows, min(slots, chunks)))
        self.used = 0

    def add(self, row: int, chunk: int, value: float) -> None:
        """Enter a value seen in a chunk."""
        slot = chunk * self._peaks.shape[1] // self._chunks
        self._peaks[row, slot] = max(self._peaks[row, slot], value)
        self.used = max(self.used, slot + 1)

    @property
    def highest(self) -> float:
        """Largest value of all; 0 before any."""
        return float(self._peaks.max())

    def ends(self, slots: int) -> tuple[int, ...]:
        """Chunks after which the first slots end."""
        every = self._peaks.shape[1]
        return tuple(-(-(slot + 1) * self._chunks // every) for slot in range(slots))

    def rows(self, slots: int) -> tuple[tuple[float, ...], ...]:
        """Values of the first slots; 0 where nothing was entered."""
        return tuple(tuple(row[:slots].tolist()) for row in self._peaks)
