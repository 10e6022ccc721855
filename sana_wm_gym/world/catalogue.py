"""Worlds by name: a table of loaders, and one shared copy of each world per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from sana_wm_gym.world.world_model import WorldModel


# Imported inside, so that a process pays for torch and weights only where it uses them.
def _tiny() -> WorldModel[Any]:
    from sana_wm_gym.world.sana_world import load_tiny

    return load_tiny()


def _procedural() -> WorldModel[Any]:
    from sana_wm_gym.world.procedural import ProceduralWorld

    return ProceduralWorld()


def _streaming() -> WorldModel[Any]:
    from sana_wm_gym.world.released import load_streaming, streaming_files_here

    return load_streaming(streaming_files_here())


def _refined() -> WorldModel[Any]:
    from sana_wm_gym.world.released import load_streaming, streaming_files_here

    return load_streaming(streaming_files_here(refined=True), refined=True)


WORLDS: Mapping[str, Callable[[], WorldModel[Any]]] = MappingProxyType(
    {"tiny": _tiny, "procedural": _procedural}
)
"""Name -> loader of the worlds that ship. Each call loads anew; `load_world` shares."""

RELEASED_WORLDS: Mapping[str, Callable[[], WorldModel[Any]]] = MappingProxyType(
    {"sana-wm-streaming": _streaming, "sana-wm-streaming-refined": _refined}
)
"""The same for worlds whose weights have to be fetched first."""


def load_world(name: str) -> WorldModel[Any]:
    """The process's one copy of a named world. Worlds hold no rollout state, so sharing is safe.

    Raises:
        ValueError: No world has this name, or its weights are damaged.
        FileNotFoundError: A released world is not on this machine; says how to get it.
    """
    known = [*sorted(WORLDS), *sorted(RELEASED_WORLDS)]
    if name not in known:
        raise ValueError(f"unknown world {name!r}, expected one of {', '.join(known)}")
    return _load(name)


@cache
def _load(name: str) -> WorldModel[Any]:
    return {**WORLDS, **RELEASED_WORLDS}[name]()
