"""Camera paths from pixels."""

from sana_wm_gym.metrics.estimators.lk_bundle_adjustment import LKBundleAdjustment
from sana_wm_gym.metrics.estimators.protocol import (
    EstimatorInfo,
    OracleEstimator,
    PoseEstimate,
    PoseEstimator,
)

__all__ = [
    "EstimatorInfo",
    "LKBundleAdjustment",
    "OracleEstimator",
    "PoseEstimate",
    "PoseEstimator",
]
