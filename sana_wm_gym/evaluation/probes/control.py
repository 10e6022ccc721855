"""Pose errors of several clips, with what could not be scored counted by its reason code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sana_wm_gym.evaluation.probes.rollouts import Array, Frames
from sana_wm_gym.evaluation.score import RolloutScore, Scores, score_rollout
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY, PoseScore
from sana_wm_gym.poses.protocol import PoseEstimator

CONVENTIONS = (RELEASE, SCALE_ONLY)
"""The headline and the strict triple."""


@dataclass(frozen=True)
class PoseMeans:
    """Errors averaged over the clips that could be scored; None where none could.

    Attributes:
        asked: Clips asked for.
        scored: Clips with a score.
        failures: Clips without one, by reason code.
        rot_err: Degrees.
        trans_err: Metres; clips that only turn do not count.
        cam_mc: Metres mixed with a unitless rotation term; likewise.
    """

    asked: int
    scored: int
    failures: dict[str, int]
    rot_err: float | None
    trans_err: float | None
    cam_mc: float | None

    @staticmethod
    def of(scores: Sequence[PoseScore | str]) -> PoseMeans:
        """Summarise clips; a string is the reason why a clip has no score."""
        found = [score for score in scores if isinstance(score, PoseScore)]
        # On a command without translation only the rotation was asked for.
        moving = [score for score in found if "reference_static" not in score.flags]

        def mean(errors: list[float | None]) -> float | None:
            values = [error for error in errors if error is not None]
            return float(np.mean(values)) if values else None

        return PoseMeans(
            asked=len(scores),
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
            return codes or "not asked"

        def show(value: float | None, digits: int) -> str:
            return "-" if value is None else f"{value:.{digits}f}"

        errors = f"{show(self.rot_err, 2)} / {show(self.trans_err, 3)} / {show(self.cam_mc, 3)}"
        return f"{errors} ({self.scored}/{self.asked}{': ' + codes if codes else ''})"


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


def score(
    estimator: PoseEstimator,
    frames: Frames,
    c2w: Array,
    intrinsics: tuple[float, float, float, float],
    fps: float,
) -> RolloutScore:
    """Pose score of one clip [n, H, W, 3] against its command [n, 4, 4]."""
    return score_rollout(frames, c2w, intrinsics, fps, estimator)


def controls(
    generated: Sequence[RolloutScore], floors: Sequence[RolloutScore]
) -> tuple[Control, ...]:
    """Summaries under every convention; `floors` are scores of true frames."""

    def means(scores: Sequence[Scores], name: str) -> PoseMeans:
        return PoseMeans.of([mapping[name] for mapping in scores])

    return tuple(
        Control(
            convention.name,
            generated=means([one.scores for one in generated], convention.name),
            motionless=means([one.motionless for one in generated], convention.name),
            floor=means([one.scores for one in floors], convention.name),
        )
        for convention in CONVENTIONS
    )
