"""Keys: grammar, profiles, smoothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.camera import (
    CONTROL_NAMES,
    DISCRETE_ACTIONS,
    KEY_MAPS,
    SANA_WM_2026_05,
    SANA_WM_2026_06,
    KeyMap,
    KeyState,
    Smoothing,
    discrete_to_held,
    keys_to_controls,
    parse_action_string,
    pressed_to_held,
)

held_keys = st.frozensets(st.sampled_from(CONTROL_NAMES))
key_maps = st.sampled_from([SANA_WM_2026_05, SANA_WM_2026_06])
NOTHING: frozenset[str] = frozenset()


def test_every_invalid_string_of_the_reference_is_refused(facts: dict[str, Any]) -> None:
    for text, outcome in facts["invalid"].items():
        if outcome == "accepted":
            assert parse_action_string(text, SANA_WM_2026_06)
        else:
            with pytest.raises(ValueError, match="expected"):
                parse_action_string(text, SANA_WM_2026_06)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("w-3, dx-2", r"segment 2 \('dx-2', at character 5\) has unknown key 'x' at character 6"),
        ("w-3,d", r"segment 2 \('d', at character 4\) has no hyphen"),
        ("w-3,,d-2", r"segment 2 \('', at character 4\)"),
        ("w-3, d-0", r"segment 2 .* frame count '0'"),
        ("w-٣", r"segment 1 .* frame count '٣'"),
        ("w-9999999999999999999", r"segment 1 .* longer than 1000000 frames"),
        ("   ", "is empty"),
    ],
)
def test_errors_say_where(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=place):
        parse_action_string(text, SANA_WM_2026_06)


def test_grammar_is_lenient_where_the_release_is() -> None:
    assert parse_action_string(" W - 2 ， Jj-1,none-1,-1", SANA_WM_2026_06) == [
        {"forward"},
        {"forward"},
        {"strafe_left"},
        NOTHING,
        NOTHING,
    ]


def test_the_same_letters_mean_different_motion() -> None:
    assert SANA_WM_2026_06.held("ad") == {"yaw_left", "yaw_right"}
    assert SANA_WM_2026_05.held("ad") == {"strafe_left", "strafe_right"}
    assert SANA_WM_2026_06.held("jl") == SANA_WM_2026_05.held("ad")
    assert set(KEY_MAPS) == {"sana-wm-2026-05", "sana-wm-2026-06"}


@settings(deadline=None)
@given(st.lists(held_keys, min_size=1, max_size=72), key_maps, st.integers(1, 24))
def test_chunks_equal_one_long_string(
    held: list[frozenset[str]], key_map: KeyMap, chunk: int
) -> None:
    whole, end = keys_to_controls(held, key_map, KeyState())
    state, parts = KeyState(), []
    for start in range(0, len(held), chunk):
        controls, state = keys_to_controls(held[start : start + chunk], key_map, state)
        parts.append(controls)
    for name in ("forward", "right", "down", "yaw", "pitch", "roll"):
        pieces = np.concatenate([getattr(part, name) for part in parts])
        assert (pieces == getattr(whole, name)).all()
    assert state == end


@settings(deadline=None)
@given(held_keys, key_maps)
def test_opposite_keys_cancel(held: frozenset[str], key_map: KeyMap) -> None:
    both = held | {"forward", "back", "yaw_left", "yaw_right"}
    neither = held - {"forward", "back", "yaw_left", "yaw_right"}
    cancelled, _ = keys_to_controls([both], key_map, KeyState())
    plain, _ = keys_to_controls([neither], key_map, KeyState())
    for name in ("forward", "right", "yaw", "pitch"):
        assert getattr(cancelled, name)[0] == getattr(plain, name)[0]


@settings(deadline=None)
@given(held_keys, key_maps)
def test_mirrored_keys_mirror_the_motion(held: frozenset[str], key_map: KeyMap) -> None:
    swap = str.maketrans({"<": ">", ">": "<"})
    mirrored = frozenset(
        name.replace("left", "<").replace("right", ">").translate(swap)
        .replace("<", "left").replace(">", "right")
        for name in held
    )  # fmt: skip
    a, _ = keys_to_controls([held], key_map, KeyState())
    b, _ = keys_to_controls([mirrored], key_map, KeyState())
    assert (a.right == -b.right).all() and (a.yaw == -b.yaw).all()
    assert (a.forward == b.forward).all() and (a.pitch == b.pitch).all()


def test_release_coasts_and_a_new_press_stops_the_coasting() -> None:
    forward, yaw = frozenset({"forward"}), frozenset({"yaw_right"})
    held = [forward] * 5 + [NOTHING] * 10 + [yaw] * 2
    controls, _ = keys_to_controls(held, SANA_WM_2026_06, KeyState())
    assert (controls.forward[:5] == 0.025).all()
    decay = controls.forward[5:15] / controls.forward[4:14]
    assert np.allclose(decay, math.exp(-1 / 16), rtol=1e-12)
    assert (controls.forward[15:] == 0.0).all()
    assert (controls.yaw[15:] == SANA_WM_2026_06.rotation_speed).all()


def test_a_kept_key_is_approached_with_the_attack_constant() -> None:
    # Dropping one of two opposite keys is no new press: the other direction builds up slowly.
    held = [frozenset({"forward", "back"}), frozenset({"forward"}), frozenset({"forward"})]
    controls, _ = keys_to_controls(held, SANA_WM_2026_06, KeyState())
    alpha = 1 - math.exp(-1 / (16 * 0.45))
    assert alpha == pytest.approx(0.12968, abs=5e-6)
    assert np.allclose(controls.forward, [0.0, alpha * 0.025, alpha * 0.025 * (2 - alpha)])


def test_discrete_actions_are_distinct_and_start_with_nothing() -> None:
    assert DISCRETE_ACTIONS[0] == NOTHING
    assert len(set(DISCRETE_ACTIONS)) == len(DISCRETE_ACTIONS) == 13
    assert frozenset().union(*DISCRETE_ACTIONS) == set(CONTROL_NAMES)
    assert discrete_to_held(np.int64(5)) == {"forward", "yaw_left"}


@pytest.mark.parametrize("bad", [-1, 13, 1.0, True, None, "1", np.array([1])])
def test_bad_discrete_actions_are_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"expected an integer in \[0, 12\]"):
        discrete_to_held(bad)


@settings(deadline=None)
@given(st.lists(st.booleans(), min_size=8, max_size=8))
def test_pressed_vector_names_its_controls(pressed: list[bool]) -> None:
    held = pressed_to_held(np.array(pressed, dtype=np.int8))
    assert [name in held for name in CONTROL_NAMES] == pressed


@pytest.mark.parametrize("bad", [[0] * 7, [0] * 7 + [2], [0] * 7 + [math.nan]])
def test_bad_pressed_vectors_are_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        pressed_to_held(bad)


def test_unknown_names_and_letters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown controls \['w'\]"):
        keys_to_controls([frozenset("w")], SANA_WM_2026_06, KeyState())
    with pytest.raises(ValueError, match="unknown key 'q'"):
        SANA_WM_2026_06.held("wq")


def test_bad_key_maps_are_refused() -> None:
    with pytest.raises(ValueError, match="translation_speed is nan"):
        replace(SANA_WM_2026_06, translation_speed=math.nan)
    with pytest.raises(ValueError, match="one letter for each"):
        replace(SANA_WM_2026_06, bindings={"w": "forward"})
    with pytest.raises(ValueError, match="Smoothing.attack"):
        Smoothing(attack=0.0)
