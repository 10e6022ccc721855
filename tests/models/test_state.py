"""States are plain values: they stack, split, and travel by name without loss."""

from __future__ import annotations

from dataclasses import replace

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

BLIND = {"ray_from_world": None, "plucker": None, "text_mask": None}


@pytest.fixture(scope="module")
def after(build, draw):
    """The state after a call, with or without cameras."""

    def make(frames, plan, cameras=True):
        latents, timestep, conditioning = draw(frames)
        conditioning = replace(conditioning, **({} if cameras else BLIND))
        return build()(latents, timestep, conditioning, plan, None)[1]

    return make


@pytest.fixture(scope="module", params=["with cameras", "without"])
def state(request, after):
    """After two chunks, so that softmax blocks remember two of them."""
    with torch.inference_mode():
        plan = ChunkPlan((0, 3), window=MemoryWindow(2))
        return after(6, plan, request.param == "with cameras")


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


def test_states_of_other_shapes_do_not_stack(state, after):
    cameras = state.blocks[0].attention.camera is not None
    shorter = after(3, ChunkPlan(window=MemoryWindow(2)), cameras)
    assert shapes(shorter) != shapes(state)
    with pytest.raises(ValueError, match="unequal numbers of remembered chunks"):
        stack([shorter, state])


def test_states_with_and_without_cameras_do_not_stack(after):
    with pytest.raises(ValueError, match="with and without cameras"):
        stack([after(3, ChunkPlan(), cameras) for cameras in (True, False)])


def test_detach_keeps_values(after):
    attached = after(2, ChunkPlan())
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
