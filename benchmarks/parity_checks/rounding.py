"""How much of a bfloat16 difference is the reference's own rounding noise.

Rounding queries, keys and values to bfloat16 makes the network discontinuous: where a float32
value is next to a rounding boundary, its last bit decides between two bfloat16 numbers that
differ by 0.4 %. Guidance multiplies the effect. A run can then move further under a change of the
last bit of its input than the stated tolerance, and no implementation that adds in another order
can be closer than that. A miss stays a miss; on request the noise is measured and the
misses excused that it explains.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache, partial

import numpy as np

from benchmarks.parity_checks.check import Array, Check, Outcome, relative_l2

TRIALS = 3
MARGIN = 2.0
"""Allowed multiple of the noise: both sides round on their own."""

LAST_BIT = 2.0**-23

Tensors = Mapping[str, Array]


def nudge(values: Array, trial: int) -> Array:
    """The same values with each last bit moved up or down at random."""
    signs = np.random.default_rng(trial).choice([-1.0, 1.0], size=values.shape)
    return (values * (1.0 + LAST_BIT * signs)).astype(values.dtype)


def with_noise(
    outcomes: Iterable[Outcome], ours: Tensors, rerun: Callable[[int], Tensors], prefix: str
) -> Iterator[Outcome]:
    """Attach to comparisons of bfloat16 tensors how to measure their noise.

    Args:
        outcomes: Outcomes of one case.
        ours: Tensors they were made with, by name without `prefix`.
        rerun: The same tensors from inputs nudged for a trial; called only on request.
        prefix: Stands before the names in `outcomes`.
    """
    once = cache(rerun)

    def measure(name: str) -> float:
        moved = (once(trial)[name] for trial in range(TRIALS))
        return max(relative_l2("", tensor, ours[name], 0.0).error for tensor in moved)

    for outcome in outcomes:
        name = outcome.name.removeprefix(prefix)
        if isinstance(outcome, Check) and "bf16attn" in name.split("/"):
            outcome = replace(outcome, noise=partial(measure, name))
        yield outcome


def excuse(outcome: Outcome) -> Outcome:
    """A finite miss with noise, compared with that noise; everything else as it is."""
    if not isinstance(outcome, Check) or outcome.passed or outcome.noise is None:
        return outcome
    if not np.isfinite(outcome.error):
        return outcome
    noise = outcome.noise()
    note = (
        f"above the stated {outcome.tolerance:.0e}; "
        f"last-bit noise on the input moves this tensor by {noise:.1e}"
    )
    return replace(outcome, tolerance=max(outcome.tolerance, MARGIN * noise), note=note)
