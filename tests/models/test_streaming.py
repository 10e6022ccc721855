"""Streaming with a handed-on state is one chunk-causal call; what comes later changes nothing."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import KeyValueMemory, map_tensors, named_tensors, row, shapes
from sana_wm_gym.models.transformer import Conditioning

ALL = MemoryWindow(chunks=None)
WINDOWS = {
    "all history": ALL,
    "sink and window 2": MemoryWindow(2, sink=True),
    "sink alone": MemoryWindow(1, sink=True),
    "window 2": MemoryWindow(2, sink=False),
    "sink and window 3": MemoryWindow(3, sink=True),
}
STARTS = {
    "first plus one": (0, 4, 7, 10),
    "uniform": (0, 3, 6, 9),
    "single frames": (0, 1, 2, 6, 7),
}
FRAMES = 11


@pytest.fixture(autouse=True)
def _no_gradients():
    with torch.inference_mode():
        yield


def cut(conditioning: Conditioning, start: int, end: int) -> Conditioning:
    return replace(
        conditioning,
        ray_from_world=conditioning.ray_from_world[:, start:end],
        plucker=conditioning.plucker[:, :, start:end],
    )


def run(model, inputs, starts, window, calls):
    """All frames in `calls` groups of consecutive chunks; returns the flow and the last state."""
    latents, timestep, conditioning = inputs
    bounds = (*starts, latents.shape[2])
    flows, state = [], None
    for first, last in calls:
        start, end = bounds[first], bounds[last]
        plan = ChunkPlan(tuple(s - start for s in starts[first:last]), window=window)
        flow, state = model(
            latents[:, :, start:end],
            timestep[:, start:end],
            cut(conditioning, start, end),
            plan,
            state,
        )
        flows.append(flow)
    return torch.cat(flows, 2), state


def close(given, expected, rtol=1e-4, atol=1e-5):
    torch.testing.assert_close(given, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("window", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("starts", STARTS.values(), ids=STARTS)
def test_streaming_equals_one_chunk_causal_call(build, draw, starts, window):
    model, inputs, last = build(), draw(FRAMES), len(starts)
    whole, state = run(model, inputs, starts, window, [(0, last)])
    for middle in (
        [(i, i + 1) for i in range(last)],
        [(0, 2), (2, last)],
        [(0, 1), (1, last - 1), (last - 1, last)],
    ):
        flow, after = run(model, inputs, starts, window, middle)
        close(flow, whole)
        close(named_tensors(after), named_tensors(state))


def test_windows_and_chunks_are_read(build, draw):
    """The law above compares different numbers: window, chunks and past all matter."""
    model, inputs = build(), draw(FRAMES)
    starts = STARTS["first plus one"]
    whole = [(0, 4)]
    # With four chunks in all, a window of three leaves nothing out.
    windows = [window for window in WINDOWS.values() if window.chunks != 3]
    flows = [run(model, inputs, starts, window, whole)[0] for window in windows]
    flows.append(run(model, inputs, (0,), ALL, [(0, 1)])[0])
    for i, flow in enumerate(flows):
        for other in flows[:i]:
            assert (flow - other).abs().max() > 1e-4


@pytest.mark.parametrize("chunk", range(4))
def test_a_later_chunk_changes_no_earlier_one(build, draw, chunk):
    model, starts = build(), (*STARTS["first plus one"], FRAMES)
    inputs, others = draw(FRAMES), draw(FRAMES, seed=1)
    end = starts[chunk + 1]

    def spliced(a, b, axis):
        return torch.cat([a.narrow(axis, 0, end), b.narrow(axis, end, FRAMES - end)], axis)

    latents, timestep, conditioning = inputs
    rays, plucker = (
        spliced(getattr(conditioning, name), getattr(others[2], name), axis)
        for name, axis in (("ray_from_world", 1), ("plucker", 2))
    )
    changed = (
        spliced(latents, others[0], 2),
        spliced(timestep, others[1], 1),
        replace(conditioning, ray_from_world=rays, plucker=plucker),
    )
    before, _ = run(model, inputs, starts[:-1], ALL, [(0, 4)])
    after, _ = run(model, changed, starts[:-1], ALL, [(0, 4)])
    close(before[:, :, :end], after[:, :, :end], rtol=1e-5, atol=1e-6)
    if end < FRAMES:
        assert (before[:, :, end:] - after[:, :, end:]).abs().max() > 1e-3
        # Within a chunk everything attends to everything: its last frame changes its first.
        last = end - 1
        latents = latents.clone()
        latents[:, :, last] += 1
        moved, _ = run(model, (latents, timestep, conditioning), starts[:-1], ALL, [(0, 4)])
        assert (moved[:, :, starts[chunk]] - before[:, :, starts[chunk]]).abs().max() > 1e-4


def test_one_chunk_is_the_bidirectional_generator(build, draw):
    """The default plan is one chunk; every frame changes every other."""
    model, (latents, timestep, conditioning) = build(), draw(5)
    flow, _ = model(latents, timestep, conditioning, ChunkPlan(), None)
    explicit = ChunkPlan((0,), (0,), MemoryWindow(1, sink=False))
    assert torch.equal(flow, model(latents, timestep, conditioning, explicit, None)[0])
    for frame in range(5):
        moved = latents.clone()
        moved[:, :, frame] += 1
        other, _ = model(moved, timestep, conditioning, ChunkPlan(), None)
        assert ((other - flow).abs().amax((0, 1, 3, 4)) > 1e-4).all()


def test_a_given_state_is_never_written(build, draw):
    model, starts = build(), (0, 4)
    _, state = run(model, draw(7), starts, MemoryWindow(2), [(0, 2)])
    kept = deepcopy(named_tensors(state))
    inputs, plan = draw(3, seed=1), ChunkPlan(window=MemoryWindow(2))
    first, after = model(*inputs, plan, state)
    again, _ = model(*inputs, plan, state)
    assert all(torch.equal(tensor, kept[name]) for name, tensor in named_tensors(state).items())
    assert torch.equal(first, again)
    assert not torch.equal(after.blocks[0].attention.numerator, state.blocks[0].attention.numerator)


@pytest.mark.parametrize("window", [MemoryWindow(2), MemoryWindow(2, sink=False)], ids=str)
def test_memory_is_constant_once_the_window_is_full(build, draw, window):
    model, state = build(), None
    sizes = []
    for chunk in range(6):
        inputs = draw(3, seed=chunk)
        _, state = model(*inputs, ChunkPlan(window=window), state)
        sizes.append(shapes(state))
    assert sizes[0] != sizes[1]
    assert sizes[1] == sizes[2] == sizes[5]
    remembered = [b.attention for b in state.blocks if isinstance(b.attention, KeyValueMemory)]
    assert [len(memory.chunks) for memory in remembered] == [2, 2]
    assert state.frames.tolist() == [18, 18]


def test_positions_are_those_of_the_whole_rollout(build, draw):
    """A state that has seen more frames gives another flow: time is absolute, not per call."""
    model, inputs = build(), draw(3)
    _, state = model(*inputs, ChunkPlan(), None)
    flow, _ = model(*inputs, ChunkPlan(), state)
    moved, after = model(*inputs, ChunkPlan(), replace(state, frames=state.frames + 5))
    assert (flow - moved).abs().max() > 1e-4
    assert after.frames.tolist() == [11, 11]


def test_worlds_of_a_batch_are_independent(build, draw):
    """A world of a batch at another frame equals the world alone."""
    model, (latents, timestep, conditioning) = build(), draw(3)
    _, state = model(latents, timestep, conditioning, ChunkPlan(), None)
    state = replace(state, frames=torch.tensor([3, 8]))
    both, _ = model(latents, timestep, conditioning, ChunkPlan(), state)
    for i in range(2):
        one = slice(i, i + 1)
        mine = map_tensors(lambda part, one=one: part[one], conditioning)
        alone, _ = model(latents[one], timestep[one], mine, ChunkPlan(), row(state, i))
        close(both[one], alone)
