"""Arrays in, numbers out: pose error, image error, and poses estimated from pixels."""

from sana_wm_gym.metrics.aggregate import (
    AggregateScore,
    FailedClip,
    Mean,
    MixedScoresError,
    aggregate_clips,
)
from sana_wm_gym.metrics.ate import TrajectoryError, trajectory_error
from sana_wm_gym.metrics.drift import (
    PROXIES,
    DriftScore,
    DriftSummary,
    Proxy,
    score_drift,
    summarise_drift,
)
from sana_wm_gym.metrics.matching import FrameMatch, match_frames
from sana_wm_gym.metrics.perceptual import ImageDistance, Unavailable, load_lpips
from sana_wm_gym.metrics.pose import (
    CAMERACTRL_SUM,
    CAMI2V_ABS,
    CAMI2V_REL,
    CONVENTIONS,
    MAXNORM_MEAN,
    PAPER_SE3,
    PAPER_SIM3,
    RELEASE,
    SCALE_ONLY,
    UNALIGNED,
    Convention,
    DegenerateTrajectoryError,
    InvalidPosesError,
    PoseScore,
    null_scores,
    score_poses,
)
from sana_wm_gym.metrics.revisit import (
    RevisitScore,
    RevisitSummary,
    score_revisits,
    summarise_revisits,
)
from sana_wm_gym.metrics.rollout import RolloutScore, score_rollout
from sana_wm_gym.metrics.vbench import overall_percent
from sana_wm_gym.metrics.video import psnr, ssim

__all__ = [
    "CAMERACTRL_SUM",
    "CAMI2V_ABS",
    "CAMI2V_REL",
    "CONVENTIONS",
    "MAXNORM_MEAN",
    "PAPER_SE3",
    "PAPER_SIM3",
    "PROXIES",
    "RELEASE",
    "SCALE_ONLY",
    "UNALIGNED",
    "AggregateScore",
    "Convention",
    "DegenerateTrajectoryError",
    "DriftScore",
    "DriftSummary",
    "FailedClip",
    "FrameMatch",
    "ImageDistance",
    "InvalidPosesError",
    "Mean",
    "MixedScoresError",
    "PoseScore",
    "Proxy",
    "RevisitScore",
    "RevisitSummary",
    "RolloutScore",
    "TrajectoryError",
    "Unavailable",
    "aggregate_clips",
    "load_lpips",
    "match_frames",
    "null_scores",
    "overall_percent",
    "psnr",
    "score_drift",
    "score_poses",
    "score_revisits",
    "score_rollout",
    "ssim",
    "summarise_drift",
    "summarise_revisits",
    "trajectory_error",
]
