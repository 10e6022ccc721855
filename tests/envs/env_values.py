"""What tests of environments share."""

from __future__ import annotations

from typing import Any

import numpy as np

EVERYTHING = ("frame", "frames", "latent", "pose")


def same(a: Any, b: Any) -> bool:
    """Equal bit for bit, through tuples, lists and dicts."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    return bool(type(a) is type(b) and a == b)
