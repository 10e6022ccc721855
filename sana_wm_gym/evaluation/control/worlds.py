"""The world under test, with the weights that its results are signed with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sana_wm_gym.evaluation.bench.layout import BenchScene
from sana_wm_gym.evaluation.control.generate import whole_chunks
from sana_wm_gym.files import sha256
from sana_wm_gym.world.catalogue import (
    CLIP_GENERATORS,
    RELEASED_WORLDS,
    load_clip_generator,
    load_world,
)
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld
from sana_wm_gym.world.released.replay import ReplayWorld
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldModel


@dataclass(frozen=True)
class OpenedWorld:
    """A world and what it is.

    Attributes:
        world: The world.
        kind: `renderer` for exact frames, `learned` for a network.
        weights: File or folder of a network's weights; None for a renderer.
    """

    world: WorldModel[Any]
    kind: Literal["renderer", "learned"]
    weights: Path | None

    def for_scene(self, scene: BenchScene) -> WorldModel[Any]:
        """The world for one scene: a renderer makes frames as large as the scene's first, a
        generator of whole clips is told the scene's path; any other world is as it is."""
        if isinstance(self.world, ProceduralWorld):
            return replace(self.world, size=scene.image_size)
        if isinstance(self.world, ReplayWorld):
            return replace(self.world, plan=whole_chunks(scene.c2w))
        return self.world


@cache
def open_world(name: str) -> OpenedWorld:
    """A world or generator of the catalogue, or the world in a `.safetensors` world file.

    A network without a file of weights is refused: what random weights make is no result.

    Raises:
        ValueError: There is no world of this name, its weights are damaged, or nobody knows where
            its weights come from.
        FileNotFoundError: There is no such file, or a released world is not on this machine.
    """
    if name.endswith(".safetensors"):
        from sana_wm_gym.weights.world_file import read_world_file
        from sana_wm_gym.world.learned.world_files import world_of

        return OpenedWorld(world_of(read_world_file(Path(name))), "learned", Path(name))
    if name in CLIP_GENERATORS:
        generator = load_clip_generator(name)
        anywhere = np.repeat(np.eye(4)[None], CHUNK_FRAMES + 1, axis=0)
        return OpenedWorld(generator.replay(anywhere), "learned", released_weights(name))
    world = load_world(name)
    if isinstance(world, ProceduralWorld):
        return OpenedWorld(world, "renderer", None)
    weights = released_weights(name) if name in RELEASED_WORLDS else _embedded(name)
    return OpenedWorld(world, "learned", weights)


def released_weights(name: str) -> Path:
    """Where the weights of a released world's generator are on this machine.

    Raises:
        FileNotFoundError: They are not; says how to get them.
    """
    from sana_wm_gym.world.released.files import BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING

    for layout in (BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING):
        if name.startswith(layout.release):
            return layout.here().generator
    raise FileNotFoundError(f"no release is called {name!r}")


def _embedded(name: str) -> Path:
    from sana_wm_gym.weights.world_file import EMBEDDED

    # Worlds of one file may differ in how they compute.
    for weights in (
        EMBEDDED / f"{name}.safetensors",
        EMBEDDED / f"{name.split('-')[0]}.safetensors",
    ):
        if weights.is_file():
            return weights
    raise ValueError(
        f"world {name!r} has no file of weights at {EMBEDDED}: without one its frames may be "
        "those of random weights, which are never presented as a result"
    )


def weights_digest(weights: Path) -> str:
    """Digest of a file of weights, or of all files in a folder of them with their names."""
    if weights.is_file():
        return sha256(weights)
    digest = hashlib.sha256()
    for path in sorted(path for path in weights.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(weights).as_posix()} {sha256(path)}\n".encode())
    return digest.hexdigest()
