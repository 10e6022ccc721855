"""From waypoints to a path: limits hold, scenes are respected, bad input is named."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.camera.se3 import geodesic_angle, rotation_x, rotation_y
from sana_wm_gym.camera.smoothness import smoothness
from sana_wm_gym.camera.synthesis import (
    MAX_SPEED,
    MAX_TURN,
    Template,
    Waypoint,
    near_points,
    synthesise,
)
from sana_wm_gym.camera.trajectory import check_rigid

START = Waypoint((0.0, 0.0, 0.0), 0.0, 0.0, 0.0)


def template(*waypoints: Waypoint) -> Template:
    return Template("made_up", "simple", (START, *waypoints))


def straight(length: float, seconds: float = 10.0) -> Template:
    return template(
        Waypoint((0.0, 0.0, length / 2), 0.0, 0.0, seconds / 2),
        Waypoint((0.0, 0.0, length), 0.0, 0.0, seconds),
    )


@st.composite
def templates(draw):
    """Wanders and turns, slowly enough in the end that the camera can follow."""
    waypoints, time, yaw, pitch = [START], 0.0, 0.0, 0.0
    for index in range(1, draw(st.integers(3, 7))):
        still = draw(st.booleans())
        place = waypoints[-1].position
        if not still:
            step = [draw(st.floats(-1, 1)) for _ in range(3)]
            step[index % 3] += math.copysign(0.5, step[index % 3])
            place = tuple(a + b for a, b in zip(place, step, strict=True))
        time += draw(st.floats(4, 10))
        yaw, pitch = yaw + draw(st.floats(-90, 90)), draw(st.floats(-40, 40))
        waypoints.append(Waypoint(place, yaw, pitch, time, still))
    waypoints.append(
        Waypoint(waypoints[-1].position, yaw, pitch, time + 60, True)  # time to catch up
    )
    return Template("drawn", "hard", tuple(waypoints))


@settings(max_examples=25)
@given(templates(), st.floats(0.5, 8))
def test_every_limit_holds(drawn, depth):
    frames = round(4 * drawn.seconds) + 1
    made = synthesise(drawn, frames, 4.0, median_depth=depth)
    assert made.c2w.shape == (frames, 4, 4)
    np.testing.assert_array_equal(made.c2w[0], np.eye(4))
    check_rigid(made.c2w, "c2w")
    assert made.smoothness.max_speed <= MAX_SPEED * (1 + 1e-9)
    assert made.smoothness.max_turn <= MAX_TURN * (1 + 1e-6)
    assert made.extent <= 0.6 * depth * (1 + 1e-9)
    assert 0 < made.scale <= 1
    assert made.residual_lag_deg <= 1
    end = drawn.waypoints[-1]
    last = rotation_y(math.radians(end.yaw_deg)) @ rotation_x(math.radians(end.pitch_deg))
    assert np.rad2deg(geodesic_angle(made.c2w[-1, :3, :3], last)) <= 1 + 1e-6
    np.testing.assert_allclose(
        made.c2w[-1, :3, 3], np.multiply(made.scale, end.position), atol=1e-9
    )


@settings(max_examples=5)
@given(templates())
def test_same_template_same_bits(drawn):
    first, second = (synthesise(drawn, frames=481, fps=4.0) for _ in range(2))
    np.testing.assert_array_equal(first.c2w, second.c2w)
    assert first.smoothness == second.smoothness


def test_a_straight_dolly_moves_evenly():
    made = synthesise(straight(2.0), frames=161)
    speed = np.linalg.norm(np.diff(made.c2w[:, :3, 3], axis=0), axis=1) * 16
    np.testing.assert_allclose(speed, 0.2, rtol=1e-6)
    assert made.scale == 1
    assert made.smoothness.max_turn == pytest.approx(0, abs=1e-6)
    assert made.smoothness.max_jerk < 1e-6
    assert made.path_length == pytest.approx(2.0)


def test_even_pace_again_changes_nothing():
    """Waypoints read off a synthesised path give that path."""
    bend = template(
        Waypoint((0.1, 0.0, 1.0), 10.0, 0.0, 10.0),
        Waypoint((0.5, 0.0, 1.8), 20.0, 0.0, 20.0),
        Waypoint((1.2, 0.0, 2.2), 30.0, 0.0, 30.0),
    )
    once = synthesise(bend, 481).c2w
    marks = range(0, 481, 32)
    rebuilt = Template(
        "again",
        "simple",
        tuple(
            Waypoint(
                tuple(once[k, :3, 3]),
                float(np.rad2deg(np.arctan2(once[k, 0, 2], once[k, 2, 2]))),
                0.0,
                k / 16,
            )
            for k in marks
        ),
    )
    twice = synthesise(rebuilt, 481).c2w
    assert np.linalg.norm(twice[:, :3, 3] - once[:, :3, 3], axis=1).max() < 5e-3
    assert np.rad2deg(geodesic_angle(twice[:, :3, :3], once[:, :3, :3])).max() < 0.2


def test_turns_on_the_spot_keep_their_time():
    turning = template(
        Waypoint((0.0, 0.0, 1.0), 0.0, 0.0, 5.0),
        Waypoint((0.0, 0.0, 1.0), 60.0, 0.0, 15.0, turn_on_spot=True),
        Waypoint((0.0, 0.0, 2.0), 60.0, 0.0, 20.0),
    )
    centres = synthesise(turning, 321).c2w[:, :3, 3]
    still = np.linalg.norm(np.diff(centres, axis=0), axis=1) < 1e-6
    assert still.sum() == pytest.approx(10 * 16, abs=21)  # ten passes eat ten frames of either end


def test_a_whip_pan_is_stretched_to_the_turn_limit():
    whip = template(
        Waypoint((0.0, 0.0, 0.0), 90.0, 0.0, 1.0, turn_on_spot=True),
        Waypoint((0.0, 0.0, 1.0), 90.0, 0.0, 20.0),
    )
    made = synthesise(whip, 321)
    turn = geodesic_angle(made.c2w[0, :3, :3], made.c2w[:, :3, :3])
    arrives = int(np.flatnonzero(np.rad2deg(turn) > 85)[0])
    assert 85 / MAX_TURN * 16 <= arrives < 9 * 16
    assert made.smoothness.max_turn == pytest.approx(MAX_TURN)


def test_a_last_turn_that_cannot_be_finished_is_an_error():
    late = template(
        Waypoint((0.0, 0.0, 1.0), 0.0, 0.0, 9.0),
        Waypoint((0.0, 0.0, 1.0), 90.0, 0.0, 10.0, turn_on_spot=True),
    )
    with pytest.raises(ValueError, match=r"made_up is 7\d\.\d degrees behind .* at most 1\.0"):
        synthesise(late, 161)


@pytest.mark.parametrize(
    ("length", "depth", "extent"),
    [(2.0, None, 2.0), (8.0, None, 4.0), (2.0, 2.0, 1.2), (2.0, 50.0, 2.0), (8.0, 5.0, 3.0)],
)
def test_size_is_the_smallest_of_design_speed_and_depth(length, depth, extent):
    made = synthesise(straight(length), 161, median_depth=depth)
    assert made.extent == pytest.approx(extent, rel=1e-6)
    assert made.collision_status is None


def wall(z: float) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 9))
    return np.stack([x, y, np.full_like(x, z)], axis=-1).reshape(-1, 3)


@pytest.mark.parametrize(
    ("z", "status", "retries", "extent"),
    [
        (2.5, "clear", 0, 2.0),
        (2.2, "clear_after_retry", 1, 1.4),
        (1.0, "clear_after_retry", 3, 0.686),
        (0.5, "colliding", 3, 0.686),
        (0.1, "colliding", 3, 0.686),
    ],
)
def test_collisions_make_the_path_smaller_at_most_three_times(z, status, retries, extent):
    made = synthesise(straight(2.0), 161, collides=near_points(wall(z)))
    assert (made.collision_status, made.retries) == (status, retries)
    assert made.extent == pytest.approx(extent)
    # Smaller in the same time is slower: a lower speed limit.
    assert made.smoothness.max_speed == pytest.approx(extent / 10, rel=1e-4)


def test_a_retry_lowers_the_speed_even_where_depth_binds():
    free = synthesise(straight(2.0), 161, median_depth=2.0)
    again = synthesise(
        straight(2.0), 161, median_depth=2.0, collides=near_points([[0.0, 0.0, 1.45]])
    )
    assert again.retries == 1
    assert again.smoothness.max_speed == pytest.approx(0.7 * free.smoothness.max_speed)


@pytest.mark.parametrize("cloud", [np.zeros((0, 3)), np.zeros((4, 2)), [[0.0, 0.0, np.nan]]])
def test_a_cloud_that_makes_no_sense_is_an_error(cloud):
    with pytest.raises(ValueError, match="points"):
        near_points(cloud)


@pytest.mark.parametrize(
    "arguments",
    [
        {"frames": 1},
        {"fps": 0.0},
        {"fps": math.nan},
        {"median_depth": 0.0},
        {"median_depth": math.inf},
    ],
)
def test_arguments_out_of_range_are_named(arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} .*expected"):
        synthesise(straight(1.0), **arguments)


@pytest.mark.parametrize(
    ("waypoint", "fault"),
    [
        (Waypoint((0.0, 0.0, 0.0), 10.0, 0.0, 1.0), "not marked"),
        (Waypoint((0.0, 0.0, 1.0), 10.0, 0.0, 1.0, turn_on_spot=True), "is marked"),
        (Waypoint((0.0, 0.0, 1.0), 10.0, 0.0, 0.0), "not later"),
        (Waypoint((0.0, 0.0, 1.0), 180.0, 0.0, 1.0), "180"),
        (Waypoint((0.0, 0.0, 1.0), 0.0, 90.0, 1.0), "90"),
        (Waypoint((0.0, math.nan, 1.0), 0.0, 0.0, 1.0), "not finite"),
        (Waypoint((0.0, 0.0, 1.0), 0.0, 0.0, math.inf), "not finite"),
    ],
)
def test_waypoints_that_make_no_sense_are_named(waypoint, fault):
    with pytest.raises(ValueError, match=f"made_up waypoint 1 .*{fault}"):
        template(waypoint)


def test_templates_start_at_the_first_frame():
    elsewhere = dataclasses.replace(START, yaw_deg=5.0)
    with pytest.raises(ValueError, match="expected the origin"):
        Template("t", "simple", (elsewhere, Waypoint((0.0, 0.0, 1.0), 0.0, 0.0, 1.0)))
    with pytest.raises(ValueError, match="waypoints of t is 1"):
        Template("t", "simple", (START,))


def test_smoothness_of_known_motion():
    t = np.arange(33) / 16
    c2w = np.tile(np.eye(4), (33, 1, 1))
    c2w[:, 2, 3] = t**3  # jerk 6 m/s^3
    c2w[:, :3, :3] = [rotation_y(math.radians(8 * s)) for s in t]
    measured = smoothness(c2w, 16.0)
    assert measured.max_jerk == pytest.approx(6)
    assert measured.mean_jerk == pytest.approx(6)
    assert measured.mean_turn == pytest.approx(8)
    assert measured.mean_speed == pytest.approx(4)
    assert measured.max_speed == pytest.approx((8 - (31 / 16) ** 3) * 16)
    assert smoothness(c2w[:2], 16.0).max_jerk == 0
    with pytest.raises(ValueError, match="n >= 2"):
        smoothness(c2w[:1], 16.0)
