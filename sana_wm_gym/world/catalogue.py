"""Worlds by name, and one shared copy of each world per process.

A name is one of the catalogue, a world file (`.safetensors`), one of the Hugging Face hub
(`hf://owner/name@commit`), `package.module:object`, or an entry point of the group
`sana_wm_gym.worlds`. An object or entry point is a world, or a function that makes one from keyword
arguments.
"""

from __future__ import annotations

import inspect
import json
import os
import pkgutil
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from threading import Lock
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sana_wm_gym.world.world_model import WorldModel

if TYPE_CHECKING:
    from sana_wm_gym.world.released.offline import OfflineGenerator

GROUP = "sana_wm_gym.worlds"
"""Entry points under which other packages offer worlds."""

Loader = Callable[..., Any]
JsonDict = Mapping[str, Any]


# Imported when called, so that a process pays for torch and weights only where it uses them.
def _call(target: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call "module:object"; ValueError if it takes no such arguments."""
    function = pkgutil.resolve_name(target)
    _check_arguments(target, function, *args, **kwargs)
    return function(*args, **kwargs)


def _check_arguments(name: str, function: Loader, /, *args: Any, **kwargs: Any) -> None:
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        raise ValueError(f"{name} does not take {kwargs}: {error}") from error


_FILES = "sana_wm_gym.world.learned.world_files"
_PROCEDURAL = "sana_wm_gym.world.procedural.procedural_world:ProceduralWorld"
_RELEASED = "sana_wm_gym.world.released"


def _twin(of: str = "tiny") -> WorldModel[Any]:
    twin: WorldModel[Any] = _call(f"{_PROCEDURAL}.twin", load_world(of).spec)
    return twin


def _world_file(path: str, /, **kwargs: Any) -> Any:
    file = _call("sana_wm_gym.weights.world_file:read_world_file", Path(path))
    return _call(f"{_FILES}:world_of", file, **kwargs)


def _hub_world(address: str, /, **kwargs: Any) -> Any:
    return _world_file(_call("sana_wm_gym.weights.hub:fetch_world", address), **kwargs)


def _release(layout: str, load: str, option: str, refined: bool, /, **kwargs: Any) -> Any:
    """A release loaded by `load`, which takes `option`; other arguments are those of `Loading`."""
    files = _call(f"{_RELEASED}.files:{layout}.here", refined)
    options = {option: kwargs.pop(option)} if option in kwargs else {}
    loading = _call(f"{_RELEASED}.loading:Loading", refined=refined, **kwargs)
    return _call(f"{_RELEASED}.{load}", files, loading, **options)


WORLDS: Mapping[str, Loader] = MappingProxyType(
    {
        "tiny": partial(_call, f"{_FILES}:load_tiny"),
        "tiny-bf16": partial(_call, f"{_FILES}:load_tiny_bf16"),
        "procedural": partial(_call, _PROCEDURAL),
        "twin": _twin,
    }
)
"""Name -> loader of the worlds that ship. Each call loads anew; `load_world` caches."""

_SUFFIXES = (("", False), ("-refined", True))

RELEASED_WORLDS: Mapping[str, Loader] = MappingProxyType(
    {
        f"sana-wm-streaming{suffix}": partial(
            _release, "STREAMING", "streaming:load_streaming", "size", refined
        )
        for suffix, refined in _SUFFIXES
    }
)
"""The same for worlds whose weights have to be fetched first."""

CLIP_GENERATORS: Mapping[str, Loader] = MappingProxyType(
    {
        f"sana-wm-{name}{suffix}": partial(
            _release, layout, "offline:load_offline", "steps", refined
        )
        for name, layout in (("bidirectional", "BIDIRECTIONAL"), ("chunk-causal", "CHUNK_CAUSAL"))
        for suffix, refined in _SUFFIXES
    }
)
"""Generators of whole clips, whose weights have to be fetched first:
`load_clip_generator(name).replay(plan)` makes a world of one."""


def load_world(
    name: str | os.PathLike[str], kwargs: JsonDict | None = None, *, code: bool = True
) -> WorldModel[Any]:
    """The process's one copy of a named world. Worlds hold no rollout state, so sharing is safe.

    Args:
        name: As the module describes.
        kwargs: JSON values for what loads it; other values, another copy.
        code: False refuses "package.module:object", for names that a data file holds.

    Raises:
        ValueError: No world has this name, its weights are damaged, or it takes no such arguments.
        FileNotFoundError: There is no such file, the hub has no such world, or a released world is
            not on this machine; states how to get it.
        ImportError: A world of the hub needs huggingface_hub.
    """
    text = os.fspath(name)
    if text in CLIP_GENERATORS:
        raise ValueError(
            f"{text!r} makes whole clips along a path that is known before the first step; "
            f"`catalogue.load_clip_generator({text!r}).replay(plan)` makes a world of it"
        )
    loader, version = _find(text, code)
    return _shared(text, loader, kwargs or {}, version)


def load_clip_generator(name: str, kwargs: JsonDict | None = None) -> OfflineGenerator:
    """The process's one copy of a generator of whole clips; arguments and errors as of
    `load_world`."""
    if name not in CLIP_GENERATORS:
        expected = ", ".join(sorted(CLIP_GENERATORS))
        raise ValueError(f"unknown generator {name!r}, expected one of {expected}")
    generator: OfflineGenerator = _shared(name, CLIP_GENERATORS[name], kwargs or {})
    return generator


def _find(name: str, code: bool) -> tuple[Loader, object]:
    """What loads a world, and what distinguishes versions of its file."""
    known = {**WORLDS, **RELEASED_WORLDS}
    if name in known:
        return known[name], None
    if name.endswith(".safetensors"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"no world file at {name}")
        about = os.stat(name)
        return partial(_world_file, name), (os.path.abspath(name), about.st_mtime_ns, about.st_size)
    if name.startswith("hf://"):
        return partial(_hub_world, name), None  # a commit does not change
    for point in entry_points(group=GROUP, name=name):
        return _as_loader(point.load()), None
    if ":" not in name:
        expected = ", ".join([*sorted(WORLDS), *RELEASED_WORLDS])
        raise ValueError(
            f"unknown world {name!r}, expected one of {expected}, a .safetensors world file, "
            f"hf://owner/name@commit, 'package.module:object' or an entry point of {GROUP}"
        )
    if not code:
        raise ValueError(f"world {name!r} is code, expected a name that runs none")
    try:
        found = pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no world {name!r}: {error}") from error
    return _as_loader(found), None


def _as_loader(found: Any) -> Loader:
    return found if callable(found) else lambda: found


_LOCKS: dict[object, Lock] = {}
_LOADED: dict[object, Any] = {}


def _shared(name: str, loader: Loader, kwargs: JsonDict, version: object = None) -> Any:
    _check_arguments(f"world {name!r}", loader, **kwargs)
    try:
        key = (name, version, json.dumps(dict(kwargs), sort_keys=True, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(f"world {name!r} does not take {dict(kwargs)}: {error}") from error
    with _LOCKS.setdefault(key, Lock()):
        if key not in _LOADED:
            _LOADED[key] = loader(**kwargs)
        return _LOADED[key]
