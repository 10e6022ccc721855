"""What an environment returns, as torch tensors on a world's device."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch


def to_tensors(value: Any, device: torch.device | str) -> Any:
    """Arrays as tensors of the same type, float64 as float32; dicts part by part.

    On the CPU a tensor shares the array's memory, so hand in arrays that nobody else keeps.
    """
    if isinstance(value, dict):
        return {name: to_tensors(part, device) for name, part in value.items()}
    tensor = torch.from_numpy(np.asarray(value))
    dtype = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    return tensor.to(device, dtype)
