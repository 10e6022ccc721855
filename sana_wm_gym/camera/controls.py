"""Actions of every kind become `Controls`: how far the camera moves and turns in each frame.

    action string ─┐
    discrete index ┼─> held controls, frame by frame ─> keys_to_controls ─┐
    pressed vector ┘        (smoothing state in, state out)               ├─> Controls
    continuous twist ──────────────────────────────> twist_to_controls ───┘

The same letter means different motion in different SANA-WM releases, so letters are resolved by
a named `KeyMap` at the edge; behind it only control names such as "yaw_left" are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

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

TWIST_NAMES = ("yaw", "pitch", "right", "down", "forward")
"""Order of a continuous action."""

MAX_ACTION_FRAMES = 1_000_000
"""Longest action string, in frames; about 17 hours at 16 fps."""

_NO_KEYS = "none"
# Below this a target velocity counts as "no key", and the camera coasts (SANA-WM inertia rule).
_ZERO_TARGET = 1e-12


def _require(name: str, value: float, low: float, high: float, *, open_below: bool = False) -> None:
    """Check low <= value < high, or low < value < high."""
    if not (low < value < high or (value == low and not open_below)):
        bracket = "(" if open_below else "["
        raise ValueError(f"{name} is {value}, expected a finite number in {bracket}{low}, {high})")


@dataclass(frozen=True)
class MotionLimits:
    """Fastest motion a world is made for; a normalised action of +-1 maps to these.

    Attributes:
        forward: Metres per frame along the heading, >= 0.
        right: Metres per frame sideways, >= 0.
        down: Metres per frame along the world vertical, >= 0.
        yaw: Radians per frame about the world vertical, >= 0.
        pitch: Radians per frame about the camera's x axis, >= 0.
        pitch_limit: Largest accumulated pitch, radians in (0, pi/2).

    Raises:
        ValueError: A value is not finite or out of its range.
    """

    forward: float = 0.025
    right: float = 0.025
    down: float = 0.025
    yaw: float = math.radians(0.6)
    pitch: float = math.radians(0.6)
    pitch_limit: float = math.radians(60.0)

    def __post_init__(self) -> None:
        for name in ("forward", "right", "down", "yaw", "pitch"):
            _require(f"MotionLimits.{name}", getattr(self, name), 0.0, math.inf)
        _require("MotionLimits.pitch_limit", self.pitch_limit, 0.0, math.pi / 2)


@dataclass(frozen=True)
class Controls:
    """Camera motion per frame in the heading frame: the camera frame with its pitch undone.

    All arrays are float64 [n], one entry per video frame; they are stored as read-only copies.

    Attributes:
        forward: Metres along the heading, horizontal whatever the pitch.
        right: Metres sideways, horizontal.
        down: Metres along the world's +y, downwards.
        yaw: Radians about the world vertical, positive to the right.
        pitch: Radians about the camera's x axis, positive upwards.
        roll: Radians about the camera's z axis, positive clockwise.

    Raises:
        ValueError: An array is not one-dimensional, not finite, or differs in length.
    """

    forward: Array
    right: Array
    down: Array
    yaw: Array
    pitch: Array
    roll: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            values = np.array(getattr(self, field.name), dtype=np.float64)
            if values.ndim != 1:
                raise ValueError(f"Controls.{field.name} has shape {values.shape}, expected [n]")
            if not np.isfinite(values).all():
                frame = int(np.flatnonzero(~np.isfinite(values))[0])
                raise ValueError(
                    f"Controls.{field.name} is {values[frame]} at frame {frame}, expected finite"
                )
            values.setflags(write=False)
            object.__setattr__(self, field.name, values)
        lengths = {field.name: len(getattr(self, field.name)) for field in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Controls arrays differ in length: {lengths}, expected equal")

    def __len__(self) -> int:
        return len(self.forward)

    @staticmethod
    def still(frames: int) -> Controls:
        """No motion for `frames` frames."""
        return Controls(*(np.zeros(frames) for _ in fields(Controls)))

    @staticmethod
    def concatenate(parts: Sequence[Controls]) -> Controls:
        """Play `parts` one after the other."""
        return Controls(
            *(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Controls))
        )


@dataclass(frozen=True)
class Smoothing:
    """Inertia of key-driven motion: exponential approach to the velocity the keys ask for.

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
            _require(f"Smoothing.{name}", getattr(self, name), 0.0, math.inf, open_below=True)

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
        _require("KeyMap.translation_speed", self.translation_speed, 0.0, math.inf)
        _require("KeyMap.rotation_speed", self.rotation_speed, 0.0, math.inf)
        _require("KeyMap.pitch_limit", self.pitch_limit, 0.0, math.pi / 2)
        _require("KeyMap.strafe_yaw_coupling", self.strafe_yaw_coupling, -math.inf, math.inf)

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


