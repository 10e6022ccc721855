"""Reference data of the camera tests: numbers made by the public SANA-WM code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
Arrays = dict[str, npt.NDArray[Any]]


def load(name: str) -> Arrays:
    with np.load(GOLDEN / name) as data:
        return dict(data)


@pytest.fixture(scope="session")
def facts() -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((GOLDEN / "camera.json").read_text())
    return facts


@pytest.fixture(scope="session")
def actions() -> Arrays:
    return load("camera_actions.npz")


@pytest.fixture(scope="session")
def intrinsics_cases() -> Arrays:
    return load("camera_intrinsics.npz")


@pytest.fixture(scope="session")
def model_inputs() -> Arrays:
    return load("camera_model_inputs.npz")
