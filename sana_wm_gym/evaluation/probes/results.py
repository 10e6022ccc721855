"""What probes return: rows of values for tables and json, pose errors of several clips among
them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sana_wm_gym.evaluation.aggregate import ErrorMeans
from sana_wm_gym.evaluation.held_out import Array, Frames, HeldOutClip
from sana_wm_gym.evaluation.score import RolloutScore, plain_score, score_rollout
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.tables import Table

Row = dict[str, Any]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe measured.

    Attributes:
        title: What, of which world, from how much.
        notes: How to read the values.
        rows: Values by column; dataclasses among them go whole to json and as a text to a table.
        more: Rows of further tables by name.
    """

    title: str
    notes: str
    rows: list[Row]
    more: dict[str, list[Row]] = field(default_factory=dict)

    def tables(self) -> dict[str, Table]:
        """By name, the first with an empty one; pose errors under the headline convention."""
        return {
            name: Table.of(
                self.title if not name else f"{self.title}: {name}",
                [{k: v for k, v in row.items() if SCALE_ONLY.name not in k} for row in rows],
                digits=6 if name else 2,
                notes="" if name else self.notes,
            )
            for name, rows in {"": self.rows, **self.more}.items()
        }


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation (0 for a single start), smallest and largest of one number over
    several starts."""

    mean: float
    std: float
    low: float
    high: float

    @staticmethod
    def of(values: Array | Sequence[float]) -> Spread:
        """Summarise one value per start."""
        return Spread(*(float(f(values)) for f in (np.mean, np.std, np.min, np.max)))

    def __str__(self) -> str:
        return f"{self.mean:.2f} ± {self.std:.2f}"


def score_clips(
    estimator: PoseEstimator,
    videos: Frames,
    clips: Sequence[HeldOutClip],
    fps: float,
    part: slice = slice(None),
) -> list[RolloutScore]:
    """Pose scores of videos [b, n + 1, H, W, 3] against the clips' commands; or of a part."""
    return [
        score_rollout(video[part], clip.c2w[part], clip.start.intrinsics, fps, estimator)
        for video, clip in zip(videos, clips, strict=True)
    ]


def pose_columns(generated: Sequence[RolloutScore], floors: Sequence[RolloutScore]) -> Row:
    """Pose errors of generated frames, of a camera that never moves, and of true frames (`floors`,
    the same clips) under the headline and the strict convention, as columns of a row."""

    groups = {
        "poses": [one.scores for one in generated],
        "motionless": [one.motionless for one in generated],
        "floor": [one.scores for one in floors],
    }
    return {
        name + end: ErrorMeans.of(plain_score(scores[convention.name]) for scores in group)
        for convention, end in ((RELEASE, ""), (SCALE_ONLY, f", {SCALE_ONLY.name}"))
        for name, group in groups.items()
    }
