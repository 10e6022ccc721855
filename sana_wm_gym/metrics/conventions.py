"""The published meanings of RotErr, TransErr and CamMC, each a value with a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from sana_wm_gym.metrics.alignment import (
    Alignment,
    align_none,
    align_own_extent,
    align_reference_extent,
    align_release,
    align_scale,
    align_se3,
    align_sim3,
)
from sana_wm_gym.metrics.pose_checks import PathPair


@dataclass(frozen=True)
class Convention:
    """One published meaning of RotErr, TransErr and CamMC.

    Attributes:
        name: Key in `CONVENTIONS`.
        align: Brings the estimate to the reference.
        reduction: Over frames.
        rotation_unit: Of `rot_err`.
        translation_unit: Of `trans_err`: `m` where the reference is in metres, or `extent`, the
            largest distance from frame 0.
        matches: Where these numbers are printed.
    """

    name: str
    align: Callable[[PathPair], Alignment]
    reduction: Literal["mean", "sum"]
    rotation_unit: Literal["deg", "rad"]
    translation_unit: Literal["m", "extent"]
    matches: str


RELEASE = Convention(
    "release",
    align_release,
    "mean",
    "deg",
    "m",
    "released SANA-WM evaluator: RotErr, TransErr_rel, CamMC_rel",
)
PAPER_SIM3 = Convention(
    "paper_sim3",
    align_sim3,
    "mean",
    "deg",
    "m",
    "text of the SANA-WM paper, App. D.3; ATE with scale",
)
PAPER_SE3 = Convention(
    "paper_se3",
    align_se3,
    "mean",
    "deg",
    "m",
    "ATE without scale, for metric estimators",
)
SCALE_ONLY = Convention(
    "scale_only",
    align_scale,
    "mean",
    "deg",
    "m",
    "frame 0 shared, one factor; close to WorldScore, which fits by least absolute deviation",
)
UNALIGNED = Convention(
    "unaligned",
    align_none,
    "mean",
    "deg",
    "m",
    "oracle poses and metric estimators",
)
CAMI2V_REL = Convention(
    "cami2v_rel",
    align_own_extent,
    "sum",
    "rad",
    "extent",
    "CamI2V code, relative outputs",
)
CAMI2V_ABS = Convention(
    "cami2v_abs",
    align_reference_extent,
    "sum",
    "rad",
    "extent",
    "CamI2V and RealCam-I2V code, _abs outputs",
)
MAXNORM_MEAN = Convention(
    "maxnorm_mean",
    align_own_extent,
    "mean",
    "deg",
    "extent",
    "furthest-frame normalisation per video, used by several later papers",
)
CAMERACTRL_SUM = Convention(
    "cameractrl_sum",
    align_none,
    "sum",
    "rad",
    "m",
    "CameraCtrl's equations as others quote them; no evaluator was released",
)

CONVENTIONS: Mapping[str, Convention] = MappingProxyType(
    {
        convention.name: convention
        for convention in (
            RELEASE, PAPER_SIM3, PAPER_SE3, SCALE_ONLY, UNALIGNED,
            CAMI2V_REL, CAMI2V_ABS, MAXNORM_MEAN, CAMERACTRL_SUM,
        )
    }
)  # fmt: skip
