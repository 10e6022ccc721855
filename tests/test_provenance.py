"""Where numbers come from."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from sana_wm_gym import __version__, provenance


def test_a_checkout_has_a_commit() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}(\+edited)?", provenance.commit())


@pytest.mark.parametrize("within", [False, True], ids=["no repository", "another's repository"])
def test_an_installed_package_has_a_version(
    within: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if within:
        subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    installed = tmp_path / "site-packages"
    installed.mkdir()
    monkeypatch.setattr(provenance, "_CHECKOUT", installed)
    assert provenance.commit() == f"version {__version__}"


def test_a_command_is_as_it_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["sana-wm demo", "--seed", "3"])
    assert provenance.provenance("sana-wm demo")["command"] == "sana-wm demo --seed 3"
    module = provenance.provenance("benchmarks.gallery")
    assert module["command"] == "python -m benchmarks.gallery --seed 3"
