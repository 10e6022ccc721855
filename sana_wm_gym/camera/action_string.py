"""The action parser: strings such as "w-80,dw-40,none-8" become held keys, or a camera path."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.keys import KeyMap, KeyState, keys_to_controls
from sana_wm_gym.camera.trajectory import rollout

MAX_ACTION_FRAMES = 1_000_000
"""Longest action string, in frames; about 17 hours at 16 fps."""

_NO_KEYS = "none"


def parse_action_string(text: str, key_map: KeyMap) -> list[frozenset[str]]:
    """Held controls of every frame of an action string such as "w-80,dw-40,none-8".

    Segments `<letters>-<frames>` are separated by commas (the full-width comma too), white space
    is ignored, letters may be upper case and repeat, and `none` stands for no key (as does
    nothing at all: "-4").

    Returns:
        One set of control names per video frame.

    Raises:
        ValueError: The string does not follow the grammar; names the segment and the character.

    Source: the action grammar of SANA-WM's released inference script.
    """
    kept = [(c, at) for at, c in enumerate(text.replace("，", ",")) if not c.isspace()]
    if not kept:
        raise ValueError(
            f"action string {text!r} is empty, expected '<keys>-<frames>,...' such as 'w-24'"
        )
    frames: list[frozenset[str]] = []
    start = 0
    for number, segment in enumerate("".join(c for c, _ in kept).split(","), start=1):
        at = kept[min(start, len(kept) - 1)][1]
        where = f"action string segment {number} ({segment!r}, at character {at})"
        letters, hyphen, count = segment.rpartition("-")
        if not hyphen:
            raise ValueError(f"{where} has no hyphen, expected '<keys>-<frames>' such as 'w-24'")
        if not (count.isascii() and count.isdigit() and count.strip("0")):
            raise ValueError(f"{where} has frame count {count!r}, expected a positive integer")
        if len(count.lstrip("0")) > 9 or len(frames) + int(count) > MAX_ACTION_FRAMES:
            raise ValueError(
                f"{where} makes the string longer than {MAX_ACTION_FRAMES} frames, expected fewer"
            )
        if letters.lower() == _NO_KEYS:
            letters = ""
        for offset, letter in enumerate(letters):
            if letter.lower() not in key_map.bindings:
                raise ValueError(
                    f"{where} has unknown key {letter!r} at character {kept[start + offset][1]}, "
                    f"expected letters of {key_map.letters!r} or {_NO_KEYS!r}"
                )
        frames += [key_map.held(letters)] * int(count)
        start += len(segment) + 1
    return frames


def rollout_action_string(text: str, key_map: KeyMap) -> npt.NDArray[np.float64]:
    """Poses [n + 1, 4, 4] of an action string of n frames, under a key map's letters and speeds.

    Raises:
        ValueError: The string does not follow the grammar.
    """
    controls, _ = keys_to_controls(parse_action_string(text, key_map), key_map, KeyState())
    return rollout(controls, key_map.pitch_limit)
