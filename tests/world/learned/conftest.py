"""The small learned worlds of these tests."""

from __future__ import annotations

import pytest
from learned_worlds import CONFIG, SPEC, localised, networks

from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import self_forcing


@pytest.fixture(scope="module")
def world() -> SanaWorld:
    return SanaWorld(SPEC, *networks(CONFIG), self_forcing((1000, 700, 0)), MemoryWindow(2))


@pytest.fixture(scope="module")
def placed() -> SanaWorld:
    return localised()
