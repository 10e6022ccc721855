"""What leaves the training distribution is named with both numbers, and nothing else is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sana_wm_gym.camera.controls import Controls, MotionLimits
from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.camera.trajectory import rollout
from sana_wm_gym.evaluation.outside_training import outside_training
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.procedural.walks import sample_walk


def path(**rates):
    values = {key: np.zeros(40) for key in ("forward", "right", "down", "yaw", "pitch", "roll")}
    return rollout(Controls(**{**values, **{k: np.full(40, v) for k, v in rates.items()}}))


@pytest.mark.parametrize("seed", range(4))
def test_training_walks_are_within_training(seed):
    walk = sample_walk(generate_scene(seed), np.random.default_rng(seed), 200)
    assert outside_training(walk) == ()


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({"forward": 0.06}, ["forward speed"]),
        ({"right": -0.06}, ["sideways speed"]),
        ({"down": 0.03}, ["height", "vertical speed"]),
        ({"down": -0.01}, ["height"]),
        ({"yaw": 0.03}, ["yaw speed"]),
        ({"pitch": 0.012}, ["pitch"]),
        ({"pitch": 0.02}, ["pitch", "pitch speed"]),
        ({"roll": 0.01}, ["roll"]),
        ({"roll": 0.0004}, []),
        ({"forward": 0.04}, []),
        ({"forward": 0.05, "right": 0.05, "yaw": 0.02}, []),
        ({"yaw": -0.02}, []),
    ],
)
def test_what_leaves_training_is_named(rates, expected):
    assert [flag.what for flag in outside_training(path(**rates))] == expected


@pytest.mark.parametrize("turn", [0.0, 0.7, -2.5])
def test_values_are_those_of_the_command_wherever_it_begins(turn):
    start = np.eye(4)
    start[:3, :3] = rotation_y(turn)
    (flag,) = outside_training(start @ path(right=-0.06))
    assert (flag.what, flag.unit, flag.limit) == ("sideways speed", "m/frame", 0.05)
    assert flag.value == pytest.approx(0.06)
    (flag,) = outside_training(start @ path(yaw=math.radians(2)))
    assert flag.value == pytest.approx(2) and flag.limit == pytest.approx(1.5)


def test_limits_are_those_of_the_world():
    slow = MotionLimits(forward=0.01)
    assert [flag.what for flag in outside_training(path(forward=0.02), slow)] == ["forward speed"]
    assert outside_training(path(forward=0.02)) == ()
    assert outside_training(np.eye(4)[None]) == (), "a single pose has no speed"
