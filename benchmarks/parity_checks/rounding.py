"""How much of a bfloat16 difference is the reference's own rounding noise.

Rounding queries, keys and values to bfloat16 makes the network discontinuous: where a float32
value lies next to a rounding boundary, its last bit decides between two bfloat16 numbers that
differ by 0.4 %. Guidance multiplies the effect. A run can then move further under a change of the
last bit of its input than the stated tolerance, and no implementation that adds in another order
can be closer than that. Only a miss is examined this way, and the outcome says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from benchmarks.parity_checks.check import Array, Check, Outcome, relative_l2

TRIALS = 3
MARGIN = 2.0
"""Allowed multiple of the noise: both sides round on their own."""

LAST_BIT = 2.0**-23


def nudge(values: Array, trial: int) -> Array:
    """The same values with each last bit moved up or down at random."""
    signs = np.random.default_rng(trial).choice([-1.0, 1.0], size=values.shape)
    return (values * (1.0 + LAST_BIT * signs)).astype(values.dtype)


def allow_rounding_noise(
    outcomes: Iterable[Outcome],
    ours: Mapping[str, Array],
    rerun: Callable[[int], Mapping[str, Array]],
    prefix: str,
) -> Iterator[Outcome]:
    """Judge misses of bfloat16 tensors by how far last-bit noise alone moves them.

    Args:
        outcomes: Outcomes of one case.
        ours: Tensors they were made with, by name without `prefix`.
        rerun: The same tensors from inputs nudged for a trial.
        prefix: Stands before the names in `outcomes`.
    """
    reruns: list[Mapping[str, Array]] = []
    for outcome in outcomes:
        name = outcome.name.removeprefix(prefix)
        if (
            isinstance(outcome, Check)
            and not outcome.passed
            and np.isfinite(outcome.error)
            and "bf16attn" in name.split("/")
        ):
            reruns = reruns or [rerun(trial) for trial in range(TRIALS)]
            noise = max(relative_l2("", moved[name], ours[name], 0.0).error for moved in reruns)
            note = (
                f"above the stated {outcome.tolerance:.0e}; "
                f"last-bit noise on the input moves this tensor by {noise:.1e}"
            )
            tolerance = max(outcome.tolerance, MARGIN * noise)
            outcome = replace(outcome, tolerance=tolerance, note=note)
        yield outcome
