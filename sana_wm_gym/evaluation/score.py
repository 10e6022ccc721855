"""Camera errors of one video: frames -> estimator -> poses -> scores under `release` and
`scale_only`, next to those of a motionless camera and, where true frames exist, of true frames."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt
from rich.console import Console

from sana_wm_gym.evaluation.command_agreement import ANY_DEPTH, command_agreement
from sana_wm_gym.metrics.command_agreement import CommandAgreement
from sana_wm_gym.metrics.conventions import RELEASE, SCALE_ONLY, Convention
from sana_wm_gym.metrics.matching import FrameMatch, match_frames
from sana_wm_gym.metrics.pose import PoseScore, null_scores, score_or_code
from sana_wm_gym.metrics.pose_checks import InvalidPosesError, check_poses
from sana_wm_gym.poses.floors import Floor, floor_of
from sana_wm_gym.poses.protocol import (
    EstimatorInfo,
    Frames,
    PoseEstimate,
    PoseEstimator,
    check_input,
)
from sana_wm_gym.tables import NONE, Table, cell

REPORTED: tuple[Convention, ...] = (RELEASE, SCALE_ONLY)
AT_FLOOR = 2.0
"""An error below this many floors ranks nothing."""

Scores = Mapping[str, PoseScore | str]


@dataclass(frozen=True)
class ScoreOptions:
    """What a score can be given beyond video and command.

    Attributes:
        match: Which frame shows which commanded pose; see `match_frames`. By default poses have
            the rate of the video, which must show them all.
        min_coverage: Smallest accepted fraction of placed frames.
        depths_m: Nearest and farthest depth in the scene, metres, for command agreement; see
            `scene_depths`.
    """

    match: FrameMatch | None = None
    min_coverage: float = 0.5
    depths_m: tuple[float, float] = ANY_DEPTH


@dataclass(frozen=True)
class RolloutScore:
    """Camera-control scores of one rollout, by convention name; the reason code, a string, where
    a score is undefined on this path.

    Attributes:
        scores: Of the rollout.
        motionless: Of a video without any motion on the same command.
        no_rotation: Of a video with the right centres that never turns.
        floor: Of true frames of the commanded path with the same estimator; None without them.
        stored_floor: What the package stores for true frames of other clips with this estimator,
            version and resolution, or None.
        estimate: Poses of all frames, and `info`: the estimator, its mode and reprojection error.
            `info.source` is `oracle` where poses were known: never mix those in a mean.
        floor_estimate: The same of the true frames.
        agreement: Command agreement by span in seconds, which needs no estimate; None where poses
            were known and no frames were looked at.
        frames_asked: Commanded instants.
        frames_scored: Of those, the ones with an estimate.
    """

    scores: Scores
    motionless: Scores
    no_rotation: Scores
    floor: Scores | None
    stored_floor: Floor | None
    estimate: PoseEstimate
    floor_estimate: PoseEstimate | None
    agreement: Mapping[float, CommandAgreement] | None
    frames_asked: int
    frames_scored: int

    @property
    def info(self) -> EstimatorInfo:
        """Of the estimate."""
        return self.estimate.info

    @property
    def coverage(self) -> float:
        """Frames scored over frames commanded, 0 to 1."""
        return self.frames_scored / self.frames_asked

    @property
    def release(self) -> PoseScore | str:
        """The headline triple: mean orientation offset and scale are forgiven."""
        return self.scores[RELEASE.name]

    @property
    def scale_only(self) -> PoseScore | str:
        """The strict triple: frame 0 is shared, only the scale is forgiven."""
        return self.scores[SCALE_ONLY.name]

    def centres(self, commanded: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
        """Estimated camera centres of the frames that could be placed, [m, 3], in metres and in the
        frame of `commanded`, one pose [n, 4, 4] per frame; None where their scale is undefined."""
        strict, estimate = self.scale_only, self.estimate
        if not isinstance(strict, PoseScore) or strict.scale is None:
            return None
        # Estimates are relative to the first frame that has one.
        first = commanded[np.argmax(estimate.valid)]
        centres = strict.scale * estimate.poses[estimate.valid, :3, 3]
        return centres @ first[:3, :3].T + first[:3, 3]

    def at_floor(self, convention: Convention) -> bool | None:
        """Whether RotErr is below twice the floor, where clips can no longer be ranked; None
        where there is no floor to compare with."""
        score, floor = self.scores[convention.name], (self.floor or {}).get(convention.name)
        if not (isinstance(score, PoseScore) and isinstance(floor, PoseScore)):
            return None
        if score.rot_err is None or floor.rot_err is None:
            return None
        return score.rot_err < AT_FLOOR * floor.rot_err

    def to_dict(self) -> dict[str, object]:
        """Plain values for json; an undefined score is `{"code": reason}`."""
        return {
            "source": self.info.source,
            "mode": self.info.mode,
            "coverage": self.coverage,
            "frames_asked": self.frames_asked,
            "frames_scored": self.frames_scored,
            "estimator": asdict(self.info),
            "explained": self.estimate.explained,
            "reversed_deg": self.estimate.reversed_deg,
            "focal_ratio": self.estimate.focal_ratio,
            "flags": list(self.estimate.flags),
            "scores": _plain(self.scores),
            "motionless": _plain(self.motionless),
            "no_rotation": _plain(self.no_rotation),
            "floor": None if self.floor is None else _plain(self.floor),
            "stored_floor": None if self.stored_floor is None else asdict(self.stored_floor),
            "agreement": [one.to_dict() for one in (self.agreement or {}).values()],
        }

    def table(self) -> Table:
        """One row per convention and baseline; below, who estimated and how well."""
        groups = {
            "rollout": self.scores,
            "floor": self.floor,
            "motionless": self.motionless,
            "no rotation": self.no_rotation,
        }
        rows = [
            (convention, label, *_cells(group[convention]))
            for convention in self.scores
            for label, group in groups.items()
            if group is not None
        ]
        info, error = self.info, self.info.reprojection_error_px
        notes = [
            f"poses {info.source} by {info.name} {info.version}, mode {info.mode}"
            + ("" if error is None else f", reprojection {error:.2f} px")
            + f"; {self.frames_scored} of {self.frames_asked} frames scored"
        ]
        if self.agreement is not None:
            by_span = (
                f"{cell(one.agreement, 3) if one.code is None else one.code} over {span:g} s"
                for span, one in self.agreement.items()
            )
            notes.append(f"command agreement {', '.join(by_span)}; 0 follows, 1 is a still picture")
        if self.estimate.explained is not None:
            notes.append(
                f"{self.estimate.explained:.0%} of tracks explained; against the estimate: "
                + (", ".join(self.estimate.flags) or "nothing")
            )
        if info.look not in ("", "sharp"):
            notes.append(f"frames taken for {info.look}: tracked with a wider window")
        if self.stored_floor is not None:
            notes.append(f"stored floor under {RELEASE.name}: {self.stored_floor}")
        elif info.source == "estimated":
            notes.append("no stored floor for this estimator, version and resolution")
        if any(self.at_floor(convention) for convention in REPORTED):
            notes.append("RotErr is under twice the floor: do not rank on it")
        heads = ("convention", "video", "RotErr deg", "TransErr m", "CamMC", "scale")
        return Table("Camera control", heads, tuple(rows), tuple(notes))

    def __str__(self) -> str:
        text = io.StringIO()
        self.table().print(Console(file=text, width=200, color_system=None))
        return "\n".join(line.rstrip() for line in text.getvalue().strip().splitlines())


def score_rollout(
    frames: Frames,
    commanded: npt.ArrayLike,
    intrinsics: npt.ArrayLike | None,
    fps: float,
    estimator: PoseEstimator,
    *,
    truth_frames: Frames | None = None,
    options: ScoreOptions = ScoreOptions(),
) -> RolloutScore:
    """Estimate the camera path of a video and score it against the command.

    Args:
        frames: uint8 [n, height, width, 3] RGB, first frame included.
        commanded: Camera-to-world poses [m, 4, 4] that the video is commanded to follow.
        intrinsics: Nominal (fx, fy, cx, cy) in pixels of `frames`, or None to assume 64 degrees
            across.
        fps: Rate of the video, Hz.
        estimator: Turns frames into poses.
        truth_frames: True frames of the commanded path, like `frames`; gives the floor.
        options: Matching by time, least coverage, depths of the scene.

    Raises:
        ValueError: Bad frames, poses, intrinsics or rates; or the video is too short.

    Source: SANA-WM (arXiv 2605.15178), App. D.3, and the evaluator released with it.
    """
    reference = np.asarray(commanded, dtype=np.float64)
    check_poses(reference, "commanded")
    if len(reference) < 2:
        raise InvalidPosesError(f"expected at least 2 commanded poses, given {len(reference)}")
    frames = np.asarray(frames)
    match = options.match
    if match is None:
        match = match_frames(len(reference), fps, len(frames), fps)
    matched, shown = reference[match.reference], match.video
    if truth_frames is not None and np.shape(truth_frames) != frames.shape:
        raise ValueError(
            f"expected truth_frames of shape {frames.shape}, given {np.shape(truth_frames)}"
        )

    def scores(estimate: PoseEstimate) -> Scores:
        poses, valid = estimate.poses[shown], estimate.valid[shown]
        return {
            convention.name: _flagged(
                score_or_code(poses, matched, convention, valid, options.min_coverage),
                estimate.flags,
            )
            for convention in REPORTED
        }

    estimate = estimator.estimate(frames, intrinsics, fps)
    truth = None if truth_frames is None else estimator.estimate(truth_frames, intrinsics, fps)
    agreement = None
    if estimate.info.source == "estimated":
        _, lens, _ = check_input(frames, intrinsics, fps)
        agreement = command_agreement(
            frames, matched, lens, fps, shown=shown, depths_m=options.depths_m
        )
    nulls = {convention.name: null_scores(matched, convention) for convention in REPORTED}
    return RolloutScore(
        scores=scores(estimate),
        motionless={name: null["motionless"] for name, null in nulls.items()},
        no_rotation={name: null["no_rotation"] for name, null in nulls.items()},
        floor=None if truth is None else scores(truth),
        stored_floor=floor_of(estimate.info, frames.shape[2]),
        estimate=estimate,
        floor_estimate=truth,
        agreement=agreement,
        frames_asked=len(matched),
        frames_scored=int(estimate.valid[shown].sum()),
    )


def plain_score(score: PoseScore | str) -> dict[str, object]:
    """Plain values for json; a reason code becomes `{"code": reason}`."""
    return {"code": score} if isinstance(score, str) else score.to_dict()


def _flagged(score: PoseScore | str, flags: Sequence[str]) -> PoseScore | str:
    if isinstance(score, str):
        return score
    return replace(score, flags=(*score.flags, *flags))


def _plain(scores: Scores) -> dict[str, object]:
    return {name: plain_score(score) for name, score in scores.items()}


def _cells(score: PoseScore | str) -> tuple[str, ...]:
    if isinstance(score, str):
        return score, NONE, NONE, NONE
    # On a command without translation only the rotation was commanded.
    turning = "reference_static" in score.flags
    translation = (None, None) if turning else (score.trans_err, score.cam_mc)
    return cell(score.rot_err), *(cell(value, 3) for value in (*translation, score.scale))
