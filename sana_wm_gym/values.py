"""Dataclasses of arrays as flat dicts of named arrays, and back: how states become files.

    arrays = pack(state)  # {"image": ..., "camera.c2w": ..., "blocks.0.tail@bfloat16": ...}
    state = unpack(State, arrays, shapes={"image": (64, 64, 3), "camera.c2w": (None, 4, 4)})

`pack` reads values, `unpack` the annotations of the class. A field may be

- a NumPy array, or a torch tensor if the caller has imported torch (bfloat16 as its bits);
- an int, float, bool or str: a scalar array;
- a tuple of those, or a frozenset of str: one array with one axis;
- a dataclass: "field.name" for its fields; a tuple of others: "field.0", "field.1", ...;
- any of these or None: None has no array, and a dataclass without arrays comes back as None;
- one of several dataclasses: the first whose field names fit.

Fields with `field(metadata={"packed": False})`, such as caches, are left out and get their default.
Annotations must be readable at run time (no `TYPE_CHECKING` imports). Ranges, and what must hold
between fields, are for the dataclass's own `__post_init__`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from sana_wm_gym.checks import require_number, require_shapes

Arrays = dict[str, npt.NDArray[Any]]
Shape = tuple[int | None, ...]
ValueT = TypeVar("ValueT")

_BFLOAT16 = "@bfloat16"  # ends the name of an array of the bits of numbers that NumPy lacks
_PLAIN = (bool, int, float, str, np.generic)
_SCALARS = {bool: "b", int: "iu", float: "fiu", str: "U"}  # with the kinds of dtypes that hold them


def pack(value: Any, name: str = "") -> Arrays:
    """The arrays of a dataclass by dotted name, below `name` if given; arrays are not copied.

    Raises:
        TypeError: A field holds something that the module does not list.
    """
    torch: Any = sys.modules.get("torch")
    if value is None:
        return {}
    if isinstance(value, np.ndarray):
        return {name: value}
    if torch is not None and isinstance(value, torch.Tensor):
        tensor = value.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            return {name + _BFLOAT16: tensor.contiguous().view(torch.uint16).numpy()}
        return {name: tensor.numpy()}
    if is_dataclass(value):
        parts = {key: getattr(value, key) for key in _packed(value)}
    elif isinstance(value, tuple) and not all(isinstance(part, _PLAIN) for part in value):
        parts = {str(index): part for index, part in enumerate(value)}
    elif isinstance(value, (*_PLAIN, tuple, frozenset)):
        return {name: np.array(sorted(value) if isinstance(value, frozenset) else value)}
    else:
        raise TypeError(f"{name} is a {type(value).__name__}, which cannot be packed")
    return {k: a for key, part in parts.items() for k, a in pack(part, _join(name, key)).items()}


def unpack(
    kind: type[ValueT],
    arrays: Mapping[str, npt.NDArray[Any]],
    *,
    shapes: Mapping[str, Shape] | None = None,
    kinds: Mapping[str, Any] | None = None,
    device: Any = None,
) -> ValueT:
    """Inverse of `pack`.

    Args:
        kind: The dataclass.
        arrays: By dotted name.
        shapes: Expected shape of arrays by dotted name, where they are given; None in a shape
            stands for any length.
        kinds: What a field is, by dotted name, where its annotation is `Any`.
        device: Where tensors are put; the CPU by default.

    Raises:
        ValueError: An array is missing or unknown, or has another shape or a dtype that does not
            fit; names it.
        TypeError: An annotation is none that the module lists.
    """
    reader = _Reader(kind.__name__, dict(arrays), shapes or {}, kinds or {}, device)
    value: ValueT = reader.read(kind, "")
    if reader.left:
        raise ValueError(f"{kind.__name__} has unknown arrays {sorted(reader.left)}")
    return value


@dataclass
class _Reader:
    what: str
    left: Arrays  # not read yet
    shapes: Mapping[str, Shape]
    kinds: Mapping[str, Any]
    device: Any

    def read(self, kind: Any, name: str) -> Any:
        origin, args = get_origin(kind), get_args(kind)
        below = [n[len(name) + 1 :] for n in self.left if n.startswith(name + ".")]
        if origin in (Union, UnionType):
            if NoneType in args and not below and not {name, name + _BFLOAT16} & self.left.keys():
                return None
            kinds = [a for a in args if a is not NoneType]
            heads = {n.removesuffix(_BFLOAT16).split(".")[0] for n in below}
            options = [a for a in kinds if len(kinds) == 1 or heads <= set(_packed(a))]
            if not options:
                raise ValueError(f"{self.what} has {name}.{sorted(heads)}, expected {kind}")
            return self.read(options[0], name)
        if is_dataclass(kind):
            build: Any = kind
            hints, paths = get_type_hints(kind), {key: _join(name, key) for key in _packed(kind)}
            return build(**{k: self.read(self.kinds.get(p, hints[k]), p) for k, p in paths.items()})
        if origin is tuple and args[0] not in _SCALARS:
            if args[-1] is Ellipsis:
                self.left.pop(name, None)  # stands for an empty tuple
                args = args[:1] * len({n.removesuffix(_BFLOAT16).split(".")[0] for n in below})
            return tuple(self.read(a, f"{name}.{index}") for index, a in enumerate(args))
        if kind is getattr(sys.modules.get("torch"), "Tensor", ""):
            return self._tensor(name)
        array = self._take(name)
        if origin is np.ndarray:
            [dtype] = get_args(args[1]) or [Any]
            if dtype not in np.sctypeDict.values():
                return array
            self._check(np.can_cast(array.dtype, dtype, "same_kind"), array, dtype, name)
            return np.asarray(array, dtype)
        scalar = args[0] if origin in (tuple, frozenset) else kind
        if scalar not in _SCALARS:
            raise TypeError(f"{self.what}.{name} is annotated {kind}, which cannot be unpacked")
        length = len(args) if origin is tuple and args[-1] is not Ellipsis else None
        require_shapes(self.what, {name: array}, {name: (length,) if origin else ()})
        fits = not array.size or array.dtype.kind in _SCALARS[scalar]
        self._check(fits, array, scalar, name)
        values = map(scalar, array.ravel().tolist())
        return origin(values) if origin else next(values)

    def _take(self, name: str) -> npt.NDArray[Any]:
        if name not in self.left:
            raise ValueError(f"{self.what} has no array {name!r}, given {sorted(self.left)}")
        array = self.left.pop(name)
        shape = self.shapes.get(name.removesuffix(_BFLOAT16))
        if shape is not None:
            require_shapes(self.what, {name: array}, {name: shape})
        return array

    def _check(self, fits: bool, array: npt.NDArray[Any], kind: type, name: str) -> None:
        if not fits:
            raise ValueError(f"{self.what} array {name!r} is {array.dtype}, expected {kind}")

    def _tensor(self, name: str) -> Any:
        torch: Any = sys.modules["torch"]
        if name + _BFLOAT16 in self.left:
            bits = torch.from_numpy(np.array(self._take(name + _BFLOAT16)))
            return bits.view(torch.bfloat16).to(self.device)
        return torch.from_numpy(np.array(self._take(name))).to(self.device)


def from_json(kind: type[ValueT], document: Any, what: str) -> ValueT:
    """A dataclass from JSON values, by the annotations of its fields: numbers, bools, strings,
    other dataclasses, tuples of those, dicts of anything, or None.

    Args:
        kind: The dataclass.
        document: JSON values; lists become tuples, and fields with a default may be left out.
        what: Begins error messages, such as "FILE: generator".

    Raises:
        ValueError: A field is missing, unknown or of another type, a number is not finite, or the
            class refuses a value.
    """
    value: ValueT = _of_json(kind, document, what)
    return value


def _of_json(kind: Any, value: Any, what: str) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        if value is None and NoneType in args:
            return None
        [kind] = [a for a in args if a is not NoneType]
        return _of_json(kind, value, what)
    kind = dict if origin is dict else kind
    if origin is tuple:
        repeated = args[-1] is Ellipsis
        if not isinstance(value, list | tuple) or not (repeated or len(value) == len(args)):
            raise ValueError(f"{what} is {value!r:.60}, expected {kind}")
        kinds = args[:1] * len(value) if repeated else args
        parts = enumerate(zip(kinds, value, strict=True))
        return tuple(_of_json(a, part, f"{what}[{index}]") for index, (a, part) in parts)
    if is_dataclass(kind):
        known = {field.name: field for field in fields(kind)}
        if not isinstance(value, dict):
            raise ValueError(f"{what} is {value!r:.60}, expected an object")
        needed = {n for n, f in known.items() if f.default is f.default_factory is MISSING}
        lacks, unknown = sorted(needed - value.keys()), sorted(value.keys() - known.keys())
        if lacks or unknown:
            raise ValueError(f"{what} lacks {lacks} and has unknown {unknown}")
        hints = get_type_hints(kind)
        arguments = {n: _of_json(hints[n], part, f"{what}.{n}") for n, part in value.items()}
        build: Any = kind
        try:
            return build(**arguments)
        except ValueError as error:
            raise ValueError(f"{what}: {error}") from error
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{what} is {value!r:.60}, expected {kind.__name__}")
    return require_number(what, value) if kind is float else value


def equal(a: Any, b: Any) -> bool:
    """Whether two values hold the same: dataclasses field by field (those that compare), tuples,
    lists and mappings entry by entry, arrays and tensors of one shape and type bit for bit."""
    if is_dataclass(a) and not isinstance(a, type):
        if type(a) is not type(b):
            return False
        names = [field.name for field in fields(a) if field.compare]
        return all(equal(getattr(a, name), getattr(b, name)) for name in names)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, tuple | list) and isinstance(b, tuple | list):
        return len(a) == len(b) and all(map(equal, a, b))
    if hasattr(a, "dtype") and hasattr(b, "dtype"):
        if type(a) is not type(b) or a.dtype != b.dtype or a.shape != b.shape:
            return False
        same: Any = (a == b) | ((a != a) & (b != b))  # NaN is itself
        return bool(same.all())
    return bool(a == b)


def _packed(kind: Any) -> list[str]:
    return [f.name for f in fields(kind) if f.metadata.get("packed", True)]


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key
