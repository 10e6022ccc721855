"""Action spaces: what an agent may send, and the camera motion it stands for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from sana_wm_gym.camera.action_string import parse_action_string
from sana_wm_gym.camera.controls import TWIST_NAMES, Controls, MotionLimits, twist_to_controls
from sana_wm_gym.camera.keys import (
    CONTROL_NAMES,
    DISCRETE_ACTIONS,
    KEY_MAPS,
    KeyMap,
    KeyState,
    discrete_to_held,
    keys_to_controls,
    pressed_to_held,
)
from sana_wm_gym.world.world_model import CHUNK_FRAMES, LATENTS_PER_CHUNK

PLANAR = ("yaw", "right", "forward")
"""The twist's parts that a "planar" action sets, in its order: a camera on a cart."""

_PLANAR = [TWIST_NAMES.index(name) for name in PLANAR]

Decoder = Callable[[Any, int, KeyState], tuple[Controls, KeyState]]
"""(one action, frames it is held for, key state) -> motion and the next key state."""


@dataclass(frozen=True)
class ActionView:
    """How actions of one kind move the camera.

    Attributes:
        space: Gymnasium space of one step's action.
        parts: Actions per chunk, 1 or 3; each is held for 24 / parts frames.
        decode: Motion of one such action.
        key_map: Letters and speeds of keys.
        pitch_limit: Bound on the accumulated pitch, radians.
    """

    space: spaces.Space[Any]
    parts: int
    decode: Decoder
    key_map: KeyMap
    pitch_limit: float

    def chunk(self, action: Any, keys: KeyState) -> tuple[Controls, KeyState]:
        """Motion over one chunk of 24 frames, and the key state after it.

        Raises:
            ValueError: The action has the wrong shape, is not finite or is out of range.
        """
        if self.parts == 1:
            return self.decode(action, CHUNK_FRAMES, keys)
        actions = np.asarray(action)
        if actions.shape != self.space.shape:
            raise ValueError(
                f"action has shape {actions.shape}, expected {self.space.shape}: "
                f"one row for each of the chunk's {self.parts} latent frames"
            )
        motion = []
        for row in actions:
            controls, keys = self.decode(row, CHUNK_FRAMES // self.parts, keys)
            motion.append(controls)
        return Controls.concatenate(motion), keys

    def text(self, text: str, keys: KeyState) -> tuple[Controls, KeyState]:
        """Motion of an action string of exactly 24 frames, and the key state after it.

        Raises:
            ValueError: The string has an error (it says where) or another number of frames.
        """
        held = parse_action_string(text, self.key_map)
        if len(held) != CHUNK_FRAMES:
            raise ValueError(
                f"action string {text!r} is {len(held)} frames long, expected {CHUNK_FRAMES}"
            )
        return keys_to_controls(held, self.key_map, keys)


def action_view(mode: str, parts: int, key_map: str, limits: MotionLimits) -> ActionView:
    """The view for an environment's constructor arguments.

    Args:
        mode: "continuous", "planar", "discrete" or "keys".
        parts: Actions per chunk, 1 or 3.
        key_map: Name of a key map profile.
        limits: Motion per frame that full deflection of a continuous action maps to.

    Raises:
        ValueError: A name is unknown, or `parts` is neither 1 nor 3.
    """
    if key_map not in KEY_MAPS:
        raise ValueError(f"unknown key map {key_map!r}, expected one of {', '.join(KEY_MAPS)}")
    if parts not in (1, LATENTS_PER_CHUNK):
        raise ValueError(f"actions_per_chunk is {parts}, expected 1 or {LATENTS_PER_CHUNK}")
    profile = KEY_MAPS[key_map]
    pitch_limit = min(limits.pitch_limit, profile.pitch_limit)

    def hold(held: frozenset[str], frames: int, keys: KeyState) -> tuple[Controls, KeyState]:
        return keys_to_controls([held] * frames, profile, keys)

    def twist(action: Any, frames: int, keys: KeyState) -> tuple[Controls, KeyState]:
        # A twist sets the velocity outright, so no inertia of earlier keys outlives it.
        return twist_to_controls(action, limits, frames), KeyState()

    def planar(action: Any, frames: int, keys: KeyState) -> tuple[Controls, KeyState]:
        part = np.asarray(action)
        if part.shape != (len(PLANAR),):
            raise ValueError(f"action has shape {part.shape}, expected ({len(PLANAR)},): {PLANAR}")
        whole = np.zeros(len(TWIST_NAMES), part.dtype)
        whole[_PLANAR] = part
        return twist(whole, frames, keys)

    def index(action: Any, frames: int, keys: KeyState) -> tuple[Controls, KeyState]:
        return hold(discrete_to_held(action), frames, keys)

    def pressed(action: Any, frames: int, keys: KeyState) -> tuple[Controls, KeyState]:
        return hold(pressed_to_held(action), frames, keys)

    lead = () if parts == 1 else (parts,)
    kinds: dict[str, tuple[spaces.Space[Any], Decoder]] = {
        "continuous": (spaces.Box(-1.0, 1.0, (*lead, len(TWIST_NAMES)), np.float32), twist),
        "planar": (spaces.Box(-1.0, 1.0, (*lead, len(PLANAR)), np.float32), planar),
        "discrete": (
            spaces.MultiDiscrete([len(DISCRETE_ACTIONS)] * parts)
            if lead
            else spaces.Discrete(len(DISCRETE_ACTIONS)),
            index,
        ),
        "keys": (spaces.MultiBinary([*lead, len(CONTROL_NAMES)]), pressed),
    }
    if mode not in kinds:
        raise ValueError(f"unknown action_mode {mode!r}, expected one of {', '.join(kinds)}")
    space, decode = kinds[mode]
    return ActionView(space, parts, decode, profile, pitch_limit)
