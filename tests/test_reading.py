"""Files from elsewhere: bounds before work, special files refused, our own mistakes not hidden."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sana_wm_gym import files
from sana_wm_gym.camera import picture_files
from sana_wm_gym.camera.picture import rgb_picture
from sana_wm_gym.camera.picture_files import open_picture
from sana_wm_gym.camera.trajectory_files import read_trajectory
from sana_wm_gym.evaluation.bench.files import LARGEST_ARRAY, read_arrays, read_text
from sana_wm_gym.tensor_files import read_header, read_tensors
from sana_wm_gym.video import probe
from sana_wm_gym.weights.containers import open_container
from sana_wm_gym.weights.prompt_cache import read_embedding
from sana_wm_gym.weights.world_file import read_world_file

READERS: dict[str, Callable[[Path], Any]] = {
    "a.json": files.read_json,
    "a.png": rgb_picture,
    "a.npz": lambda path: read_arrays(path, ["c2w"]),
    "a.jsonl": read_text,
    "a.safetensors": read_header,
    "world.safetensors": read_world_file,
    "prompt.safetensors": read_embedding,
    "a.pt": open_container,
    "a.mp4": probe,
    "a.txt": lambda path: read_trajectory(path, "tum"),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "nothing"])
def test_only_regular_files_are_read(tmp_path: Path, name: str, kind: str) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with pytest.raises((FileNotFoundError, ValueError), match=name):
        READERS[name](path)


@pytest.mark.parametrize("name", READERS)
def test_rubbish_is_one_named_error(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    for content in (b"", b"no data\n", b"\x00" * 64, rng.bytes(4096)):
        (tmp_path / name).write_bytes(content)
        if name != "a.jsonl" or content[:1] not in (b"", b"n", b"\x00"):
            with pytest.raises(ValueError, match=name):
                READERS[name](tmp_path / name)


def zipped(path: Path, content: bytes, compression: int = zipfile.ZIP_DEFLATED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("c2w.npy", content)


def test_arrays_that_unfold_are_refused(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.zeros((4, 4)))
    small, path = content.getvalue(), tmp_path / "a.npz"
    zipped(path, small)
    assert read_arrays(path, ["c2w"])["c2w"].shape == (4, 4)
    zipped(path, small + bytes(LARGEST_ARRAY))
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match=rf"a\.npz.*expected at most {LARGEST_ARRAY}"):
        read_arrays(path, ["c2w"])
    for compression in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        zipped(path, small, compression)
        with pytest.raises(ValueError, match=r"a\.npz.*another way than NumPy does"):
            read_arrays(path, ["c2w"])
    # A declared shape that the member does not hold.
    zipped(path, small.replace(b"(4, 4)", b"(9, 9)"))
    with pytest.raises(ValueError, match=r"a\.npz"):
        read_arrays(path, ["c2w"])


def test_pictures_are_rasters_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.eps").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    with pytest.raises(ValueError, match=r"a\.eps is not a picture, expected PNG"):
        rgb_picture(tmp_path / "a.eps")
    Image.new("1", (40, 30)).save(tmp_path / "a.png")
    assert rgb_picture(tmp_path / "a.png").shape == (30, 40, 3)
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 1199)
    with pytest.raises(ValueError, match=r"a\.png .*40 x 30 pixels, expected at most 1199"):
        rgb_picture(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp", "gif", "ppm"])
def test_damaged_pictures_are_named(tmp_path: Path, suffix: str) -> None:
    rng, path = np.random.default_rng(0), tmp_path / f"a.{suffix}"
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    for at in rng.integers(0, len(whole), 30):
        for content in (whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :]):
            path.write_bytes(content)
            try:
                assert rgb_picture(path).ndim == 3
            except ValueError as error:
                assert path.name in str(error)  # noqa: PT017


def test_torch_files_are_stored_and_named_wherever_they_are_cut(tmp_path: Path) -> None:
    path, rng = tmp_path / "a.pt", np.random.default_rng(0)
    torch.save({"state_dict": {f"w{i}": torch.randn(20, 10) for i in range(4)}}, path)
    whole = path.read_bytes()
    assert len(open_container(path).stored) == 4
    for part in range(1, 40):
        path.write_bytes(whole[: len(whole) * part // 40])
        with pytest.raises(ValueError, match=r"a\.pt is truncated"):
            open_container(path)
    for at in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            open_container(path)
        except ValueError as error:
            assert "a.pt" in str(error)  # noqa: PT017
    path.write_bytes(whole)
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(tmp_path / "b.pt", "w", 8) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    with pytest.raises(ValueError, match=r"b\.pt .*compressed"):
        open_container(tmp_path / "b.pt")


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        ("files", "parse_json", lambda path: files.read_json(path)),
        ("tensor_files", "_size", lambda path: read_tensors(path, "x")),
        ("camera.picture_files", "require_file", lambda path: open_picture(path).__enter__()),
        ("evaluation.bench.files", "_npz", lambda path: read_arrays(path, ["c2w"])),
        ("weights.containers", "find_file", lambda path: open_container(path)),
        ("camera.trajectory_files", "_rows", lambda path: read_trajectory(path, "tum")),
    ],
)
def test_a_mistake_of_ours_is_no_damaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, call: Any
) -> None:
    def planted(*_: Any, **__: Any) -> None:
        raise AttributeError("planted")

    (tmp_path / "a").write_text("{}")
    monkeypatch.setattr(f"sana_wm_gym.{module}.{name}", planted)
    with pytest.raises(AttributeError, match="planted"):
        call(tmp_path / "a")
