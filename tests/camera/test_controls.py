"""Continuous actions and the canonical controls."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sana_wm_gym.camera import Controls, MotionLimits, twist_to_controls
from sana_wm_gym.camera.controls import TWIST_NAMES

LIMITS = MotionLimits(forward=0.1, right=0.2, down=0.3, yaw=0.04, pitch=0.05, pitch_limit=1.0)


@pytest.mark.parametrize("index", range(5))
def test_full_deflection_is_the_limit_and_one_axis_only(index: int) -> None:
    action = np.zeros(5)
    action[index] = -1.0
    controls = twist_to_controls(action, LIMITS, frames=3)
    for name in (*TWIST_NAMES, "roll"):
        expected = -getattr(LIMITS, name) if name == TWIST_NAMES[index] else 0.0
        assert (getattr(controls, name) == expected).all()
    assert len(controls) == 3


@pytest.mark.parametrize(
    ("action", "message"),
    [
        ([0.0, 0.0, 0.0, 0.0], r"shape \(4,\), expected \(5,\)"),
        (np.zeros((1, 5)), r"shape \(1, 5\), expected \(5,\)"),
        ([0.0, math.nan, 0.0, 0.0, 0.0], r"pitch is nan, expected .* \[-1, 1\]"),
        ([0.0, 0.0, 0.0, 0.0, math.inf], r"forward is inf, expected .* \[-1, 1\]"),
        ([-1.01, 0.0, 0.0, 0.0, 0.0], r"yaw is -1.01, expected .* \[-1, 1\]"),
    ],
)
def test_bad_twists_are_refused(action: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        twist_to_controls(action, LIMITS, frames=24)


def test_controls_are_values() -> None:
    forward = np.ones(2)
    controls = Controls(forward, *(np.zeros(2) for _ in range(5)))
    forward[0] = 7.0
    assert controls.forward[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        controls.forward[0] = 7.0


def test_bad_controls_are_refused() -> None:
    zero = np.zeros(2)
    with pytest.raises(ValueError, match="yaw is nan at frame 1"):
        Controls(zero, zero, zero, np.array([0.0, math.nan]), zero, zero)
    with pytest.raises(ValueError, match="differ in length"):
        Controls(zero, zero, zero, np.zeros(3), zero, zero)
    with pytest.raises(ValueError, match="shape"):
        Controls(zero, zero, zero, np.zeros((2, 1)), zero, zero)


@pytest.mark.parametrize("bad", [-0.1, math.nan, math.inf])
def test_bad_limits_are_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="MotionLimits.yaw"):
        MotionLimits(yaw=bad)
    with pytest.raises(ValueError, match="MotionLimits.pitch_limit"):
        MotionLimits(pitch_limit=bad)
