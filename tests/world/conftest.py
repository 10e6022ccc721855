"""A tiny release on disk, written once for all tests that want one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The streaming release, a `tiny_release.Stack`."""
    pytest.importorskip("transformers")
    pytest.importorskip("diffusers", minversion="0.42")
    from tiny_release import Stack, write_release

    folder: Path = tmp_path_factory.mktemp("release")
    write_release(folder)
    return Stack(folder, tmp_path_factory.mktemp("prompts"))
