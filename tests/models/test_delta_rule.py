"""The fast delta rule equals its definition, and the definition keeps the rule's laws."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sana_wm_gym.models.delta_rule import DeltaRule, delta_rule_naive, off_zero, update

delta_rule = DeltaRule()


@dataclass(frozen=True)
class Case:
    query: Tensor
    key: Tensor
    value: Tensor
    beta: Tensor
    decay: Tensor
    spans: tuple[tuple[int, int], ...]
    memory: Tensor | None

    @property
    def arguments(self):
        return tuple(vars(self).values())


@st.composite
def cases(draw) -> Case:
    """Sizes, chunks and numbers of one call, in float64."""
    size = st.integers(1, 4)
    batch, heads, tokens, width, values = (draw(size) for _ in range(5))
    frames = draw(st.integers(1, 7))
    starts = [0, *sorted(draw(st.sets(st.integers(1, frames), max_size=4)) - {frames})]
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    key = normal(batch, heads, frames, tokens, width) * (width * tokens) ** -0.5
    return Case(
        query=normal(batch, heads, frames, tokens, width),
        key=key,
        value=normal(batch, heads, frames, tokens, values),
        beta=normal(batch, heads, frames, tokens).sigmoid(),
        decay=normal(batch, heads, frames).sigmoid(),
        spans=tuple(pairwise([*starts, frames])),
        memory=normal(batch, heads, width, values) if draw(st.booleans()) else None,
    )


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 1e-4)], ids=str
)
@settings(deadline=None)
@given(case=cases())
def test_fast_equals_naive(case, dtype, tolerance):
    given = [part.to(dtype) if isinstance(part, Tensor) else part for part in case.arguments]
    forward, reverse, memory = delta_rule_naive(*case.arguments)
    reading, after = delta_rule(*given)
    assert reading.dtype == after.dtype == dtype
    torch.testing.assert_close(reading.double(), forward + reverse, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(after.double(), memory, rtol=tolerance, atol=tolerance)


@settings(deadline=None)
@given(cases())
def test_chunks_may_come_one_call_at_a_time(case):
    """Passing on the memory equals one call over all chunks."""
    whole, memory = delta_rule(*case.arguments)
    carried, parts = case.memory, []
    for start, end in case.spans:
        window = [part[:, :, start:end] for part in case.arguments[:5]]
        reading, carried = delta_rule(*window, ((0, end - start),), carried)
        parts.append(reading)
    torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(carried, memory, rtol=1e-10, atol=1e-10)


@settings(deadline=None)
@given(cases(), st.data())
def test_later_frames_do_not_change_a_chunk(case, data):
    _, end = data.draw(st.sampled_from(case.spans))
    before, _ = delta_rule(*case.arguments)
    later = [part.clone() for part in (case.key, case.value, case.beta, case.decay)]
    for part in later:
        part[:, :, end:] *= 0.5
    after, _ = delta_rule(case.query, *later, case.spans, case.memory)
    assert torch.equal(before[:, :, :end], after[:, :, :end])


def test_a_full_write_of_a_unit_key_replaces_its_value():
    """With beta = 1 and no decay, reading with a written key returns exactly its value."""
    key = torch.tensor([[[[0.6, 0.8]]]], dtype=torch.float64)
    value = torch.tensor([[[[3.0, -1.0, 2.0]]]], dtype=torch.float64)
    memory = torch.tensor([[[[0.3, -2.0, 0.7], [1.1, 0.4, -0.9]]]], dtype=torch.float64)
    one = torch.ones(1, 1, dtype=torch.float64)
    after = update(memory, key, value, one[..., None], one)
    torch.testing.assert_close(key @ after, value)
    other = torch.tensor([[[[0.8, -0.6]]]], dtype=torch.float64)
    torch.testing.assert_close(other @ after, other @ memory)  # an orthogonal key keeps its own


@pytest.mark.parametrize("function", [delta_rule, lambda *a: delta_rule_naive(*a)[::2]])
def test_the_given_memory_is_not_written(function):
    random = torch.Generator().manual_seed(0)
    query = torch.randn(1, 2, 3, 4, 5, generator=random)
    memory = torch.randn(1, 2, 5, 5, generator=random)
    kept = memory.clone()
    gates = torch.full((1, 2, 3, 4), 0.5)
    _, after = function(query, query, query, gates, gates[..., 0], ((0, 3),), memory)
    assert torch.equal(memory, kept)
    assert not torch.equal(after, kept)


def test_denominators_keep_their_sign_and_a_distance_from_zero():
    values = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0])
    assert off_zero(values, 0.5).tolist() == [-2.0, -0.5, 0.5, 0.5, 2.0]
    assert torch.equal(off_zero(values, 0.0), values + 1e-8)
