"""Means of few episodes with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """The mean of `count` numbers with its 95 % interval, whose ends are None for one number."""

    mean: float
    low: float | None
    high: float | None
    count: int

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.mean:.3g}"
        return f"{self.mean:.3g} [{self.low:.3g}, {self.high:.3g}]"


def estimate(values: Sequence[float | bool]) -> Estimate:
    """A fraction with Wilson's interval for booleans, else a mean with Student's t. `ValueError`
    where there is no value, or one is not finite.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927).
    """
    if not values or not all(map(math.isfinite, values)):
        raise ValueError(f"given {list(values)[:8]}, expected finite numbers and at least one")
    n, mean = len(values), fmean(values)
    if all(isinstance(value, bool) for value in values):
        test = stats.binomtest(sum(map(int, values)), n)
        interval = test.proportion_ci(CONFIDENCE, method="wilson")
        return Estimate(mean, float(interval.low), float(interval.high), n)
    if n == 1:
        return Estimate(mean, None, None, n)
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * stdev(values) / math.sqrt(n)
    return Estimate(mean, mean - half, mean + half, n)
