"""What an environment returns, as torch tensors on a world's device."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor


def to_tensors(value: Any, device: torch.device | str) -> Any:
    """Arrays as tensors of the same type, float64 as float32; dicts part by part. On the CPU a
    tensor shares the array's memory."""
    if isinstance(value, dict):
        return {name: to_tensors(part, device) for name, part in value.items()}
    tensor = torch.from_numpy(np.asarray(value))
    dtype = torch.float32 if tensor.dtype == torch.float64 else tensor.dtype
    return tensor.to(device, dtype)


def stacked(values: Sequence[Any]) -> Any:
    """Tensors stacked along a new first axis; dicts part by part."""
    if isinstance(values[0], dict):
        return {name: stacked([value[name] for value in values]) for name in values[0]}
    return torch.stack(list(values))


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image uint8 [H, W, 3] at another (height, width): cv2's `INTER_AREA`, where the image is.

    Resizing is linear and the same in every row and column, so it is a matrix on either side. The
    sums are exact where cv2 rounds early, so values differ from cv2's by one level at most.
    """
    height, width = image.shape[:2]
    if (height, width) == size:
        return image
    down = _resizing(height, size[0], width >= size[1], image.device)
    across = _resizing(width, size[1], height >= size[0], image.device)
    strips = (down @ image.float().flatten(1)).unflatten(1, (width, -1))
    return (across @ strips).round().clamp(0, 255).to(torch.uint8)


@lru_cache(maxsize=16)
def _resizing(old: int, new: int, other_shrinks: bool, device: torch.device) -> Tensor:
    """The weights [new, old] with which cv2 resizes an axis: its results for unit vectors."""
    # cv2 averages areas only where neither axis grows, so the other one must shrink or grow too.
    before, after = (2, 1) if other_shrinks else (1, 2)
    columns = [
        cv2.resize(np.tile(unit[:, None], before), (after, new), interpolation=cv2.INTER_AREA)
        for unit in np.eye(old, dtype=np.float32)
    ]
    return torch.from_numpy(np.stack([c.reshape(new, after)[:, 0] for c in columns], 1)).to(device)
