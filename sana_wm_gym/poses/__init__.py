"""Camera paths from pixels."""

from sana_wm_gym.poses.catalogue import ESTIMATORS
from sana_wm_gym.poses.colmap_sift import ColmapSift
from sana_wm_gym.poses.floors import Floor, floor_of
from sana_wm_gym.poses.lk_bundle_adjustment import LKBundleAdjustment
from sana_wm_gym.poses.networks import NetworkEstimator, load_pi3x, load_vggt
from sana_wm_gym.poses.protocol import (
    EstimatorInfo,
    OracleEstimator,
    PoseEstimate,
    PoseEstimator,
)
from sana_wm_gym.poses.rotation_only import RotationOnly

__all__ = [
    "ESTIMATORS",
    "ColmapSift",
    "EstimatorInfo",
    "Floor",
    "LKBundleAdjustment",
    "NetworkEstimator",
    "OracleEstimator",
    "PoseEstimate",
    "PoseEstimator",
    "RotationOnly",
    "floor_of",
    "load_pi3x",
    "load_vggt",
]
