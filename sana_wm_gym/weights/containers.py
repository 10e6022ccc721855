"""Files of tensors, opened without reading their values: safetensors, shards and torch files.

Values are read in spans: every page of a mapped file that was read counts as memory of the process,
so a file is mapped anew for each span and no more than a hundredth of it is held at a time.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import prod
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sana_wm_gym.weights.names import FOLDERS, NESTS

INDEX = ".safetensors.index.json"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
SMALLEST_SPAN = 2**20
SPANS = 100

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}


@dataclass(frozen=True)
class Stored:
    """One tensor in a file: its shape, and its dtype as torch writes it, such as "float32"."""

    file: Path
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of its values."""
        return prod(self.shape) * int(getattr(torch, self.dtype).itemsize)


@dataclass(frozen=True)
class Container:
    """An opened checkpoint: what is in it and where, no values.

    Attributes:
        files: Its files, at least one.
        stored: Tensors by the names in the files.
        metadata: Header texts of the first safetensors file.
    """

    files: tuple[Path, ...]
    stored: Mapping[str, Stored]
    metadata: Mapping[str, str]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Values of some tensors, one at a time, file by file.

        A tensor is valid until the next one is read; copy what is to stay.

        Raises:
            ValueError: A file is damaged.
        """
        wanted = sorted(names, key=lambda name: self.files.index(self.stored[name].file))
        for file, group in groupby(wanted, key=lambda name: self.stored[name].file):
            limit = max(SMALLEST_SPAN, file.stat().st_size // SPANS)
            span: list[str] = []
            size = 0
            for name in group:
                size += self.stored[name].nbytes
                if span and size > limit:
                    yield from _read_span(file, span)
                    span, size = [], self.stored[name].nbytes
                span.append(name)
            yield from _read_span(file, span)

    def check(
        self,
        wanted: Mapping[str, tuple[int, ...]],
        known: Collection[str] | None = None,
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Compare names and shapes with those of a network.

        Args:
            wanted: Shapes of the weights that must be there.
            known: Names that may be there; None for the wanted ones.
            names: The network's name -> name in the files; None where they are the same.

        Raises:
            ValueError: A weight is missing, unknown or of another shape; all are counted.
        """
        placed = {name: name for name in self.stored} if names is None else names
        given = {name: self.stored[theirs] for name, theirs in placed.items()}
        problems = {
            "lacks": sorted(wanted.keys() - given.keys()),
            "has unknown": sorted(given.keys() - set(wanted if known is None else known)),
            "has wrong shapes": [
                f"{name} {given[name].shape} instead of {shape}"
                for name, shape in wanted.items()
                if name in given and given[name].shape != shape
            ],
        }
        found = [
            f"{what} {len(some)}: {', '.join(some[:5])}{', ...' if len(some) > 5 else ''}"
            for what, some in problems.items()
            if some
        ]
        if found:
            raise ValueError(f"{self.files[0]} does not fit the network; it {'; '.join(found)}")

    def load(
        self, names: Mapping[str, str], dtype: torch.dtype, device: torch.device | str
    ) -> dict[str, Tensor]:
        """Values under other names, one by one in their final type and place.

        Args:
            names: Name in the files -> name in the result.
            dtype: Of all values.
            device: Where they go.

        Raises:
            ValueError: A file is damaged, or a value is not finite in `dtype`.
        """
        tensors = {}
        for theirs, tensor in self.read(names):
            kept = tensor.to(device, dtype, copy=True, memory_format=torch.contiguous_format)
            require_finite(kept, self.stored[theirs].file, names[theirs])
            tensors[names[theirs]] = kept
        return tensors


def require_finite(tensor: Tensor, file: Path, name: str) -> None:
    """Raise ValueError if a value is NaN or infinite."""
    low, high = tensor.aminmax()  # NaN comes through; no temporary of the tensor's size
    if not (torch.isfinite(low) and torch.isfinite(high)):
        raise ValueError(f"{file}: {name} holds values that are not finite in {tensor.dtype}")


