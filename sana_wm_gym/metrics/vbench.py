"""VBench's "Overall", from dimension scores that somebody else computed.

The dimensions themselves need a GPU and downloaded weights and are not computed here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from sana_wm_gym.checks import require_number


class Dimension(NamedTuple):
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
    weight: float = 1.0


QUALITY = (
    Dimension("subject_consistency", "SC", 0.1462, 1.0),
    Dimension("background_consistency", "BC", 0.2615, 1.0),
    Dimension("temporal_flickering", "TF", 0.6293, 1.0),
    Dimension("motion_smoothness", "MS", 0.7060, 0.9975),
    Dimension("aesthetic_quality", "AQ", 0.0, 1.0),
    Dimension("imaging_quality", "IQ", 0.0, 1.0),
    Dimension("dynamic_degree", "DD", 0.0, 1.0, 0.5),
)
"""The seven dimensions of the total. VBench's overall_consistency (OC) is printed next to them in
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
    if missing := [d.name for d in QUALITY if d.name not in scores]:
        raise ValueError(f"expected all seven dimensions, missing {', '.join(missing)}")
    total = 0.0
    for name, _, low, high, weight in QUALITY:
        score = require_number(name, scores[name], 0, 1)
        total += weight * (min(max(score, low), high) - low) / (high - low)
    return 100 * total / math.fsum(dimension.weight for dimension in QUALITY)
