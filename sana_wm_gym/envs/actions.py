"""Action spaces: what an agent may send, and the camera motion it stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt
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
from sana_wm_gym.checks import require_choice, require_integer
from sana_wm_gym.world.world_model import WorldSpec

PLANAR = ("yaw", "right", "forward")
"""The twist's parts that a "planar" action sets, in its order: a camera on a cart."""


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


@dataclass(frozen=True)
class ActionView:
    """How actions of one kind command a world.

    Attributes:
        mode: "continuous", "planar", "discrete" or "keys".
        space: Gymnasium space of one step's action.
        frames: Frames of a chunk.
        parts: Actions per chunk; each is held for frames / parts frames.
        limits: Of the world; full deflection of a continuous action maps to them.
        key_map: Letters and speeds of keys.
    """

    mode: str
    space: spaces.Space[Any]
    frames: int
    parts: int
    limits: MotionLimits
    key_map: KeyMap

    @property
    def pitch_limit(self) -> float:
        """Bound on the accumulated pitch, radians."""
        return min(self.limits.pitch_limit, self.key_map.pitch_limit)

    def chunk(self, action: Any, keys: KeyState) -> Command:
        """Command of one chunk.

        Raises:
            ValueError: The action has the wrong shape, is not finite or is out of range.
        """
        actions = action_array(action)
        if self.parts == 1:
            return self._held(actions, self.frames, keys)
        if actions.shape != self.space.shape:
            raise ValueError(
                f"action has shape {actions.shape}, expected {self.space.shape}: "
                f"one row for each of the chunk's {self.parts} parts"
            )
        parts: list[Command] = []
        for row in actions:
            parts.append(self._held(row, self.frames // self.parts, keys))
            keys = parts[-1].keys
        held = tuple(names for part in parts for names in part.held)
        return Command(Controls.concatenate([part.controls for part in parts]), held, keys)

    def text(self, text: str, keys: KeyState) -> Command:
        """Command of an action string of exactly one chunk's frames.

        Raises:
            ValueError: The string has an error or another number of frames.
        """
        held = parse_action_string(text, self.key_map)
        if len(held) != self.frames:
            raise ValueError(
                f"action string {text!r} is {len(held)} frames long, expected {self.frames}"
            )
        return self._pressed(held, keys)

    def _held(self, action: Any, frames: int, keys: KeyState) -> Command:
        """One action for a number of frames."""
        if self.mode == "continuous":
            return Command(twist_to_controls(action, self.limits, frames))
        if self.mode == "planar":
            if action.shape != (len(PLANAR),):
                raise ValueError(
                    f"action has shape {action.shape}, expected ({len(PLANAR)},): {PLANAR}"
                )
            twist = np.zeros(len(TWIST_NAMES), action.dtype)
            twist[[TWIST_NAMES.index(name) for name in PLANAR]] = action
            return Command(twist_to_controls(twist, self.limits, frames))
        held = discrete_to_held(action) if self.mode == "discrete" else pressed_to_held(action)
        return self._pressed([held] * frames, keys)

    def _pressed(self, held: Sequence[frozenset[str]], keys: KeyState) -> Command:
        controls, after = keys_to_controls(held, self.key_map, keys)
        return Command(controls, tuple(held), after)

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


def action_view(mode: str, parts: int, key_map: str, spec: WorldSpec) -> ActionView:
    """The view for `action_mode`, `actions_per_chunk` and `key_map` of `EnvConfig`.

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
    lead, keys = () if parts == 1 else (parts,), len(CONTROL_NAMES)
    choices = len(DISCRETE_ACTIONS)
    kinds: dict[str, spaces.Space[Any]] = {
        "continuous": spaces.Box(-1.0, 1.0, (*lead, len(TWIST_NAMES)), np.float32),
        "planar": spaces.Box(-1.0, 1.0, (*lead, len(PLANAR)), np.float32),
        "discrete": spaces.MultiDiscrete([choices] * parts) if lead else spaces.Discrete(choices),
        # stable-baselines3 takes a number, not the shape (8,).
        "keys": spaces.MultiBinary([*lead, keys] if lead else keys),
    }
    require_choice("action_mode", mode, kinds)
    if mode not in ("discrete", "keys"):
        spec.require_camera(f"action_mode {mode!r}")
    frames = spec.frames_per_chunk
    return ActionView(mode, kinds[mode], frames, parts, spec.limits, KEY_MAPS[key_map])