def _bindings(letters: str) -> Mapping[str, str]:
    return MappingProxyType(dict(zip(letters, CONTROL_NAMES, strict=True)))


SANA_WM_2026_06 = KeyMap(
    name="sana-wm-2026-06",
    bindings=_bindings("wsadikjl"),
    translation_speed=0.025,
    rotation_speed=math.radians(0.6),
    pitch_limit=math.radians(60.0),
    smoothing=Smoothing(),
    strafe_yaw_coupling=0.0,
)
"""Current SANA-WM: a/d turn, j/l strafe, motion with inertia."""

SANA_WM_2026_05 = KeyMap(
    name="sana-wm-2026-05",
    bindings=_bindings("wsjlikad"),
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

DISCRETE_ACTIONS: tuple[frozenset[str], ...] = tuple(
    frozenset(names.split())
    for names in (
        "",
        "forward",
        "back",
        "yaw_left",
        "yaw_right",
        "forward yaw_left",
        "forward yaw_right",
        "strafe_left",
        "strafe_right",
        "forward strafe_left",
        "forward strafe_right",
        "pitch_up",
        "pitch_down",
    )
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
    array = np.asarray(index)
    in_range = array.shape == () and array.dtype.kind in "iu" and 0 <= array < len(DISCRETE_ACTIONS)
    if not in_range:
        raise ValueError(
            f"discrete action is {index!r}, expected an integer from 0 to {len(DISCRETE_ACTIONS) - 1}"
        )
    return DISCRETE_ACTIONS[int(array)]


def keys_to_controls(
    held: Sequence[frozenset[str]], key_map: KeyMap, state: KeyState
) -> tuple[Controls, KeyState]:
    """Motion of each frame under held keys, and the smoother's state after the last frame.

    Opposite keys cancel. With smoothing, a newly pressed key makes all velocities jump to what
    the keys ask for; otherwise each approaches it exponentially. Cutting a sequence anywhere and
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
            "(letters are turned into names by KeyMap.held)"
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
    """Velocity (forward, right, yaw, pitch) the held keys ask for."""

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


def twist_to_controls(action: npt.ArrayLike, limits: MotionLimits, frames: int) -> Controls:
    """Constant motion over `frames` frames from a normalised twist.

    Args:
        action: [5] in [-1, 1], order (yaw, pitch, right, down, forward); +-1 is `limits`.
        limits: Motion per frame at full deflection.
        frames: Frames the action is held for, >= 1.

    Raises:
        ValueError: `action` has another shape, is not finite or leaves [-1, 1].
    """
    twist = np.asarray(action, dtype=np.float64)
    if twist.shape != (len(TWIST_NAMES),):
        raise ValueError(
            f"action has shape {twist.shape}, expected {(len(TWIST_NAMES),)} "
            f"for ({', '.join(TWIST_NAMES)})"
        )
    # Written so that NaN fails too.
    if not (np.abs(twist) <= 1.0).all():
        index = int(np.flatnonzero(~(np.abs(twist) <= 1.0))[0])
        raise ValueError(
            f"action {TWIST_NAMES[index]} is {twist[index]}, expected a finite value in [-1, 1]"
        )
    if frames < 1:
        raise ValueError(f"frames is {frames}, expected >= 1")
    motion = {
        name: np.full(frames, value * getattr(limits, name))
        for name, value in zip(TWIST_NAMES, twist, strict=True)
    }
    return Controls(**motion, roll=np.zeros(frames))
