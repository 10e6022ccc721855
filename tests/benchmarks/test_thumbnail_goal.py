"""The threshold's table: pairs at the goal and away from it, rates that follow from them."""

from __future__ import annotations

import numpy as np

from benchmarks.thumbnail_goal import NOISE, THRESHOLDS, pairs, table


def test_pairs_are_measured_and_grow_apart_with_noise() -> None:
    rows = pairs("procedural", 3).reshape(len(NOISE), 3, 3)
    assert np.isfinite(rows).all() and (rows >= 0).all()
    first, last = rows[0].mean(axis=0), rows[-1].mean(axis=0)
    assert (first < last).all()


def test_rates_are_counted_against_the_camera() -> None:
    there, away = (0.1, 0.1), (2.0, 0.0)
    rows = np.array([(*there, 0.01), (*there, 0.5), (*away, 0.01), (*away, 0.5), (*away, 0.5)])
    found = table(rows)
    assert found.title == "5 pairs, 40% at the goal by the camera"
    assert len(found.rows) == len(THRESHOLDS)
    assert found.rows[0] == ("0.03", "33.3%", "50.0%", "50.0%", "2.00")
