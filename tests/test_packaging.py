"""What `setup.cfg` and `setup.py` put into the wheel; `.ci/wheel` tries one."""

from __future__ import annotations

import configparser
from pathlib import Path

from sana_wm_gym.extras import extras

ROOT = Path(__file__).parents[1]
FOLDERS = {"sana_wm_gym": "sana_wm_gym", "sana_wm_gym.agents": "agents", "sana_wm_gym.conf": "conf"}


def setup() -> configparser.ConfigParser:
    found = configparser.ConfigParser()
    found.read(ROOT / "setup.cfg", encoding="utf-8")
    return found


def test_every_data_file_is_installed() -> None:
    data = setup()["options.package_data"]
    for package, name in FOLDERS.items():
        folder = ROOT / name
        files = {p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
        installed = {p for pattern in data.get(package, "").split() for p in folder.glob(pattern)}
        assert {p for p in files - installed if p.suffix != ".py"} == set()


def test_every_folder_with_code_is_a_package() -> None:
    for name in FOLDERS.values():
        folders = {path.parent for path in (ROOT / name).rglob("*.py")}
        assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_extras_are_read_from_the_metadata() -> None:
    assert extras().keys() == setup()["options.extras_require"].keys()
    assert {"stable_baselines3", "hydra"} <= {*extras()["agents"]}
