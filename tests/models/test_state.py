"""States are plain values: they stack, split, and travel by name without loss."""

from __future__ import annotations

import pytest
import torch

from sana_wm_gym import values
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import (
    GeneratorState,
    detach,
    map_tensors,
    named_tensors,
    row,
    shapes,
    stack,
)


@pytest.fixture(scope="module", params=["with cameras", "without"])
def state(request, build, draw):
    """After two chunks, so that softmax blocks remember two of them."""
    model, (latents, timestep, conditioning) = build(), draw(6)
    if request.param == "without":
        conditioning = type(conditioning)(None, None, conditioning.text, None)
    plan = ChunkPlan((0, 3), window=MemoryWindow(2))
    with torch.inference_mode():
        return model(latents, timestep, conditioning, plan, None)[1]


def same(a, b) -> bool:
    a, b = named_tensors(a), named_tensors(b)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_names_round_trip(state):
    packed = values.pack(state)
    assert same(values.unpack(GeneratorState, packed), state)
    assert same(values.unpack(GeneratorState, dict(reversed(packed.items()))), state)
    assert packed.keys() == named_tensors(state).keys()


def test_stack_and_row_are_inverse(state):
    rows = [row(state, i) for i in range(2)]
    assert same(stack(rows), state)
    assert same(row(stack([rows[1], rows[0], rows[1]]), 2), rows[1])
    assert shapes(rows[0]) == shapes(state)


def test_a_row_is_a_copy(state):
    one = row(state, 0)
    pointers = {tensor.data_ptr() for tensor in named_tensors(state).values()}
    assert not pointers & {tensor.data_ptr() for tensor in named_tensors(one).values()}


def test_states_of_other_shapes_do_not_stack(state, build, draw):
    latents, timestep, conditioning = draw(3)
    plan = ChunkPlan(window=MemoryWindow(2))
    if state.blocks[0].attention.camera is None:
        conditioning = type(conditioning)(None, None, conditioning.text)
    _, shorter = build()(latents, timestep, conditioning, plan, None)
    assert shapes(shorter) != shapes(state)
    with pytest.raises(ValueError, match="unequal numbers of remembered chunks"):
        stack([shorter, state])


def test_states_with_and_without_cameras_do_not_stack(build, draw):
    latents, timestep, conditioning = draw(3)
    blind = type(conditioning)(None, None, conditioning.text)
    states = [build()(latents, timestep, c, ChunkPlan(), None)[1] for c in (conditioning, blind)]
    with pytest.raises(ValueError, match="with and without cameras"):
        stack(states)


def test_detach_keeps_values(build, draw):
    _, attached = build()(*draw(2), ChunkPlan(), None)
    assert any(tensor.requires_grad for tensor in named_tensors(attached).values())
    loose = detach(attached)
    assert not any(tensor.requires_grad for tensor in named_tensors(loose).values())
    assert same(loose, attached)


def test_map_leaves_none_alone(state):
    doubled = map_tensors(lambda part: 2 * part, state)
    assert torch.equal(doubled.frames, 2 * state.frames)
    assert (doubled.blocks[0].attention.camera is None) == (
        state.blocks[0].attention.camera is None
    )


@pytest.mark.parametrize("name", ["frames", "blocks.1.ffn_tail", "blocks.0.attention.numerator"])
def test_a_missing_part_is_named(state, name):
    packed = values.pack(state)
    del packed[name]
    with pytest.raises(ValueError, match=f"no array '{name}'"):
        values.unpack(GeneratorState, packed)
