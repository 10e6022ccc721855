"""Chunk plans cover a clip once; noise tables equal the reference and fall to zero."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.parity_checks import schedules
from benchmarks.parity_checks.check import Check
from sana_wm_gym.world.learned import schedule

GOLDEN = Path(__file__).parents[2] / "data" / "golden" / "schedules.json"

frames_and_chunk = st.tuples(st.integers(1, 200), st.integers(1, 7))
plans = pytest.mark.parametrize(
    "plan", [schedule.first_chunk_plus_one, schedule.first_takes_remainder, schedule.uniform]
)


@plans
@given(frames_and_chunk)
def test_plan_covers_every_frame_once(plan, sizes):
    frames, chunk = sizes
    boundaries = plan(frames, chunk)
    assert boundaries[0] == 0 and boundaries[-1] == frames
    assert all(start < end for start, end in pairwise(boundaries))


@given(frames_and_chunk)
def test_remainder_goes_last_or_first(sizes):
    frames, chunk = sizes
    causal = schedule.first_chunk_plus_one(frames, chunk)
    streaming = schedule.first_takes_remainder(frames, chunk)
    assert all(end - start == chunk for start, end in pairwise(streaming[1:]))
    assert all(end - start == chunk for start, end in pairwise(causal[1:-1]))
    if len(causal) > 2:
        assert causal[1] == chunk + 1
        assert chunk <= causal[-1] - causal[-2] < 2 * chunk


@given(st.integers(1, 60))
def test_both_plans_agree_on_whole_chunks(chunks):
    """With 3m + 1 frames the released generator and its streaming form cut alike."""
    frames = 3 * chunks + 1
    assert schedule.first_chunk_plus_one(frames) == schedule.first_takes_remainder(frames)


@plans
@pytest.mark.parametrize(("frames", "chunk"), [(0, 3), (5, 0), (-1, 3)])
def test_plan_rejects_empty(plan, frames, chunk):
    with pytest.raises(ValueError, match="expected an integer >= 1"):
        plan(frames, chunk)


def test_tables_equal_the_reference():
    outcomes = list(schedules.check(GOLDEN))
    assert [o.name for o in outcomes if not isinstance(o, Check)] == []
    assert len(outcomes) > 90
    assert [c for c in outcomes if not c.passed] == []


def test_default_schedule_is_the_released_one():
    reference = json.loads(GOLDEN.read_text())["self_forcing"][0]
    released = schedule.SELF_FORCING_4
    assert list(released.sigmas) == reference["sigmas"]
    assert released.network_timesteps == (1000, 960, 889, 727)


# The shifted end of this schedule is one rounding step above 1 in float32.
@example(1, 1.8663979315319237)
@given(st.integers(1, 120), st.floats(1.0, 20.0))
def test_shifted_table_falls_from_one_to_zero_level_by_level(steps, shift):
    table = schedule.flow_euler_ltx(steps, shift)
    assert table.steps == steps
    assert math.isclose(table.sigmas[0], 1.0, rel_tol=1e-6)
    assert table.sigmas[-1] == 0.0
    for level, expected in pairwise(table.sigmas):
        assert table.next_sigma(level) == expected
    assert table.next_sigma(0.0) == 0.0


def test_next_level_of_a_stray_sigma():
    assert schedule.refiner().next_sigma(0.8) == 0.725
    assert schedule.refiner().next_sigma(0.725 + 1e-7) == 0.421875


@pytest.mark.parametrize(
    "timesteps", [(), (1000,), (1000, 500), (500, 1000, 0), (1500, 0), (math.nan, 0), (500, 500, 0)]
)
def test_self_forcing_rejects(timesteps):
    with pytest.raises(ValueError, match="expected"):
        schedule.self_forcing(timesteps)


@pytest.mark.parametrize(("steps", "shift"), [(0, 8.0), (4, 0.0), (4, math.inf), (4, math.nan)])
def test_shifted_rejects(steps, shift):
    with pytest.raises(ValueError, match="expected"):
        schedule.flow_euler_ltx(steps, shift)


@given(st.integers(1, 60), st.integers(1, 20))
def test_staggered_chunks_each_walk_the_whole_table(frames, steps):
    staggered = schedule.chunk_flow_euler(frames, steps=steps)
    chunks = len(staggered.plan) - 1
    walked = [[] for _ in range(chunks)]
    for step in range(staggered.global_steps):
        assert staggered.active_frames(step) == staggered.plan[len(staggered.chunk_timesteps(step))]
        for chunk, timestep in enumerate(staggered.chunk_timesteps(step)):
            walked[chunk].append(timestep)
    for timesteps in walked:
        assert tuple(t for t in timesteps if t > 0) == staggered.noise.timesteps
        assert timesteps == sorted(timesteps, reverse=True)


@given(st.integers(2, 60), st.integers(1, 20), st.data())
def test_staggered_levels_per_frame(frames, steps, data):
    staggered = schedule.chunk_flow_euler(frames, steps=steps)
    step = data.draw(st.integers(0, staggered.global_steps - 1))
    levels, timesteps = staggered.sigmas(step), staggered.timesteps(step)
    assert len(levels) == len(timesteps) == staggered.active_frames(step)
    assert levels[0] == timesteps[0] == 0.0
    for chunk, timestep in enumerate(staggered.chunk_timesteps(step)):
        inside = slice(max(1, staggered.plan[chunk]), staggered.plan[chunk + 1])
        assert set(timesteps[inside]) <= {timestep}
    for sigma, timestep in zip(levels, timesteps, strict=True):
        assert math.isclose(1000 * sigma, timestep, rel_tol=1e-6)


def test_other_refusals():
    with pytest.raises(ValueError, match="expected 2 timesteps, got 1"):
        schedule.NoiseSchedule((1.0, 0.5, 0.0), (1000.0,))
    with pytest.raises(ValueError, match=r"interval is -0.1, expected .* in \[0, inf"):
        schedule.chunk_flow_euler(10, interval=-0.1)
    with pytest.raises(ValueError, match=r"global step is 118, expected an integer in \[0, 117\]"):
        schedule.chunk_flow_euler(121).active_frames(118)
