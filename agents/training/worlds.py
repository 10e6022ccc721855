"""The world to act in: by name or from a file."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from sana_wm_gym.world.catalogue import load_world
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
        from sana_wm_gym.world.learned.world_files import world_of

        return world_of(read_world_file(Path(name)))
    return load_world(name)


def draw_start(world: WorldModel[Any], seed: int) -> Start | None:
    """The start that `world` draws for episode `seed`; None where it makes none of its own.

    It depends on the world's scenes and the seed alone, so that a world and its twin, or two
    policies, are compared from the same places.
    """
    import numpy as np

    if not world.spec.scenes:
        return None
    return world.sample_start(np.random.default_rng([seed, 0]))
