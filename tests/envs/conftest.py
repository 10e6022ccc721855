from __future__ import annotations

import pytest
from fake_world import FakeWorld


@pytest.fixture
def world() -> FakeWorld:
    return FakeWorld()
