"""The twenty templates are what their split specifies, and all can be made."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from sana_wm_gym.camera.revisits import find_revisits
from sana_wm_gym.camera.synthesis import SynthesisedTrajectory, Template, synthesise
from sana_wm_gym.camera.templates import HARD, SIMPLE

ALL = SIMPLE + HARD
by_name = pytest.mark.parametrize("template", ALL, ids=lambda t: t.name)


@cache
def made(template: Template) -> SynthesisedTrajectory:
    return synthesise(template)


def pitch_deg(c2w):
    return np.rad2deg(np.arcsin(np.clip(-c2w[:, 1, 2], -1, 1)))


def returns(template: Template) -> tuple[tuple[int, int], ...]:
    """Waypoints (earlier, later) that look from the same place in the same direction."""
    views = [
        np.round([*w.position, (w.yaw_deg + 180) % 360, w.pitch_deg], 9) for w in template.waypoints
    ]
    return tuple(
        (a, b) for b in range(len(views)) for a in range(b - 1) if (views[a] == views[b]).all()
    )


def test_ten_of_each_under_twenty_names():
    assert [len(SIMPLE), len(HARD)] == [10, 10]
    assert len({t.name for t in ALL}) == 20
    assert {t.split for t in SIMPLE} == {"simple"}
    assert {t.split for t in HARD} == {"hard"}


@by_name
def test_a_minute_at_design_size_whose_waypoints_are_met_in_time(template):
    assert 11 <= len(template.waypoints) <= 15
    assert template.seconds == pytest.approx(60, abs=0.01)
    trajectory = made(template)
    assert trajectory.c2w.shape == (961, 4, 4)
    assert trajectory.scale == 1
    assert 0.4 < trajectory.extent < 6
    assert trajectory.smoothness.max_turn <= 12 + 1e-6
    assert trajectory.residual_lag_deg < 0.1
    for waypoint in template.waypoints:
        centre = trajectory.c2w[round(waypoint.time * 16), :3, 3]
        assert np.linalg.norm(centre - waypoint.position) < 0.2, waypoint
    small = synthesise(template, frames=241, fps=4.0, median_depth=2.0)
    assert small.extent <= 1.2 * (1 + 1e-9)
    assert small.smoothness.max_speed <= 0.4


@by_name
def test_a_declared_return_is_a_revisit(template):
    pairs = find_revisits(made(template).c2w, 16.0)
    for a, b in returns(template):
        first, second = (template.waypoints[i].time for i in (a, b))
        if second - first > 8:
            assert any(
                abs(pair.frame_a / 16 - first) < 4 and abs(pair.frame_b / 16 - second) < 4
                for pair in pairs
            ), (a, b)


def test_returns_are_where_they_should_be():
    named = {t.name: returns(t) for t in ALL}
    assert (0, 12) in named["backtrack"]
    assert (0, 12) in named["room_loop"]  # heading 0 and 360 are one view
    assert named["arc"] == ()
    assert (0, 7) in named["double_loop"] or (0, 14) in named["double_loop"]


@pytest.mark.parametrize("template", SIMPLE, ids=lambda t: t.name)
def test_simple_is_planar_and_level(template):
    c2w = made(template).c2w
    assert np.abs(c2w[:, 1, 3]).max() < 1e-12
    assert np.abs(pitch_deg(c2w)).max() < 1e-6
    assert made(template).smoothness.mean_turn <= 6.5


@pytest.mark.parametrize("template", HARD, ids=lambda t: t.name)
def test_hard_climbs_and_looks_up_or_down(template):
    c2w = made(template).c2w
    assert np.ptp(c2w[:, 1, 3]) > 0.15
    assert 20 < np.abs(pitch_deg(c2w)).max() < 45


def test_hard_turns_more_than_simple():
    simple, hard = (
        np.mean([made(t).smoothness.mean_turn for t in split]) for split in (SIMPLE, HARD)
    )
    assert hard > 1.5 * simple
