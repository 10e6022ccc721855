"""The world to act in: by name, from a file, or the ground-truth twin of another."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural import ProceduralWorld
from sana_wm_gym.world.world_model import Start, WorldModel


@cache
def open_world(name: str) -> WorldModel[Any]:
    """A world of the catalogue, or the one in a `.safetensors` world file.

    Raises:
        ValueError: There is no world of this name, or the file is damaged.
        FileNotFoundError: There is no such file.
    """
    if name.endswith(".safetensors"):
        from sana_wm_gym.weights.world_file import read_world_file
        from sana_wm_gym.world.sana_world import world_of

        return world_of(read_world_file(Path(name)))
    return load_world(name)


def twin(of: str) -> ProceduralWorld:
    """The ground truth of a named world: the same scenes, starts and motion, exact frames.

    Raises:
        ValueError: There is no world of this name, or it knows no procedural scenes.
        FileNotFoundError: There is no such file.
    """
    return ProceduralWorld.twin(open_world(of).spec)


def draw_start(world: WorldModel[Any], seed: int) -> Start | None:
    """The start that `world` draws for episode `seed`; None where it makes none of its own.

    It depends on the world's scenes and the seed alone, so that a world and its twin, or two
    policies, are compared from the same places.
    """
    import numpy as np

    if not world.spec.scenes:
        return None
    return world.sample_start(np.random.default_rng([seed, 0]))
