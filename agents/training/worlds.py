"""The world to act in: by name or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.world_model import Start, WorldModel


def open_world(name: str, kwargs: Mapping[str, Any] | None = None) -> WorldModel[Any]:
    """A world by any name that `catalogue.load_world` knows.

    Raises:
        ValueError: There is no world of this name, or its file is damaged.
        FileNotFoundError: There is no such file.
    """
    return load_world(name, kwargs)


def draw_start(world: WorldModel[Any], seed: int) -> Start | None:
    """The start that `world` draws for episode `seed`; None where it makes none of its own.

    It depends on the world's scenes and the seed alone, so that a world and its twin, or two
    policies, are compared from the same places.
    """
    import numpy as np

    if not world.spec.scenes:
        return None
    return world.sample_start(np.random.default_rng([seed, 0]))