def open_container(path: Path) -> Container:
    """Open a checkpoint without reading values.

    Args:
        path: A `.safetensors` file, a `.safetensors.index.json` with shards beside it, a torch
            file, a folder with one of these, or the root folder of a release.

    Raises:
        FileNotFoundError: There is nothing at `path`, or a shard is missing.
        ValueError: The kind of file is not known, it is truncated or damaged, it holds other
            things than tensors of floating point, or a folder holds no checkpoint or several.
    """
    path = find_file(Path(path))
    if path.name.endswith(INDEX):
        return _open_shards(path)
    if path.suffix == ".safetensors":
        return Container((path,), *_open_safetensors(path))
    if path.suffix in TORCH_SUFFIXES:
        tensors = _load_torch(path).items()
        stored = {n: Stored(path, tuple(t.shape), _dtype_name(t.dtype)) for n, t in tensors}
        return Container((path,), stored, {})
    raise ValueError(
        f"{path} is not a checkpoint; expected .safetensors, {INDEX} or one of {TORCH_SUFFIXES}"
    )


def find_file(path: Path) -> Path:
    """The one file to open for a path: itself, or the checkpoint in a folder.

    Raises:
        FileNotFoundError: There is nothing at `path`.
        ValueError: The folder holds no checkpoint or several.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"no weights at {path}; expected a checkpoint or its folder")
    for folder in (path, *(path / name for name in FOLDERS)):
        for pattern in (f"*{INDEX}", "*.safetensors", "*.pt"):
            found = sorted(folder.glob(pattern))
            if len(found) > 1:
                names = [file.name for file in found[:5]]
                raise ValueError(f"{folder} holds several checkpoints {names}; name one of them")
            if found:
                return found[0]
    raise ValueError(f"{path} holds no checkpoint, nor does {' or '.join(FOLDERS)} in it")


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _read_span(file: Path, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    if file.suffix != ".safetensors":
        tensors = _load_torch(file)
        for name in names:
            yield name, tensors[name]
        return
    try:
        with safe_open(file, framework="pt") as opened:
            for name in names:
                yield name, opened.get_tensor(name)
    except SafetensorError as error:
        raise _damaged(file, error) from error


def _open_safetensors(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as opened:
            stored = {}
            for name in opened.keys():  # noqa: SIM118
                part = opened.get_slice(name)
                dtype = part.get_dtype()
                if dtype not in _DTYPES:
                    raise ValueError(
                        f"{path}: {name} holds {dtype} values; expected one of {list(_DTYPES)}"
                    )
                shape = tuple(part.get_shape())
                stored[name] = Stored(path, shape, _dtype_name(_DTYPES[dtype]))
            return stored, dict(opened.metadata() or {})
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _open_shards(index: Path) -> Container:
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = {name: index.parent / Path(shard).name for name, shard in places.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{index} is not an index of shards: {error!r}") from error
    files = tuple(sorted(set(shards.values())))
    absent = [file.name for file in files if not file.is_file()]
    if absent or not files:
        raise FileNotFoundError(f"{index} names shards that are not there: {absent[:5]}")
    stored: dict[str, Stored] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, header = _open_safetensors(file)
        metadata = metadata or header
        listed = {name for name, shard in shards.items() if shard == file}
        if listed != found.keys():
            raise ValueError(
                f"{file} does not hold what {index.name} lists: lacks "
                f"{sorted(listed - found.keys())[:5]}, has unlisted "
                f"{sorted(found.keys() - listed)[:5]}"
            )
        stored |= found
    return Container(files, stored, metadata)


def _load_torch(path: Path) -> dict[str, Tensor]:
    """The state dict of a torch file, its values mapped, not read."""
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError) as error:
        raise _damaged(path, error) from error
    nest = next((n for n in NESTS if isinstance(content, dict) and n in content), None)
    tensors = content[nest] if nest is not None else content
    if not isinstance(tensors, dict):
        raise ValueError(f"{path} holds a {type(tensors).__name__}; expected a state dict")
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.dtype not in _DTYPES.values():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise ValueError(f"{path}: {name} is {kind}; expected a tensor of floating point")
    return tensors


def _damaged(path: Path, error: Exception) -> ValueError:
    reason = " ".join(str(error).split())[:200]
    return ValueError(f"{path} is truncated, damaged or of another format: {reason}")
