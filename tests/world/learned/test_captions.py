"""Features of prompts that name surfaces; `test_appearance` tests how prompts are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from learned_worlds import CAPTIONS, SURFACES

from sana_wm_gym.world.procedural.appearance import prompt_of


@pytest.mark.parametrize(
    ("prompt", "mask", "shown"),
    [
        ("", [1, 0, 0], {}),
        ("red door", [1, 1, 0], {1: 1}),
        ("White  Crates", [1, 0, 1], {2: 4}),
        ("green crates, red door", [1, 1, 1], {1: 1, 2: 3}),
        ("blue door, grey crates", [1, 1, 1], {1: 2, 2: 5}),
    ],
)
def test_features_are_one_hot_and_masked_where_nothing_is_named(
    prompt: str, mask: list[int], shown: dict[int, int]
) -> None:
    assert (CAPTIONS.tokens, CAPTIONS.channels) == (3, 6)
    caption = CAPTIONS(prompt)
    assert caption.features.shape == (1, 3, 6) and caption.features.dtype == torch.float32
    assert caption.mask.tolist() == [mask] and caption.mask.dtype == torch.int64
    for token, channel in ({0: 0} | shown).items():
        assert caption.features[0, token].tolist() == np.eye(6)[channel].tolist()


def test_unknown_words_are_refused() -> None:
    known = "red door, blue door, green crates, white crates, grey crates"
    with pytest.raises(ValueError, match=f"unknown phrase .*{known}"):
        CAPTIONS("red crates")


@given(st.lists(st.tuples(st.integers(-1, 1), st.integers(-1, 2)), min_size=1, max_size=4))
def test_a_batch_of_appearances_is_each_prompt_alone(appearances: list[tuple[int, int]]) -> None:
    batch = CAPTIONS.embed(np.array(appearances))
    for index, appearance in enumerate(appearances):
        pairs = [(s, v) for s, v in zip(SURFACES, appearance, strict=True) if v >= 0]
        alone = CAPTIONS(prompt_of([s for s, _ in pairs], [v for _, v in pairs]))
        assert torch.equal(batch.mask[index : index + 1], alone.mask)
        assert torch.equal(batch.features[index : index + 1], alone.features)
