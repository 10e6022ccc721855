"""Chunk plans partition a call; windows keep the chunks that they state."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow

windows = st.builds(MemoryWindow, st.none() | st.integers(1, 5), st.booleans())


@given(windows, st.integers(0, 12))
def test_a_window_keeps_the_sink_and_the_most_recent(window, count):
    kept = window.keep(count)
    assert list(kept) == sorted(set(kept))
    assert len(kept) == (count if window.chunks is None else min(count, window.chunks))
    recent = len(kept) - (1 if window.sink and count else 0)
    assert set(kept[len(kept) - recent :]) == set(range(count - recent, count))
    if window.sink and count:
        assert kept[0] == 0


@given(windows, st.integers(1, 12))
def test_what_is_dropped_stays_dropped(window, count):
    """Trimming after each chunk keeps what trimming once at the end would."""
    held: list[int] = []
    for chunk in range(count):
        held = [[*held, chunk][i] for i in window.keep(len(held) + 1)]
    assert held == list(window.keep(count))


@given(st.sets(st.integers(1, 20)), st.integers(1, 9))
def test_spans_cover_every_frame_once(starts, extra):
    plan = ChunkPlan((0, *sorted(starts)))
    frames = plan.starts[-1] + extra
    covered = [frame for start, end in plan.spans(frames) for frame in range(start, end)]
    assert covered == list(range(frames))
    assert plan.key_conv_spans(frames) == plan.spans(frames)
    other = ChunkPlan(plan.starts, (0,))
    assert other.key_conv_spans(frames) == ((0, frames),)


@pytest.mark.parametrize("starts", [(), (1,), (0, 3, 3), (0, 4, 2), (-1, 0)])
@pytest.mark.parametrize("name", ["starts", "key_conv_starts"])
def test_starts_that_do_not_rise_from_zero(name, starts):
    with pytest.raises(ValueError, match=f"{name}=.*expected rising frame indices from 0"):
        ChunkPlan(**{name: starts})


def test_a_call_shorter_than_its_plan():
    with pytest.raises(ValueError, match=r"chunk starts \(0, 4\) for 4 latent frames"):
        ChunkPlan((0, 4)).spans(4)


@pytest.mark.parametrize("chunks", [0, -1])
def test_an_empty_window(chunks):
    with pytest.raises(ValueError, match=f"window of {chunks} chunks; expected at least 1 or None"):
        MemoryWindow(chunks)
