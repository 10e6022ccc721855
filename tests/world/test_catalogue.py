"""Worlds by name: where a name can come from, and that a world is loaded once."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import pytest
from chunk_worlds import TOY, ChunkWorld

from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.world import catalogue
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld


def test_names_of_every_kind(small_world_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = SimpleNamespace(load=lambda: ChunkWorld)
    found = {("sana_wm_gym.worlds", "mine"): [point]}
    monkeypatch.setattr(catalogue, "entry_points", lambda group, name: found.get((group, name), []))
    assert load_world("chunk_worlds:TOY") is TOY
    assert load_world("chunk_worlds:make", {"frames": 5}).spec.frames_per_chunk == 5
    assert load_world("mine", {"frames": 7}).spec.frames_per_chunk == 7
    assert load_world(small_world_file).spec.name == "small"
    assert load_world(str(small_world_file)) is load_world(small_world_file)
    assert load_world("twin", {"of": str(small_world_file)}).spec.scenes == (5,)
    settings = {"size": [16, 24], "limits": {"forward": 0.5}, "name": "mine"}
    world: Any = load_world("procedural", settings)
    assert world.size == (16, 24) and world.limits.forward == 0.5 and world.name == "mine"


def test_a_world_is_shared_by_name_and_arguments() -> None:
    one = load_world("procedural", {"size": [8, 8], "scenes": [1]})
    assert load_world("procedural", {"scenes": [1], "size": [8, 8]}) is one
    assert load_world("procedural") is not one
    assert load_world("chunk_worlds:make") is not load_world("chunk_worlds:make", {"frames": 12})


def test_environments_take_names_and_arguments() -> None:
    options: dict[str, Any] = {"world": "chunk_worlds:make", "world_kwargs": {"frames": 3}}
    env: Any = gym.make("SanaWM/World-v0", **options)
    envs: Any = gym.make_vec("SanaWM/World-v0", num_envs=2, **options)
    assert env.unwrapped.world is envs.world
    assert env.unwrapped.world.spec.frames_per_chunk == 3
    with pytest.raises(ValueError, match="world_kwargs are for a world that is named"):
        SanaWMVectorEnv(2, TOY, world_kwargs={"frames": 3})


@pytest.mark.parametrize(
    ("name", "kwargs", "message"),
    [
        ("nowhere", None, "unknown world 'nowhere', expected one of procedural, tiny, "),
        ("no_such_module:make", None, "no world 'no_such_module:make': No module named"),
        ("chunk_worlds:nothing", None, "no world .*: .* no attribute 'nothing'"),
        ("chunk_worlds:make", {"colour": "red"}, "does not take {'colour': 'red'}"),
        ("procedural", {"colour": "red"}, "does not take {'colour': 'red'}"),
        ("procedural", {"scenes": {1}}, "does not take .* not JSON serializable"),
        ("tiny", {"autocast_dtype": "bfloat17"}, "autocast_dtype is 'bfloat17'"),
        ("tiny", {"device": "mps"}, "device is 'mps', which is not supported; expected cpu, cuda"),
    ],
)
def test_names_and_arguments_that_make_no_world(name: str, kwargs: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_world(name, kwargs)


def test_names_out_of_files_run_no_code() -> None:
    with pytest.raises(ValueError, match="world 'chunk_worlds:make' is code"):
        load_world("chunk_worlds:make", code=False)
    assert load_world("procedural", code=False).spec.name == "procedural"
    with pytest.raises(FileNotFoundError, match=r"no world file at gone\.safetensors"):
        load_world("gone.safetensors")


def test_many_threads_load_one_copy() -> None:
    start, made, got = threading.Barrier(6), [], []

    def slow(**kwargs: Any) -> ProceduralWorld:
        made.append(1)
        threading.Event().wait(0.05)
        return ProceduralWorld()

    def load() -> None:
        start.wait()
        got.append(catalogue._shared("slow", slow, {}))

    threads = [threading.Thread(target=load) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len({id(world) for world in got}) == 1
