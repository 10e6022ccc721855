"""Files of the released layout with random weights, at any size.

The weights are noise: they show how long a network takes and what it needs, never what it makes.
Shards are drawn and written one by one, so that this needs the memory of one shard; a torch file
is written whole.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sana_wm_gym.files import atomic_path, remove_leftovers
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.weights.containers import INDEX
from sana_wm_gym.weights.names import Shapes, expected_shapes
from sana_wm_gym.weights.preflight import Need, require, this_machine
from sana_wm_gym.world.released.streaming import GENERATOR

CONTAINERS = ("shards", "model.pt")
"""Safetensors shards with an index, as diffusers writes them; one torch file, as released."""

SHARD_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Written:
    """What writing took.

    Attributes:
        tensors: Their number.
        bytes: Size of the files.
    """

    tensors: int
    bytes: int


def random_tensor(name: str, shape: tuple[int, ...], seed: int, dtype: torch.dtype) -> Tensor:
    """A weight that keeps activations near unit size, a function of (seed, name) alone.

    Matrices are normal with the variance of one over what they sum; norms are one, other vectors
    zero.
    """
    if len(shape) == 1:
        return (torch.ones if "norm" in name else torch.zeros)(shape, dtype=dtype)
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little", signed=True))
    return torch.randn(shape, generator=generator).mul_(prod(shape[1:]) ** -0.5).to(dtype)


def write_weights(
    folder: Path, config: SanaWMConfig, container: str, dtype: torch.dtype, seed: int
) -> Written:
    """Write a generator's weights below `folder`, all anew.

    Args:
        folder: Root of a release; the files go to its `sana_dit/`.
        config: Size of the network.
        container: One of `CONTAINERS`.
        dtype: Type in the files.
        seed: Source of the weights.

    Raises:
        ValueError: The container is not known, or disk or memory is short.
    """
    if container not in CONTAINERS:
        raise ValueError(f"given container {container!r}; expected one of {CONTAINERS}")
    shapes = expected_shapes(config)
    size = sum(map(prod, shapes.values())) * dtype.itemsize
    target = folder / GENERATOR
    shutil.rmtree(target, ignore_errors=True)
    remove_leftovers(folder)
    held = min(SHARD_BYTES, size) if container == "shards" else size
    require(Need(disk=size, ram=int(1.1 * held)), this_machine(folder), f"weights in {folder}")
    with atomic_path(target) as partial:
        partial.mkdir()
        if container == "shards":
            _write_shards(partial, shapes, dtype, seed)
        else:
            parts = {name: random_tensor(name, s, seed, dtype) for name, s in shapes.items()}
            torch.save({"generator": parts}, partial / container)
    return Written(len(shapes), sum(file.stat().st_size for file in target.iterdir()))


def _write_shards(folder: Path, shapes: Shapes, dtype: torch.dtype, seed: int) -> None:
    sizes = [prod(shape) * dtype.itemsize for shape in shapes.values()]
    # The shard in which a tensor ends; a tensor larger than a shard has one to itself.
    owner = [end // SHARD_BYTES for end in accumulate(sizes)]
    numbers = {key: number for number, key in enumerate(sorted(set(owner)), start=1)}
    weight_map = {
        name: f"model-{numbers[key]:05d}-of-{len(numbers):05d}.safetensors"
        for name, key in zip(shapes, owner, strict=True)
    }
    for file in sorted(set(weight_map.values())):
        shard = {
            name: random_tensor(name, shape, seed, dtype)
            for name, shape in shapes.items()
            if weight_map[name] == file
        }
        save_file(shard, folder / file, metadata={"format": "pt"})
    index = {"metadata": {"total_size": sum(sizes)}, "weight_map": weight_map}
    (folder / f"model{INDEX}").write_text(json.dumps(index, indent=1), encoding="utf-8")
