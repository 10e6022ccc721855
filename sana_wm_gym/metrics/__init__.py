"""Arrays in, numbers out: pose error, image error, drift and revisits."""

from sana_wm_gym.metrics.action_following import (
    action_following,
    forward_backward_error,
    worldscore_camera_error,
)
from sana_wm_gym.metrics.command_agreement import CommandAgreement, mean_agreement
from sana_wm_gym.metrics.conventions import (
    CONVENTIONS,
    PAPER_SIM3,
    RELEASE,
    SCALE_ONLY,
    UNALIGNED,
    Convention,
)
from sana_wm_gym.metrics.drift import (
    PROXIES,
    DriftScore,
    score_drift,
    summarise_drift,
)
from sana_wm_gym.metrics.image import mean_squared_error, psnr, psnr_from_mse, ssim
from sana_wm_gym.metrics.matching import match_frames
from sana_wm_gym.metrics.perceptual import Unavailable, load_lpips
from sana_wm_gym.metrics.pose import PoseScore, null_scores, score_or_code, score_poses
from sana_wm_gym.metrics.pose_checks import DegenerateTrajectoryError, InvalidPosesError
from sana_wm_gym.metrics.relative_pose import pose_auc, trajectory_error
from sana_wm_gym.metrics.revisit import (
    RevisitScore,
    score_revisits,
    summarise_revisits,
)
from sana_wm_gym.metrics.vbench import overall_percent

__all__ = [
    "CONVENTIONS",
    "PAPER_SIM3",
    "PROXIES",
    "RELEASE",
    "SCALE_ONLY",
    "UNALIGNED",
    "CommandAgreement",
    "Convention",
    "DegenerateTrajectoryError",
    "DriftScore",
    "InvalidPosesError",
    "PoseScore",
    "RevisitScore",
    "Unavailable",
    "action_following",
    "forward_backward_error",
    "load_lpips",
    "match_frames",
    "mean_agreement",
    "mean_squared_error",
    "null_scores",
    "overall_percent",
    "pose_auc",
    "psnr",
    "psnr_from_mse",
    "score_drift",
    "score_or_code",
    "score_poses",
    "score_revisits",
    "ssim",
    "summarise_drift",
    "summarise_revisits",
    "trajectory_error",
    "worldscore_camera_error",
]
