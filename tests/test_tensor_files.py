"""Tensor files: what is in them comes back, and any damage is noticed by its digest."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sana_wm_gym.tensor_files import (
    read_header,
    read_tensors,
    read_values,
    write_tensors,
    write_values,
)

KIND = "sana_wm_gym/test/1"
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.ones(5, dtype=torch.bfloat16)}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_tensors(tmp_path / "file.safetensors", KIND, TENSORS, {"fact": 1})
    return tmp_path / "file.safetensors"


def test_every_flipped_bit_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=r"file\.safetensors"):
            read_tensors(path, KIND)


def test_every_cut_is_noticed(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"file\.safetensors"):
            read_tensors(path, KIND)


def test_tensors_come_back(path: Path) -> None:
    header, tensors = read_tensors(path, KIND)
    assert header == {"format": KIND, "fact": 1}
    assert tensors.keys() == TENSORS.keys()
    assert all(
        torch.equal(tensors[n], t) and tensors[n].dtype == t.dtype for n, t in TENSORS.items()
    )
    with pytest.raises(ValueError, match="has format 'sana_wm_gym/test/1'"):
        read_header(path, "sana_wm_gym/other/1")
    with pytest.raises(ValueError, match="damaged"):
        read_tensors(path, KIND, "numpy")


def test_a_file_without_a_digest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file(TENSORS, path, {"sana_wm_gym": json.dumps({"format": KIND})})
    assert read_header(path, KIND) == {"format": KIND}
    save_file(TENSORS, path)
    assert read_header(path) == {}


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000, '{"format": ' + "9" * 5000 + "}"])
def test_headers_that_are_no_objects(tmp_path: Path, text: str) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", {"sana_wm_gym": text})
    with pytest.raises(ValueError, match=r"x\.safetensors: the header"):
        read_header(tmp_path / "x.safetensors", KIND)


def test_a_declared_header_is_not_allocated(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", 2**40) + b"{}")
    with pytest.raises(ValueError, match="1099511627776 bytes"):
        read_header(tmp_path / "x")


def test_values_come_back_with_their_layout(tmp_path: Path) -> None:
    image = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    values = {
        "state": {0: {"step": torch.tensor(3), "mean": image}, 1: (1, -0.0, float("inf"), None)},
        "names": ["a", ("b", True), [], (), {}],
        "large": 2**127,
        "same": image,
        "part": image[0, :, 0],
        "empty": torch.zeros(0, 3),
    }
    write_values(tmp_path / "x", KIND, values)
    found = read_values(tmp_path / "x", KIND)

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return str(value.dtype), value.stride(), value.tolist()
        if isinstance(value, dict):
            return {name: plain(part) for name, part in value.items()}
        return type(value)(map(plain, value)) if isinstance(value, list | tuple) else value

    values["part"] = image[0, :, 0].clone()  # alone, it is not strided
    assert plain(found) == plain(values)
    with pytest.raises(TypeError, match=r"a\.0 is a ndarray"):
        write_values(tmp_path / "x", KIND, {"a": [np.zeros(2)]})


@pytest.mark.parametrize(
    "document",
    [
        None,
        [1],
        {"tensor": ["b", [0]]},
        {"dict": [["x", {"tensor": ["b", [0]]}]]},
        {"dict": [["x", {"tensor": ["b", [0, 0]]}]]},
        {"dict": [["x", {"tensor": ["b", ["0", None]]}]]},
        {"dict": [["x", {"tensor": ["c", [0, 1]]}]]},
        {"dict": [["x", {"tensor": 3}]]},
        {"dict": [["x"]]},
        {"dict": [[None, 1]]},
        {"dict": 5},
        {"other": []},
        {"tuple": [], "dict": []},
        {},
    ],
)
def test_values_that_are_none(tmp_path: Path, document: Any) -> None:
    write_tensors(tmp_path / "x", KIND, TENSORS, {"values": document})
    with pytest.raises(ValueError, match="x does not hold values of 'sana_wm_gym/test/1'"):
        read_values(tmp_path / "x", KIND)
