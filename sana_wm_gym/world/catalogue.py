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


WORLDS: Mapping[str, Callable[[], WorldModel[Any]]] = MappingProxyType(
    {"tiny": _tiny, "procedural": _procedural}
)
"""Name -> loader. Each call loads anew; `load_world` shares."""


def load_world(name: str) -> WorldModel[Any]:
    """The process's one copy of a named world. Worlds hold no rollout state, so sharing is safe.

    Raises:
        ValueError: No world has this name, or its weights are damaged.
    """
    if name not in WORLDS:
        raise ValueError(f"unknown world {name!r}, expected one of {', '.join(sorted(WORLDS))}")
    return _load(name)


@cache
def _load(name: str) -> WorldModel[Any]:
    return WORLDS[name]()
