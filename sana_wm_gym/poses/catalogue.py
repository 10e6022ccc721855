"""Estimators by name, as commands take them."""

from __future__ import annotations

from collections.abc import Mapping

from sana_wm_gym.poses.colmap_sift import ColmapSift
from sana_wm_gym.poses.lk_bundle_adjustment import LKBundleAdjustment
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.poses.rotation_only import RotationOnly

ESTIMATORS: Mapping[str, PoseEstimator] = {
    "lk_bundle_adjustment": LKBundleAdjustment(),
    "lk_bundle_adjustment_2": LKBundleAdjustment(version=2),
    "rotation_only": RotationOnly(),
    "colmap_sift": ColmapSift(),
}
"""Those that need no weights, the default first; names that end in a number are older versions."""
