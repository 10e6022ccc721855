"""The printed "Overall" from the printed dimensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sana_wm_gym.metrics import overall_percent
from sana_wm_gym.metrics.vbench import QUALITY

ROWS = json.loads((Path(__file__).parents[1] / "data" / "vbench_rows.json").read_text())["rows"]


def fractions(row: dict[str, Any]) -> dict[str, float]:
    scores = {d.name: row[d.abbreviation] / 100 for d in QUALITY}
    return {**scores, "overall_consistency": row["OC"] / 100}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['table']}-{row['split']}-{row['row']}")
def test_published_rows(row: dict[str, Any]) -> None:
    overall = overall_percent(fractions(row))
    assert round(overall, 2) == row["recomputed"]
    assert overall == pytest.approx(row["Overall"], abs=0.0151)  # dimensions are rounded too


def test_ends_of_the_scale_and_weights() -> None:
    best = dict.fromkeys((d.name for d in QUALITY), 1.0)
    assert overall_percent(best) == pytest.approx(100)
    assert overall_percent(dict.fromkeys(best, 0.0)) == 0
    assert overall_percent({**best, "dynamic_degree": 0.0}) == pytest.approx(100 * 6 / 6.5)
    # Motion smoothness is clamped above 0.9975; consistency with the text does not enter.
    assert overall_percent({**best, "motion_smoothness": 0.9975}) == pytest.approx(100)
    assert overall_percent({**best, "overall_consistency": 0.0}) == pytest.approx(100)


def test_bad_scores_are_named() -> None:
    scores = fractions(ROWS[0])
    with pytest.raises(ValueError, match="missing imaging_quality"):
        overall_percent({k: v for k, v in scores.items() if k != "imaging_quality"})
    with pytest.raises(ValueError, match="aesthetic_quality is 52"):
        overall_percent({**scores, "aesthetic_quality": 52.0})
    with pytest.raises(ValueError, match="nan"):
        overall_percent({**scores, "aesthetic_quality": float("nan")})
