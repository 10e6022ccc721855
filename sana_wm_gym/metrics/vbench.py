"""VBench's "Overall", from dimension scores that somebody else computed.

The dimensions themselves need a GPU and downloaded weights and are not computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """One VBench quality dimension as it enters the total.

    Attributes:
        name: VBench's own name.
        abbreviation: Column head in the SANA-WM tables.
        low: Score that counts as 0, as a fraction.
        high: Score that counts as 1, as a fraction.
        weight: In the weighted mean.
    """

    name: str
    abbreviation: str
    low: float
    high: float
    weight: float

    def normalised(self, score: float) -> float:
        """Clamp to [low, high] and map to 0..1."""
        return (min(max(score, self.low), self.high) - self.low) / (self.high - self.low)


QUALITY: tuple[Dimension, ...] = (
    Dimension("subject_consistency", "SC", 0.1462, 1.0, 1.0),
    Dimension("background_consistency", "BC", 0.2615, 1.0, 1.0),
    Dimension("temporal_flickering", "TF", 0.6293, 1.0, 1.0),
    Dimension("motion_smoothness", "MS", 0.7060, 0.9975, 1.0),
    Dimension("aesthetic_quality", "AQ", 0.0, 1.0, 1.0),
    Dimension("imaging_quality", "IQ", 0.0, 1.0, 1.0),
    Dimension("dynamic_degree", "DD", 0.0, 1.0, 0.5),
)
"""The seven dimensions of the total. VBench's overall_consistency (OC) is printed beside them in
the SANA-WM tables but does not enter."""


def overall_percent(scores: Mapping[str, float]) -> float:
    """The "Overall" column of the SANA-WM tables, 0 to 100.

    Args:
        scores: Fractions 0 to 1, as VBench writes them, keyed by its names
            ("subject_consistency"). Further dimensions are not read.

    Raises:
        ValueError: A dimension is missing, or a score is not within 0 to 1 (percents, perhaps).

    Source: VBench (arXiv 2311.17982), quality score; the constants reproduce tables 2, 5 and 9 of
    SANA-WM (arXiv 2605.15178).
    """
    missing = [dimension.name for dimension in QUALITY if dimension.name not in scores]
    if missing:
        raise ValueError(f"expected all seven dimensions, missing {', '.join(missing)}")
    for dimension in QUALITY:
        score = scores[dimension.name]
        if not 0 <= score <= 1:
            raise ValueError(f"{dimension.name} is {score}, expected a fraction from 0 to 1")
    total = math.fsum(d.weight * d.normalised(scores[d.name]) for d in QUALITY)
    return 100 * total / math.fsum(d.weight for d in QUALITY)
