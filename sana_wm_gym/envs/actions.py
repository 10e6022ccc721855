"""Action spaces: what an agent may send, and the camera motion it stands for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces

from sana_wm_gym.camera.action_string import parse_action_string
from sana_wm_gym.camera.controls import TWIST_NAMES, Controls, twist_to_controls
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
from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.world.world_model import WorldSpec

PLANAR = ("yaw", "right", "forward")
"""The twist's parts that a "planar" action sets, in its order: a camera on a cart."""

_PLANAR = [TWIST_NAMES.index(name) for name in PLANAR]


@dataclass(frozen=True, eq=False)
class Command:
    """What an agent commands for one chunk.

    Attributes:
        controls: Camera motion of each frame.
        held: Controls held as keys in each frame; () where the action is no key's.
        keys: Inertia of the keys afterwards; at rest where the action is no key's.
    """

    controls: Controls
    held: tuple[frozenset[str], ...] = ()
    keys: KeyState = field(default=KeyState())


Decoder = Callable[[Any, int, KeyState], Command]
"""(one action, frames it is held for, key state) -> command of these frames."""


@dataclass(frozen=True)
class ActionView:
    """How actions of one kind command a world.

    Attributes:
        mode: "continuous", "planar", "discrete" or "keys".
        space: Gymnasium space of one step's action.
        frames: Frames of a chunk.
        parts: Actions per chunk; each is held for frames / parts frames.
        decode: Command of one such action.
        key_map: Letters and speeds of keys.
        pitch_limit: Bound on the accumulated pitch, radians.
    """

    mode: str
    space: spaces.Space[Any]
    frames: int
    parts: int
    decode: Decoder
    key_map: KeyMap
    pitch_limit: float

    def chunk(self, action: Any, keys: KeyState) -> Command:
        """Command of one chunk.

        Raises:
            ValueError: The action has the wrong shape, is not finite or is out of range.
        """
        actions = action_array(action)
        if self.parts == 1:
            return self.decode(actions, self.frames, keys)
        if actions.shape != self.space.shape:
            raise ValueError(
                f"action has shape {actions.shape}, expected {self.space.shape}: "
                f"one row for each of the chunk's {self.parts} parts"
            )
        parts: list[Command] = []
        for row in actions:
            parts.append(self.decode(row, self.frames // self.parts, keys))
            keys = parts[-1].keys
        held = tuple(names for part in parts for names in part.held)
        return Command(Controls.concatenate([part.controls for part in parts]), held, keys)

    def text(self, text: str, keys: KeyState) -> Command:
        """Command of an action string of exactly one chunk's frames.

        Raises:
            ValueError: The string has an error (it says where) or another number of frames.
        """
        held = parse_action_string(text, self.key_map)
        if len(held) != self.frames:
            raise ValueError(
                f"action string {text!r} is {len(held)} frames long, expected {self.frames}"
            )
        return _pressed(held, self.key_map, keys)

    def keys_to_action(self) -> dict[tuple[str, ...], Any]:
        """The action of each combination of letters; an AttributeError where there are no keys."""
        held: dict[tuple[str, ...], Any]
        if self.mode == "discrete":
            held = {
                tuple(sorted(names, key=CONTROL_NAMES.index)): index
                for index, names in enumerate(DISCRETE_ACTIONS)
                if names
            }
        elif self.mode == "keys":
            held = {
                names: np.isin(CONTROL_NAMES, names).astype(np.int8)
                for count in range(1, len(CONTROL_NAMES) + 1)
                for names in combinations(CONTROL_NAMES, count)
            }
        else:
            raise AttributeError(f"actions of mode {self.mode!r} are no keys")
        letter = {name: letter for letter, name in self.key_map.bindings.items()}
        return {
            tuple(letter[name] for name in names): action
            if self.parts == 1
            else np.stack([action] * self.parts)
            for names, action in held.items()
        }


def action_array(action: Any, name: str = "action") -> npt.NDArray[Any]:
    """Numbers, an array or a tensor of any type and device as an array of real numbers.

    Raises:
        ValueError: It is none.
    """
    try:
        if hasattr(action, "detach"):
            tensor = action.detach().cpu()
            # NumPy has no bfloat16.
            action = tensor.double() if tensor.is_floating_point() else tensor
        array = np.asarray(action)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{name} is no array of numbers: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} is a {type(action).__name__} of {array.dtype}, expected real numbers"
        )
    return array


def _pressed(held: Sequence[frozenset[str]], key_map: KeyMap, keys: KeyState) -> Command:
    controls, after = keys_to_controls(held, key_map, keys)
    return Command(controls, tuple(held), after)


def action_view(mode: str, parts: int, key_map: str, spec: WorldSpec) -> ActionView:
    """The view for an environment's constructor arguments.

    Args:
        mode: Only "discrete" and "keys" command a world without camera.
        parts: Actions per chunk; divides its frames.
        key_map: Name of a key map profile.
        spec: Of the world; full deflection of a continuous action maps to its limits.

    Raises:
        ValueError: A name is unknown, `parts` does not divide a chunk, or actions of this kind
            cannot drive the world.
    """
    require_choice("key_map", key_map, KEY_MAPS)
    require_integer("actions_per_chunk", parts, 1)
    if spec.frames_per_chunk % parts:
        raise ValueError(
            f"actions_per_chunk is {parts}, expected a divisor of {spec.frames_per_chunk}"
        )
    profile, limits = KEY_MAPS[key_map], spec.limits
    pitch_limit = min(limits.pitch_limit, profile.pitch_limit)

    def hold(held: frozenset[str], frames: int, keys: KeyState) -> Command:
        return _pressed([held] * frames, profile, keys)

    def twist(action: Any, frames: int, keys: KeyState) -> Command:
        return Command(twist_to_controls(action, limits, frames))

    def planar(action: Any, frames: int, keys: KeyState) -> Command:
        part = action_array(action)
        if part.shape != (len(PLANAR),):
            raise ValueError(f"action has shape {part.shape}, expected ({len(PLANAR)},): {PLANAR}")
        whole = np.zeros(len(TWIST_NAMES), part.dtype)
        whole[_PLANAR] = part
        return twist(whole, frames, keys)

    def index(action: Any, frames: int, keys: KeyState) -> Command:
        return hold(discrete_to_held(action), frames, keys)

    def pressed(action: Any, frames: int, keys: KeyState) -> Command:
        return hold(pressed_to_held(action), frames, keys)

    lead, keys = () if parts == 1 else (parts,), len(CONTROL_NAMES)
    choices = len(DISCRETE_ACTIONS)
    kinds: dict[str, tuple[spaces.Space[Any], Decoder]] = {
        "continuous": (spaces.Box(-1.0, 1.0, (*lead, len(TWIST_NAMES)), np.float32), twist),
        "planar": (spaces.Box(-1.0, 1.0, (*lead, len(PLANAR)), np.float32), planar),
        "discrete": (
            spaces.MultiDiscrete([choices] * parts) if lead else spaces.Discrete(choices),
            index,
        ),
        # stable-baselines3 takes a number, not the shape (8,).
        "keys": (spaces.MultiBinary([*lead, keys] if lead else keys), pressed),
    }
    require_choice("action_mode", mode, kinds)
    if mode not in ("discrete", "keys"):
        spec.require_camera(f"action_mode {mode!r}")
    space, decode = kinds[mode]
    return ActionView(mode, space, spec.frames_per_chunk, parts, decode, profile, pitch_limit)
