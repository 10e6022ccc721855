"""Pose errors of several clips, with what could not be scored counted by its reason code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sana_wm_gym.evaluation.held_out import Array, Frames, HeldOutClip
from sana_wm_gym.evaluation.score import REPORTED, RolloutScore, Scores, score_rollout
from sana_wm_gym.metrics import RELEASE, PoseScore
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.tables import cell


@dataclass(frozen=True)
class Spread:
    """One number over several starts.

    Attributes:
        mean: Average.
        std: Standard deviation over starts, 0 for a single one.
        low: Smallest.
        high: Largest.
    """

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


@dataclass(frozen=True)
class PoseMeans:
    """Errors averaged over the clips that could be scored; None where none could.

    Attributes:
        requested: Clips to score.
        scored: Clips with a score.
        failures: Clips without one, by reason code.
        rot_err: Degrees.
        trans_err: Metres; clips that only turn do not count.
        cam_mc: Metres mixed with a unitless rotation term; likewise.
    """

    requested: int
    scored: int
    failures: dict[str, int]
    rot_err: float | None
    trans_err: float | None
    cam_mc: float | None

    @staticmethod
    def of(scores: Sequence[PoseScore | str]) -> PoseMeans:
        """Summarise clips; a string is the reason why a clip has no score."""
        found = [score for score in scores if isinstance(score, PoseScore)]
        # On a command without translation only the rotation was commanded.
        moving = [score for score in found if "reference_static" not in score.flags]

        def mean(errors: list[float | None]) -> float | None:
            values = [error for error in errors if error is not None]
            return float(np.mean(values)) if values else None

        return PoseMeans(
            requested=len(scores),
            scored=len(found),
            failures=dict(Counter(score for score in scores if isinstance(score, str))),
            rot_err=mean([score.rot_err for score in found]),
            trans_err=mean([score.trans_err for score in moving]),
            cam_mc=mean([score.cam_mc for score in moving]),
        )

    def __str__(self) -> str:
        """RotErr / TransErr / CamMC and coverage, or the reason codes."""
        codes = ", ".join(f"{code} {count}" for code, count in sorted(self.failures.items()))
        if not self.scored:
            return codes or "not requested"
        errors = f"{cell(self.rot_err)} / {cell(self.trans_err, 3)} / {cell(self.cam_mc, 3)}"
        return f"{errors} ({self.scored}/{self.requested}{': ' + codes if codes else ''})"


@dataclass(frozen=True)
class Control:
    """How well cameras seen in frames follow the commanded ones, under one convention.

    Attributes:
        convention: Its name.
        generated: Errors of the world's frames.
        motionless: Errors of a camera that never moves.
        floor: Errors of the same estimator on true frames.
    """

    convention: str
    generated: PoseMeans
    motionless: PoseMeans
    floor: PoseMeans


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


def controls(
    generated: Sequence[RolloutScore], floors: Sequence[RolloutScore]
) -> tuple[Control, ...]:
    """Summaries under the headline and the strict convention; `floors` are scores of true
    frames."""

    def means(scores: Sequence[Scores], name: str) -> PoseMeans:
        return PoseMeans.of([mapping[name] for mapping in scores])

    return tuple(
        Control(
            convention.name,
            generated=means([one.scores for one in generated], convention.name),
            motionless=means([one.motionless for one in generated], convention.name),
            floor=means([one.scores for one in floors], convention.name),
        )
        for convention in REPORTED
    )


def headline(found: Sequence[Control]) -> dict[str, str]:
    """Cells of a table: the errors under the headline convention."""
    control = next(one for one in found if one.convention == RELEASE.name)
    return {
        "poses": str(control.generated),
        "motionless": str(control.motionless),
        "floor": str(control.floor),
    }
