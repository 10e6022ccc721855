"""Variants of surfaces: drawn, written as a prompt and read from one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sana_wm_gym.world.procedural.appearance import (
    Surface,
    check_appearance,
    draw_appearance,
    parse_prompt,
    prompt_of,
)

SURFACES = (
    Surface("door", ("red", "blue")),
    Surface("crates", ("green", "white", "blue")),
    Surface("gate", ("red", "white")),
)
APPEARANCES = st.tuples(*(st.integers(0, len(s.variants) - 1) for s in SURFACES))


def test_a_draw_is_a_function_of_its_generator_and_meets_every_variant() -> None:
    drawn = [draw_appearance(SURFACES, np.random.default_rng(seed)) for seed in range(40)]
    assert drawn == [draw_appearance(SURFACES, np.random.default_rng(seed)) for seed in range(40)]
    for i, surface in enumerate(SURFACES):
        assert {appearance[i] for appearance in drawn} == set(range(len(surface.variants)))


def test_nothing_varying_draws_nothing() -> None:
    rng = np.random.default_rng(0)
    assert draw_appearance((), rng) == () and prompt_of((), ()) == ""
    assert rng.random() == np.random.default_rng(0).random()


@given(appearance=APPEARANCES, order=st.permutations(range(3)), upper=st.booleans())
def test_a_prompt_names_what_it_is_made_of(
    appearance: tuple[int, ...], order: list[int], upper: bool
) -> None:
    prompt = prompt_of(SURFACES, appearance)
    phrases = [prompt.split(", ")[i] for i in order]
    again = " ,".join(phrase.upper() if upper else f" {phrase}" for phrase in phrases)
    assert parse_prompt(SURFACES, prompt) == parse_prompt(SURFACES, again) == appearance


def test_a_prompt_may_name_none_some_and_one_twice() -> None:
    assert prompt_of(SURFACES, (0, 2, 1)) == "red door, blue crates, white gate"
    assert parse_prompt(SURFACES, "") == parse_prompt(SURFACES, "  ") == (None, None, None)
    assert parse_prompt(SURFACES, "White crates, white  crates") == (None, 1, None)


@pytest.mark.parametrize("prompt", ["green door", "door", "red door, a hall", "red door,"])
def test_an_unknown_phrase_lists_the_known_ones(prompt: str) -> None:
    known = "red door, blue door, green crates, white crates, blue crates, red gate, white gate"
    with pytest.raises(ValueError, match=f"unknown phrase .*{known}"):
        parse_prompt(SURFACES, prompt)


def test_a_prompt_may_not_contradict_itself() -> None:
    with pytest.raises(ValueError, match="two variants of the door"):
        parse_prompt(SURFACES, "red door, white gate, blue door")


@pytest.mark.parametrize("appearance", [(), (0, 0), (0, 0, 2), (-1, 0, 0), (0, 0, 0, 0)])
def test_an_appearance_has_one_variant_per_surface(appearance: tuple[int, ...]) -> None:
    for check in (check_appearance, prompt_of):
        with pytest.raises(ValueError, match="expected one variant per surface"):
            check(SURFACES, appearance)
