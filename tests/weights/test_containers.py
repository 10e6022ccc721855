"""Containers give back what was written, and damaged ones are refused before values are read."""

from __future__ import annotations

import json
import pickle

import pytest
import torch
from safetensors.torch import save_file

from sana_wm_gym.weights import containers
from sana_wm_gym.weights.containers import find_file, open_container

VALUES = {f"t{i}": torch.full((3, 4), float(i)) for i in range(5)}


def write(folder, kind):
    """The same tensors in one of the containers; returns the path to open."""
    file = folder / ("model.pt" if kind.startswith("pt") else "model.safetensors")
    if kind == "safetensors":
        save_file(VALUES, file)
    elif kind == "shards":
        names = ["a-00001-of-00002.safetensors", "a-00002-of-00002.safetensors"]
        halves = {"t0": 0, "t1": 1, "t2": 0, "t3": 1, "t4": 1}
        for i, name in enumerate(names):
            save_file({n: t for n, t in VALUES.items() if halves[n] == i}, folder / name)
        file = folder / "a.safetensors.index.json"
        file.write_text(json.dumps({"weight_map": {n: names[i] for n, i in halves.items()}}))
    elif kind == "pt flat":
        torch.save(VALUES, file)
    elif kind == "pt state_dict":
        torch.save({"state_dict": VALUES, "epoch": 3}, file)
    elif kind == "pt generator":
        torch.save({"generator": VALUES, "critic": {"x": torch.ones(1)}}, file)
    return file


KINDS = ["safetensors", "shards", "pt flat", "pt state_dict", "pt generator"]


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_values_come_back(tmp_path, monkeypatch, kind, whole):
    if not whole:  # every tensor from a mapping of its own
        monkeypatch.setattr(containers, "SMALLEST_SPAN", 1)
    opened = open_container(write(tmp_path, kind))
    assert opened.stored.keys() == VALUES.keys()
    assert all(item.shape == (3, 4) and item.dtype == "float32" for item in opened.stored.values())
    read = {name: tensor.clone() for name, tensor in opened.read(["t3", "t0", "t1"])}
    assert read.keys() == {"t3", "t0", "t1"}
    assert all(torch.equal(tensor, VALUES[name]) for name, tensor in read.items())


@pytest.mark.parametrize("kind", KINDS)
def test_folders_open_as_their_file(tmp_path, kind):
    (tmp_path / "dit").mkdir()
    file = write(tmp_path / "dit", kind)
    assert find_file(tmp_path) == find_file(tmp_path / "dit") == file


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.99])
def test_truncated_files_are_refused(tmp_path, kind, kept):
    file = write(tmp_path, kind)
    part = tmp_path / "a-00002-of-00002.safetensors" if kind == "shards" else file
    part.write_bytes(part.read_bytes()[: int(kept * part.stat().st_size)])
    with pytest.raises(ValueError, match=f"{part.name} is truncated, damaged or of another format"):
        open_container(file)


def test_shards_and_index_have_to_agree(tmp_path):
    index = write(tmp_path, "shards")
    second = tmp_path / "a-00002-of-00002.safetensors"
    save_file({"t1": torch.ones(1), "odd": torch.ones(1)}, second)
    with pytest.raises(ValueError, match=r"lacks \['t3', 't4'\], has unlisted \['odd'\]"):
        open_container(index)
    second.unlink()
    with pytest.raises(FileNotFoundError, match="shards that are not there.*00002-of-00002"):
        open_container(index)
    index.write_text("[]")
    with pytest.raises(ValueError, match="not an index of shards"):
        open_container(index)


def test_only_tensors_of_floating_point(tmp_path):
    torch.save({"state_dict": {"a": torch.ones(2), "step": 3}}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="step is int; expected a tensor of floating point"):
        open_container(tmp_path / "a.pt")
    torch.save([1, 2], tmp_path / "a.pt")
    with pytest.raises(ValueError, match="holds a list; expected a state dict"):
        open_container(tmp_path / "a.pt")
    save_file({"a": torch.ones(2, dtype=torch.int8)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="a holds I8 values; expected one of"):
        open_container(tmp_path / "a.safetensors")


class Harmful:
    """Would run code when it is unpickled."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('code from a checkpoint ran')",))


def test_code_in_a_torch_file_does_not_run(tmp_path):
    torch.save({"state_dict": Harmful()}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="truncated, damaged or of another format"):
        open_container(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(ValueError, match="truncated, damaged or of another format"):
        open_container(tmp_path / "a.pt")


def test_other_paths_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        open_container(tmp_path / "nothing")
    with pytest.raises(ValueError, match="holds no checkpoint, nor does dit or"):
        open_container(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(ValueError, match="is not a checkpoint"):
        open_container(tmp_path / "a.txt")
    for name in ("a", "b"):
        save_file(VALUES, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"several checkpoints \['a.safetensors', 'b"):
        open_container(tmp_path)
