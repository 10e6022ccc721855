"""Damaged and crafted datasets: one ValueError that names the file, and nothing is run."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("minari")

import h5py

from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import DatasetRecorder, open_dataset, read_episodes

NAME = "g/e-v0"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with DatasetRecorder(SanaWMEnv("procedural", task="image_goal"), NAME, folder) as env:
        for seed in range(2):
            env.reset(seed=seed)
            for _ in range(2):
                env.step(env.action_space.sample())
    return folder


@pytest.fixture
def data(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    return tmp_path / NAME / "data"


def read(data: Path) -> list[Any]:
    return read_episodes(open_dataset(NAME, data.parents[2]), [0, 1])


@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5"])
def test_damage_is_named_or_harmless(data: Path, name: str) -> None:
    assert [len(one.actions) for one in read(data)] == [2, 2]
    path, rng = data / name, np.random.default_rng(0)
    content = path.read_bytes()
    changed = [content[: int(at)] for at in rng.integers(0, len(content), 5)]
    for at in rng.integers(0, len(content), 20):
        changed.append(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
    for damaged in (b"no data\n", b"", *changed):
        path.write_bytes(damaged)
        with suppress(ValueError):
            assert len(read(data)) == 2
            continue
        with pytest.raises(ValueError, match=f"{name}|main_data.hdf5"):
            read(data)


def edit(data: Path, changes: dict[str, Any]) -> None:
    path = data / "metadata.json"
    document = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({k: v for k, v in document.items() if v is not None}))


@pytest.mark.parametrize("without", [(), ("observation_space",), ("action_space",)])
def test_no_entry_point_is_called(data: Path, without: tuple[str, ...]) -> None:
    marker = data / "EXECUTED"
    spec = {
        "id": "Any-v0",
        "entry_point": "subprocess:run",
        "kwargs": {"args": ["touch", str(marker)]},
    }
    edit(data, {"env_spec": json.dumps(spec), **dict.fromkeys(without)})
    with pytest.raises(ValueError, match=r"metadata\.json"):
        read(data)
    assert not marker.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"data_format": "arrow"},
        {"total_episodes": "2"},
        {"total_steps": 1.5},
        {"observation_space": "[]"},
        {"observation_space": {}},
        {"action_space": json.dumps({"type": "Box"})},
        {"env_spec": "7"},
        {"dataset_id": None},
        {"minari_version": "99"},
    ],
)
def test_metadata_that_does_not_fit(data: Path, changes: dict[str, Any]) -> None:
    edit(data, changes)
    with pytest.raises(ValueError, match=r"metadata\.json"):
        read(data)


def test_arrays_that_unfold_and_links_are_refused(data: Path) -> None:
    path = data / "main_data.hdf5"
    content = path.read_bytes()
    with h5py.File(path, "a") as file:
        del file["episode_0/rewards"]
        file.create_dataset("episode_0/rewards", (2**40,), np.float32, chunks=(2**16,))
    with pytest.raises(ValueError, match=r"main_data\.hdf5 is damaged: its arrays have"):
        read(data)
    path.write_bytes(content)
    with h5py.File(path, "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = h5py.ExternalLink(str(path), "episode_1/rewards")
    with pytest.raises(ValueError, match="has links"):
        read(data)
    path.write_bytes(content)
    with h5py.File(path, "a") as file:
        del file["episode_0/rewards"]
        file["episode_0/rewards"] = np.zeros(3)
    with pytest.raises(ValueError, match="several lengths"):
        read(data)
