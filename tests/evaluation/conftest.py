"""Small learned worlds."""

from __future__ import annotations

import pytest

from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.learned.world_files import world_of


@pytest.fixture(scope="module")
def small(small_world_file):
    return world_of(read_world_file(small_world_file))


@pytest.fixture(scope="module")
def courtyard(courtyard_world_file):
    return world_of(read_world_file(courtyard_world_file))
