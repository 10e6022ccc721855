"""Prompts that name surfaces, and what a generator makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.procedural.appearance import Surface, prompt_of

SURFACES = (Surface("door", ("red", "blue")), Surface("crates", ("green", "white", "grey")))
CAPTIONS = SurfaceCaptions(SURFACES)
KNOWN = "red door, blue door, green crates, white crates, grey crates"


def test_a_prompt_of_all_surfaces() -> None:
    caption = CAPTIONS("blue door, grey crates")
    assert (CAPTIONS.tokens, CAPTIONS.channels) == (3, 6)
    assert caption.features.shape == (1, 3, 6) and caption.features.dtype == torch.float32
    assert caption.features[0].argmax(-1).tolist() == [0, 2, 5]
    assert caption.features[0].sum(-1).tolist() == [1, 1, 1]
    assert caption.mask.tolist() == [[1, 1, 1]] and caption.mask.dtype == torch.int64


@pytest.mark.parametrize(
    ("prompt", "mask", "shown"),
    [
        ("", [1, 0, 0], {}),
        ("   ", [1, 0, 0], {}),
        ("red door", [1, 1, 0], {1: 1}),
        ("White  Crates", [1, 0, 1], {2: 4}),
        ("green crates, red door", [1, 1, 1], {1: 1, 2: 3}),
    ],
)
def test_prompts_that_leave_something_out(
    prompt: str, mask: list[int], shown: dict[int, int]
) -> None:
    caption = CAPTIONS(prompt)
    assert caption.mask.tolist() == [mask]
    assert caption.features[0, 0].tolist() == [1, 0, 0, 0, 0, 0]
    for token, channel in shown.items():
        assert caption.features[0, token].argmax() == channel


@pytest.mark.parametrize(
    "prompt", ["a green house", "red crates", "red door,", "red door blue door"]
)
def test_unknown_words(prompt: str) -> None:
    with pytest.raises(ValueError, match=f"unknown phrase .*{KNOWN}"):
        CAPTIONS(prompt)


def test_a_surface_named_twice() -> None:
    with pytest.raises(ValueError, match="two variants of the door"):
        CAPTIONS("red door, blue door")
    assert torch.equal(CAPTIONS("red door, red door").mask, CAPTIONS("red door").mask)


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 2)), min_size=1, max_size=4))
def test_a_batch_of_appearances_is_each_prompt_alone(appearances: list[tuple[int, int]]) -> None:
    batch = CAPTIONS.embed(np.array(appearances))
    for index, appearance in enumerate(appearances):
        pairs = [(s, v) for s, v in zip(SURFACES, appearance, strict=True) if v >= 0]
        alone = CAPTIONS(prompt_of([s for s, _ in pairs], [v for _, v in pairs]))
        assert torch.equal(batch.mask[index : index + 1], alone.mask)
        assert torch.equal(batch.features[index : index + 1], alone.features)
