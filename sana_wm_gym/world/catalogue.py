"""Worlds by name: a table of loaders, and one shared copy of each world per process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sana_wm_gym.world.world_model import WorldModel

if TYPE_CHECKING:
    from sana_wm_gym.world.released.offline import OfflineGenerator


# Imported inside, so that a process pays for torch and weights only where it uses them.
def _tiny() -> WorldModel[Any]:
    from sana_wm_gym.world.learned.world_files import load_tiny

    return load_tiny()


def _tiny_bf16() -> WorldModel[Any]:
    from sana_wm_gym.world.learned.world_files import load_tiny_bf16

    return load_tiny_bf16()


def _procedural() -> WorldModel[Any]:
    from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

    return ProceduralWorld()


def _twin() -> WorldModel[Any]:
    from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

    return ProceduralWorld.twin(load_world("tiny").spec)


def _streaming() -> WorldModel[Any]:
    from sana_wm_gym.world.released.streaming import load_streaming, streaming_files_here

    return load_streaming(streaming_files_here())


def _refined() -> WorldModel[Any]:
    from sana_wm_gym.world.released.streaming import load_streaming, streaming_files_here

    return load_streaming(streaming_files_here(refined=True), refined=True)


def _offline(variant: str, refined: bool) -> OfflineGenerator:
    from sana_wm_gym.weights.names import Variant
    from sana_wm_gym.world.released.offline import LAYOUTS, load_offline

    kind = Variant(variant)
    return load_offline(LAYOUTS[kind].here(refined), kind, refined=refined)


WORLDS: Mapping[str, Callable[[], WorldModel[Any]]] = MappingProxyType(
    {"tiny": _tiny, "tiny-bf16": _tiny_bf16, "procedural": _procedural, "twin": _twin}
)
"""Name -> loader of the worlds that ship. Each call loads anew; `load_world` shares."""

RELEASED_WORLDS: Mapping[str, Callable[[], WorldModel[Any]]] = MappingProxyType(
    {"sana-wm-streaming": _streaming, "sana-wm-streaming-refined": _refined}
)
"""The same for worlds whose weights have to be fetched first."""

CLIP_GENERATORS: Mapping[str, Callable[[], OfflineGenerator]] = MappingProxyType(
    {
        f"sana-wm-{name}{suffix}": partial(_offline, variant, refined)
        for name, variant in (("bidirectional", "bidirectional"), ("chunk-causal", "chunk_causal"))
        for suffix, refined in (("", False), ("-refined", True))
    }
)
"""Generators of whole clips, whose weights have to be fetched first. They are no worlds until they
have a plan: `load_clip_generator(name).replay(plan)` is one."""


def load_world(name: str) -> WorldModel[Any]:
    """The process's one copy of a named world. Worlds hold no rollout state, so sharing is safe.

    Raises:
        ValueError: No world has this name, or its weights are damaged.
        FileNotFoundError: A released world is not on this machine; says how to get it.
    """
    if name in CLIP_GENERATORS:
        raise ValueError(
            f"{name!r} makes whole clips along a path that is known before the first step; "
            f"`catalogue.load_clip_generator({name!r}).replay(plan)` makes a world of it"
        )
    known = [*sorted(WORLDS), *sorted(RELEASED_WORLDS)]
    if name not in known:
        raise ValueError(f"unknown world {name!r}, expected one of {', '.join(known)}")
    return _load(name)


def load_clip_generator(name: str) -> OfflineGenerator:
    """The process's one copy of a generator of whole clips.

    Raises:
        ValueError: None has this name, or its weights are damaged.
        FileNotFoundError: It is not on this machine; says how to get it.
    """
    if name not in CLIP_GENERATORS:
        expected = ", ".join(sorted(CLIP_GENERATORS))
        raise ValueError(f"unknown generator {name!r}, expected one of {expected}")
    return _load_clip_generator(name)


@cache
def _load(name: str) -> WorldModel[Any]:
    return {**WORLDS, **RELEASED_WORLDS}[name]()


@cache
def _load_clip_generator(name: str) -> OfflineGenerator:
    return CLIP_GENERATORS[name]()
