"""Did the video follow the commanded camera? One call, one typed answer.

frames -> estimator -> poses -> scores under `release` and `scale_only`, beside what a motionless
camera would score and, where true frames exist, what the estimator makes of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from sana_wm_gym.metrics.matching import match_frames
from sana_wm_gym.metrics.pose import (
    RELEASE,
    SCALE_ONLY,
    Convention,
    DegenerateTrajectoryError,
    InvalidPosesError,
    PoseScore,
    check_poses,
    null_scores,
    score_poses,
)
from sana_wm_gym.poses.floors import Floor, floor_of
from sana_wm_gym.poses.protocol import (
    EstimatorInfo,
    Frames,
    PoseEstimate,
    PoseEstimator,
)

REPORTED: tuple[Convention, ...] = (RELEASE, SCALE_ONLY)

Scores = Mapping[str, PoseScore | str]


@dataclass(frozen=True)
class RolloutScore:
    """Camera-control scores of one rollout. Mappings are keyed by convention name.

    A score that is undefined on this path is the reason code, a string, in place of a PoseScore.

    Attributes:
        scores: What the rollout scores.
        motionless: What a video without any motion would score on the same command.
        no_rotation: What a video with the right centres that never turns would score.
        floor: What the same estimator scores on true frames of the commanded path; None where
            no true frames were given.
        stored_floor: What the estimator scored on true frames of other clips, as stored with the
            package; None where nothing of its version and resolution is.
        info: The estimator, its mode and reprojection error. `info.source` is `oracle` where
            poses were known: never mix those with estimated ones in a mean.
        frames_asked: Reference instants asked for.
        frames_scored: Of those, the ones with an estimate.
    """

    scores: Scores
    motionless: Scores
    no_rotation: Scores
    floor: Scores | None
    stored_floor: Floor | None
    info: EstimatorInfo
    frames_asked: int
    frames_scored: int

    @property
    def coverage(self) -> float:
        """Frames scored over frames asked for, 0 to 1."""
        return self.frames_scored / self.frames_asked

    @property
    def release(self) -> PoseScore | str:
        """The headline triple: mean orientation offset and scale are forgiven."""
        return self.scores[RELEASE.name]

    @property
    def scale_only(self) -> PoseScore | str:
        """The strict triple: frame 0 is shared, only the scale is forgiven."""
        return self.scores[SCALE_ONLY.name]

    def at_floor(self, convention: Convention) -> bool | None:
        """Whether RotErr is below twice the floor, where clips can no longer be ranked.

        None where there is no floor to compare with.
        """
        if self.floor is None:
            return None
        score, floor = self.scores[convention.name], self.floor[convention.name]
        if isinstance(score, str) or isinstance(floor, str):
            return None
        if score.rot_err is None or floor.rot_err is None:
            return None
        return score.rot_err < 2 * floor.rot_err

    def to_dict(self) -> dict[str, object]:
        """Plain values for json; an undefined score is `{"code": reason}`."""
        return {
            "source": self.info.source,
            "mode": self.info.mode,
            "coverage": self.coverage,
            "frames_asked": self.frames_asked,
            "frames_scored": self.frames_scored,
            "estimator": asdict(self.info),
            "scores": _plain(self.scores),
            "motionless": _plain(self.motionless),
            "no_rotation": _plain(self.no_rotation),
            "floor": None if self.floor is None else _plain(self.floor),
            "stored_floor": None if self.stored_floor is None else asdict(self.stored_floor),
        }

    def table(self) -> str:
        """Aligned text: one line per convention and per yardstick."""
        head = ("convention", "video", "RotErr deg", "TransErr m", "CamMC", "scale")
        rows = [head]
        for convention in self.scores:
            for label, group in (
                ("rollout", self.scores),
                ("floor", self.floor),
                ("motionless", self.motionless),
                ("no rotation", self.no_rotation),
            ):
                if group is not None:
                    rows.append((convention, label, *_cells(group[convention])))
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        lines = [
            "  ".join(
                cell.ljust(width) if column < 2 else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        lines.insert(1, "-" * max(len(line) for line in lines))
        error = self.info.reprojection_error_px
        lines.append(
            f"poses {self.info.source} by {self.info.name} {self.info.version}, "
            f"mode {self.info.mode}"
            + ("" if error is None else f", reprojection {error:.2f} px")
            + f"; {self.frames_scored} of {self.frames_asked} frames scored"
        )
        if self.info.look not in ("", "sharp"):
            lines.append(f"frames taken for {self.info.look}: tracked with a wider window")
        if self.stored_floor is not None:
            lines.append(f"stored floor under {RELEASE.name}: {self.stored_floor}")
        elif self.info.source == "estimated":
            lines.append("no stored floor for this estimator, version and resolution")
        if any(self.at_floor(convention) for convention in REPORTED):
            lines.append("RotErr is under twice the floor: do not rank on it")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()


def score_rollout(
    frames: Frames,
    commanded: npt.ArrayLike,
    intrinsics: npt.ArrayLike | None,
    fps: float,
    estimator: PoseEstimator,
    *,
    reference_fps: float | None = None,
    truncate: bool = False,
    truth_frames: Frames | None = None,
    min_coverage: float = 0.5,
) -> RolloutScore:
    """Estimate the camera path of a video and score it against the command.

    Args:
        frames: uint8 [n, height, width, 3] RGB, first frame included.
        commanded: Camera-to-world poses [m, 4, 4] that the video was asked to follow.
        intrinsics: Nominal (fx, fy, cx, cy) in pixels of `frames`, or None to assume 64 degrees
            across.
        fps: Rate of the video, Hz.
        estimator: Turns frames into poses.
        reference_fps: Rate of `commanded`, Hz; that of the video by default. Instants are
            matched by time.
        truncate: Score the common part where the video is too short.
        truth_frames: True frames of the commanded path, like `frames`; gives the floor.
        min_coverage: Smallest accepted share of placed frames.

    Raises:
        ValueError: Bad frames, poses, intrinsics or rates; or the video is too short.

    Source: SANA-WM (arXiv 2605.15178), App. D.3, and the evaluator released with it.
    """
    reference = np.asarray(commanded, dtype=np.float64)
    check_poses(reference, "commanded")
    if len(reference) < 2:
        raise InvalidPosesError(f"expected at least 2 commanded poses, given {len(reference)}")
    frames = np.asarray(frames)
    match = match_frames(len(reference), reference_fps or fps, len(frames), fps, truncate=truncate)
    wanted = reference[match.reference]
    if truth_frames is not None and np.shape(truth_frames) != frames.shape:
        raise ValueError(
            f"expected truth_frames of shape {frames.shape}, given {np.shape(truth_frames)}"
        )

    estimate = estimator.estimate(frames, intrinsics, fps)
    floor = None
    if truth_frames is not None:
        truth = estimator.estimate(truth_frames, intrinsics, fps)
        floor = _scores(truth, wanted, match.video, min_coverage)
    nulls = {convention.name: null_scores(wanted, convention) for convention in REPORTED}
    return RolloutScore(
        scores=_scores(estimate, wanted, match.video, min_coverage),
        motionless={name: scores["motionless"] for name, scores in nulls.items()},
        no_rotation={name: scores["no_rotation"] for name, scores in nulls.items()},
        floor=floor,
        stored_floor=floor_of(estimate.info, frames.shape[2]),
        info=estimate.info,
        frames_asked=len(wanted),
        frames_scored=int(estimate.valid[match.video].sum()),
    )


def _scores(
    estimate: PoseEstimate,
    wanted: npt.NDArray[np.float64],
    video: npt.NDArray[np.int64],
    min_coverage: float,
) -> Scores:
    scores: dict[str, PoseScore | str] = {}
    for convention in REPORTED:
        try:
            scores[convention.name] = score_poses(
                estimate.poses[video],
                wanted,
                convention,
                estimate.valid[video],
                min_coverage=min_coverage,
            )
        except DegenerateTrajectoryError as error:
            scores[convention.name] = error.code
    return scores


def _cells(score: PoseScore | str) -> tuple[str, str, str, str]:
    if isinstance(score, str):
        return score, "-", "-", "-"

    def show(value: float | None, digits: int) -> str:
        return "-" if value is None else f"{value:.{digits}f}"

    # On a command without translation only the rotation was asked for.
    turning = "reference_static" in score.flags
    return (
        show(score.rot_err, 2),
        "-" if turning else show(score.trans_err, 3),
        "-" if turning else show(score.cam_mc, 3),
        show(score.scale, 3),
    )


def _plain(scores: Scores) -> dict[str, object]:
    return {
        name: {"code": score} if isinstance(score, str) else score.to_dict()
        for name, score in scores.items()
    }
