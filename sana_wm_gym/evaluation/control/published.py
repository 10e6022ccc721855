"""Numbers that the SANA-WM paper prints, to stand beside ours. Nothing here is ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from sana_wm_gym.evaluation.bench.layout import PUBLIC_NAMES, Split

CAVEAT = (
    "Published rows are other people's numbers on other data: weights, hardware and 480p or 720p "
    "videos of the authors, mean of 80 scenes, poses by a learned estimator. They are printed for "
    "orientation and do not compare one to one with an embedded 64 px world."
)


@dataclass(frozen=True)
class Published:
    """One printed row.

    Attributes:
        method: Its name in the paper.
        note: Parameters and resolution.
        values: Numbers by column.
    """

    method: str
    note: str
    values: dict[str, float]


def published(table: str, split: Split) -> tuple[Published, ...]:
    """Rows of a split.

    Args:
        table: `main` (RotErr in degrees, TransErr in metres, CamMC, peak_mem in GB, throughput in
            videos per hour on 8 H100) or `revisit` (PSNR, SSIM, LPIPS).
        split: Which split.
    """
    text = ("split", "method", "params", "resolution", "gpus_per_clip")
    return tuple(
        Published(
            row["method"],
            f"{row['params']}, {row['resolution']}",
            {key: value for key, value in row.items() if key not in text},
        )
        for row in _document()[table]
        if row["split"] == PUBLIC_NAMES[split]
    )


def source() -> str:
    """Where the rows were printed."""
    return str(_document()["source"])


@cache
def _document() -> dict[str, Any]:
    path = Path(__file__).with_name("published.json")
    return dict(json.loads(path.read_text(encoding="utf-8")))
