"""Tensors as named arrays, for snapshots, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Arrays = dict[str, npt.NDArray[np.generic]]
Named = dict[str, Tensor]

_BFLOAT16 = "@bfloat16"
"""Ends the name of an array that holds the bits of bfloat16 numbers, which NumPy lacks."""


def arrays_of(named: Mapping[str, Tensor]) -> Arrays:
    """Tensors of any device as arrays; bfloat16 as its bits, said in the name."""
    arrays: Arrays = {}
    for name, tensor in named.items():
        tensor = tensor.detach().cpu()
        if tensor.dtype == torch.bfloat16:
            arrays[name + _BFLOAT16] = tensor.contiguous().view(torch.uint16).numpy()
        else:
            arrays[name] = tensor.numpy()
    return arrays


def tensors_of(arrays: Mapping[str, npt.NDArray[np.generic]], device: torch.device) -> Named:
    """Inverse of `arrays_of`, on a device."""
    named: Named = {}
    for name, array in arrays.items():
        tensor = torch.from_numpy(np.array(array))
        if name.endswith(_BFLOAT16):
            tensor = tensor.view(torch.bfloat16)
        named[name.removesuffix(_BFLOAT16)] = tensor.to(device)
    return named


def taken(tensors: Named, prefix: str) -> Named:
    """Take the tensors whose names begin with a prefix out of `tensors`; names lose it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}
