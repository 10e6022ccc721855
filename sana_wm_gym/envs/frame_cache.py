"""Decoded frames, kept as long as the world state that they show."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from sana_wm_gym.world.world_model import WorldModel


class FrameCache:
    """Frames of world states: decoded in one batch, and each only once.

    States are told apart by identity. States without weak references, such as tuples, are decoded
    at every call.

    Args:
        world: Decodes them.
    """

    _shared: ClassVar[weakref.WeakValueDictionary[int, FrameCache]] = weakref.WeakValueDictionary()

    @classmethod
    def of(cls, world: WorldModel[Any]) -> FrameCache:
        """The one cache that all environments of a world share."""
        # It keeps the world alive, so the id is taken as long as it is in the table.
        return cls._shared.setdefault(id(world), cls(world))

    def __init__(self, world: WorldModel[Any]) -> None:
        self._world = world
        # By id of the state and whether it is the last frame alone.
        self._known: dict[tuple[int, bool], tuple[weakref.ref[Any], Any]] = {}

    def __reduce__(self) -> tuple[Callable[[WorldModel[Any]], FrameCache], tuple[WorldModel[Any]]]:
        return FrameCache.of, (self._world,)

    def decode(self, states: Sequence[Any], last: bool = False) -> list[Any]:
        """As `WorldModel.decode`. Read only.

        Raises:
            ValueError: The world makes frames of another type or shape than its spec has.
        """
        shown = {id(state): self._look_up(state, last) for state in states}
        hidden = {id(state): state for state in states if shown[id(state)] is None}
        if hidden:
            made = self._world.decode(list(hidden.values()), last)
            for (key, state), frames in zip(hidden.items(), made, strict=True):
                self._check(frames, last)
                self._keep(state, last, frames)
                shown[key] = frames
        return [shown[id(state)] for state in states]

    def knows(self, state: Any) -> bool:
        """Whether a state's last frame need not be decoded any more."""
        return self._look_up(state, True) is not None

    def _look_up(self, state: Any, last: bool) -> Any:
        reference, frames = self._known.get((id(state), last), (None, None))
        if reference is not None and reference() is state:
            return frames
        whole = self._look_up(state, False) if last else None
        return None if whole is None else whole[-1]

    def _keep(self, state: Any, last: bool, frames: Any) -> None:
        known, key = self._known, (id(state), last)
        try:
            known[key] = weakref.ref(state, lambda _: known.pop(key, None)), frames
        except TypeError:
            return

    def _check(self, frames: Any, last: bool) -> None:
        spec = self._world.spec
        shape, frame = tuple(frames.shape), (*spec.size, 3)
        shapes = [frame] if last else [(1, *frame), (spec.frames_per_chunk, *frame)]
        if shape not in shapes or "uint8" not in str(frames.dtype):
            count = "" if last else f"{spec.frames_per_chunk} (or 1), "
            raise ValueError(
                f"world {spec.name!r} makes frames {frames.dtype} {shape}, "
                f"expected uint8 ({count}{', '.join(map(str, frame))})"
            )
