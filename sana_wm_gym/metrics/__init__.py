"""Arrays in, numbers out: pose error, image error, and poses estimated from pixels."""

from sana_wm_gym.metrics.matching import FrameMatch, match_frames
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
from sana_wm_gym.metrics.rollout import RolloutScore, score_rollout
from sana_wm_gym.metrics.video import psnr, ssim

__all__ = [
    "CAMERACTRL_SUM",
    "CAMI2V_ABS",
    "CAMI2V_REL",
    "CONVENTIONS",
    "MAXNORM_MEAN",
    "PAPER_SE3",
    "PAPER_SIM3",
    "RELEASE",
    "SCALE_ONLY",
    "UNALIGNED",
    "Convention",
    "DegenerateTrajectoryError",
    "FrameMatch",
    "InvalidPosesError",
    "PoseScore",
    "RolloutScore",
    "match_frames",
    "null_scores",
    "psnr",
    "score_poses",
    "score_rollout",
    "ssim",
]
