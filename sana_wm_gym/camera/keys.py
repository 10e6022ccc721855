"""Held keys become `Controls`: what each letter does, how fast, and with how much inertia.

The same letter means different motion in different SANA-WM releases, so letters are resolved by
a named `KeyMap` at the edge; behind it only control names such as "yaw_left" are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import Controls, MotionLimits
from sana_wm_gym.checks import require_integer, require_number

CONTROL_NAMES = (
    "forward",
    "back",
    "yaw_left",
    "yaw_right",
    "pitch_up",
    "pitch_down",
    "strafe_left",
    "strafe_right",
)
"""What a key can do. This is also the order of a pressed-keys (multi-binary) action vector."""

# Below this a target velocity counts as "no key", and the camera coasts (SANA-WM inertia rule).
_ZERO_TARGET = 1e-12


@dataclass(frozen=True)
class Smoothing:
    """Inertia of key-driven motion: exponential approach to the commanded velocity.

    Attributes:
        attack: Time constant in seconds towards a non-zero velocity.
        release: Time constant in seconds towards rest.
        fps: Frames per second of the filter; fixed at 16, whatever the playback rate.
    """

    attack: float = 0.45
    release: float = 1.0
    fps: float = 16.0

    def __post_init__(self) -> None:
        for name in ("attack", "release", "fps"):
            require_number(f"Smoothing.{name}", getattr(self, name), 0.0, ends="()")

    def approach(self, velocity: float, target: float) -> float:
        """Velocity one frame later."""
        time_constant = self.attack if abs(target) > _ZERO_TARGET else self.release
        return velocity + (1.0 - math.exp(-1.0 / (self.fps * time_constant))) * (target - velocity)


@dataclass(frozen=True)
class KeyMap:
    """What each letter does and how fast. Two SANA-WM releases use the same letters differently.

    Attributes:
        name: Versioned profile name.
        bindings: Letter -> control name; every control has one letter.
        translation_speed: Metres per frame while a move key is held.
        rotation_speed: Radians per frame while a turn key is held.
        pitch_limit: Largest accumulated pitch, radians.
        smoothing: Inertia, or None where velocity follows the keys at once.
        strafe_yaw_coupling: Yaw added by a held strafe key, as a fraction of `rotation_speed`.

    Raises:
        ValueError: A speed is negative or not finite, or a control has no or several letters.
    """

    name: str
    bindings: Mapping[str, str]
    translation_speed: float
    rotation_speed: float
    pitch_limit: float
    smoothing: Smoothing | None
    strafe_yaw_coupling: float

    def __post_init__(self) -> None:
        if sorted(self.bindings.values()) != sorted(CONTROL_NAMES):
            raise ValueError(
                f"KeyMap {self.name!r} binds {dict(self.bindings)}, "
                f"expected one letter for each of {', '.join(CONTROL_NAMES)}"
            )
        for name in ("translation_speed", "rotation_speed", "strafe_yaw_coupling"):
            require_number(f"KeyMap.{name}", getattr(self, name), 0.0)
        require_number("KeyMap.pitch_limit", self.pitch_limit, 0.0, math.pi / 2, ends="[)")

    def held(self, letters: Iterable[str]) -> frozenset[str]:
        """Controls held while `letters` are pressed; upper case is accepted, repeats ignored.

        Raises:
            ValueError: A letter has no binding.
        """
        names = []
        for letter in letters:
            if letter.lower() not in self.bindings:
                raise ValueError(f"unknown key {letter!r}, expected one of {self.letters}")
            names.append(self.bindings[letter.lower()])
        return frozenset(names)

    @property
    def letters(self) -> str:
        """All bound letters, in alphabetical order."""
        return "".join(sorted(self.bindings))

    @property
    def limits(self) -> MotionLimits:
        """The key speeds as limits of continuous motion."""
        v, w = self.translation_speed, self.rotation_speed
        return MotionLimits(v, v, v, w, w, self.pitch_limit)


SANA_WM_2026_06 = KeyMap(
    name="sana-wm-2026-06",
    bindings=MappingProxyType(dict(zip("wsadikjl", CONTROL_NAMES, strict=True))),
    translation_speed=0.025,
    rotation_speed=math.radians(0.6),
    pitch_limit=math.radians(60.0),
    smoothing=Smoothing(),
    strafe_yaw_coupling=0.0,
)
"""Current SANA-WM: a/d turn, j/l strafe, motion with inertia."""

SANA_WM_2026_05 = KeyMap(
    name="sana-wm-2026-05",
    bindings=MappingProxyType(dict(zip("wsjlikad", CONTROL_NAMES, strict=True))),
    translation_speed=0.04,
    rotation_speed=math.radians(1.2),
    # The release refuses a whole 1.2 degree step that would pass 85 degrees, so from level its
    # keys stop at 84. Clamping at 84 gives the same poses with the one integrator used here.
    pitch_limit=math.radians(84.0),
    smoothing=None,
    strafe_yaw_coupling=0.4,
)
"""First SANA-WM release: a/d strafe and turn a little, j/l turn, no inertia."""

KEY_MAPS: Mapping[str, KeyMap] = MappingProxyType(
    {key_map.name: key_map for key_map in (SANA_WM_2026_06, SANA_WM_2026_05)}
)
"""Profiles by name."""

DISCRETE_ACTIONS: tuple[frozenset[str], ...] = (
    frozenset(),
    frozenset({"forward"}),
    frozenset({"back"}),
    frozenset({"yaw_left"}),
    frozenset({"yaw_right"}),
    frozenset({"forward", "yaw_left"}),
    frozenset({"forward", "yaw_right"}),
    frozenset({"strafe_left"}),
    frozenset({"strafe_right"}),
    frozenset({"forward", "strafe_left"}),
    frozenset({"forward", "strafe_right"}),
    frozenset({"pitch_up"}),
    frozenset({"pitch_down"}),
)
"""Held controls of each discrete action; index 0 is no key. The same for every key map."""


@dataclass(frozen=True)
class KeyState:
    """Memory of the key smoother between two chunks: at rest with no key held by default.

    Attributes:
        forward: Current velocity, metres per frame.
        right: Current velocity, metres per frame.
        yaw: Current velocity, radians per frame.
        pitch: Current velocity, radians per frame.
        held: Controls held in the previous frame.
    """

    forward: float = 0.0
    right: float = 0.0
    yaw: float = 0.0
    pitch: float = 0.0
    held: frozenset[str] = frozenset()


def pressed_to_held(pressed: npt.ArrayLike) -> frozenset[str]:
    """Held controls of a 0/1 vector in the order of `CONTROL_NAMES` (a MultiBinary action).

    Raises:
        ValueError: Not 8 entries, or an entry other than 0 and 1.
    """
    vector = np.asarray(pressed)
    if vector.shape != (len(CONTROL_NAMES),):
        raise ValueError(
            f"pressed keys have shape {vector.shape}, expected {(len(CONTROL_NAMES),)}"
        )
    if not np.isin(vector, (0, 1)).all():
        raise ValueError(f"pressed keys are {vector.tolist()}, expected only 0 and 1")
    return frozenset(name for name, on in zip(CONTROL_NAMES, vector, strict=True) if on)


def discrete_to_held(index: int | np.integer) -> frozenset[str]:
    """Held controls of a discrete action.

    Raises:
        ValueError: `index` is not an integer in [0, len(DISCRETE_ACTIONS)).
    """
    plain = index.item() if np.shape(index) == () and hasattr(index, "item") else index
    return DISCRETE_ACTIONS[require_integer("discrete action", plain, 0, len(DISCRETE_ACTIONS) - 1)]


def keys_to_controls(
    held: Sequence[frozenset[str]], key_map: KeyMap, state: KeyState
) -> tuple[Controls, KeyState]:
    """Motion of each frame under held keys, and the smoother's state after the last frame.

    Opposite keys cancel. With smoothing, a newly pressed key makes all velocities jump to the
    commanded ones; otherwise each approaches it exponentially. Cutting a sequence anywhere and
    passing the state on gives the same bits as one call.

    Args:
        held: Control names held in each frame.
        key_map: Speeds and smoothing.
        state: `KeyState()` at the start, afterwards the state returned by the previous call.

    Raises:
        ValueError: A name is not one of `CONTROL_NAMES`.

    Source: the camera control of SANA-WM's released inference script.
    """
    unknown = frozenset().union(*held) - frozenset(CONTROL_NAMES)
    if unknown:
        raise ValueError(
            f"unknown controls {sorted(unknown)}, expected names of {list(CONTROL_NAMES)} "
            "(KeyMap.held converts letters to names)"
        )
    velocity = (state.forward, state.right, state.yaw, state.pitch)
    previous = state.held
    rows = np.zeros((len(held), 4))
    for frame, now in enumerate(held):
        target = _target(now, key_map)
        if key_map.smoothing is None or now - previous:
            velocity = target
        else:
            f, r, y, p = map(key_map.smoothing.approach, velocity, target)
            velocity = (f, r, y, p)
        rows[frame] = velocity
        previous = now
    zero = np.zeros(len(held))
    forward, right, yaw, pitch = rows.T
    controls = Controls(forward=forward, right=right, down=zero, yaw=yaw, pitch=pitch, roll=zero)
    return controls, KeyState(*velocity, held=previous)


def _target(held: frozenset[str], key_map: KeyMap) -> tuple[float, float, float, float]:
    """Velocity (forward, right, yaw, pitch) that the held keys command."""

    def axis(positive: str, negative: str) -> int:
        return (positive in held) - (negative in held)

    strafe = axis("strafe_right", "strafe_left")
    turn = axis("yaw_right", "yaw_left") + key_map.strafe_yaw_coupling * strafe
    return (
        axis("forward", "back") * key_map.translation_speed,
        strafe * key_map.translation_speed,
        turn * key_map.rotation_speed,
        axis("pitch_up", "pitch_down") * key_map.rotation_speed,
    )
