"""The world under test, with the weights that its results are signed with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural import ProceduralWorld
from sana_wm_gym.world.world_model import WorldModel


@dataclass(frozen=True)
class OpenedWorld:
    """A world and what it is.

    Attributes:
        world: The world.
        kind: `renderer` for exact frames, `learned` for a network.
        weights: File of a network's weights; None for a renderer.
    """

    world: WorldModel[Any]
    kind: Literal["renderer", "learned"]
    weights: Path | None

    def for_size(self, size: tuple[int, int]) -> WorldModel[Any]:
        """The world for first frames (height, width); only a renderer has a choice."""
        if isinstance(self.world, ProceduralWorld):
            return replace(self.world, size=size)
        return self.world


@cache
def open_world(name: str) -> OpenedWorld:
    """A world of the catalogue, or the one in a `.safetensors` world file.

    A network without a file of weights is refused: what random weights make is no result.

    Raises:
        ValueError: There is no world of this name, its weights are damaged, or nobody knows where
            its weights come from.
        FileNotFoundError: There is no such file.
    """
    if name.endswith(".safetensors"):
        from sana_wm_gym.weights.world_file import read_world_file
        from sana_wm_gym.world.sana_world import world_of

        return OpenedWorld(world_of(read_world_file(Path(name))), "learned", Path(name))
    world = load_world(name)
    if isinstance(world, ProceduralWorld):
        return OpenedWorld(world, "renderer", None)
    from sana_wm_gym.weights.world_file import EMBEDDED

    weights = EMBEDDED / f"{name}.safetensors"
    if not weights.is_file():
        raise ValueError(
            f"world {name!r} has no file of weights at {weights}: without one its frames may be "
            "those of random weights, which are never presented as a result"
        )
    return OpenedWorld(world, "learned", weights)
