"""The one loop along camera paths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from camera_paths import poses_ahead
from stepping import frames_of

from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.rollout import camera_path, rollout, rollout_frames, rollout_from

WORLD = ProceduralWorld(size=(8, 12), frames_per_chunk=6)
STARTS = [WORLD.sample_start(np.random.default_rng(seed)) for seed in range(2)]


def paths(frames: int) -> list:
    return [camera_path(start, poses_ahead(range(frames + 1))) for start in STARTS]


def test_states_after_begin_and_after_every_chunk() -> None:
    given = paths(12)
    states = list(rollout(WORLD, STARTS, [0, 1], given))
    assert [[state.chunk for state in each] for each in states] == [[0, 0], [1, 1], [2, 2]]
    for state, path in zip(states[2], given, strict=True):
        assert np.array_equal(state.c2w, path.c2w[7:])
    [again] = rollout_from(WORLD, states[1], [path[6:] for path in given])
    assert all(np.array_equal(a.c2w, b.c2w) for a, b in zip(again, states[2], strict=True))
    ticks: list[int] = []
    frames = rollout_frames(WORLD, STARTS, [0, 1], given, ticks.append)
    assert frames.shape == (2, 13, 8, 12, 3) and ticks == [2, 2]
    assert np.array_equal(frames[1, 7:], frames_of(WORLD, states[2][1]))


def test_nothing_begins_that_does_not_fit() -> None:
    good = paths(6)
    for starts, seeds, given, message in (
        (STARTS, [0], good, "2 starts, 1 seeds and 2 paths"),
        (STARTS, [0, 1], paths(7), r"paths of \[8\] poses; expected 1 \+ 6 k"),
        (STARTS, [0, 1], [good[0], paths(12)[0]], r"paths of \[7, 13\] poses"),
        (STARTS, [0, 1], [good[0], replace(good[1], width=13)], "a path for 8 x 13 frames"),
    ):
        with pytest.raises(ValueError, match=message):
            rollout(WORLD, starts, seeds, given)
