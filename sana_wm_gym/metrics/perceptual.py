"""LPIPS, where its weights are at hand. Nothing is ever downloaded.

The distance needs the `lpips` package, which brings the small linear heads, and the AlexNet
backbone in torchvision's cache. Where either is missing the answer is an `Unavailable` with the
reason, and the LPIPS column of a table is left out: no other number stands in for it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

BACKBONE = "alexnet-owt-7be5be79.pth"  # the file that torchvision >= 0.13 requests


class ImageDistance(Protocol):
    """How different two pictures look; 0 for identical ones."""

    def __call__(self, a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
        """Distance of two uint8 [height, width, 3] RGB images."""
        ...


@dataclass(frozen=True)
class Unavailable:
    """A number that cannot be computed here.

    Attributes:
        reason: One line: what is missing and how to get it.
    """

    reason: str


def load_lpips() -> ImageDistance | Unavailable:
    """AlexNet LPIPS version 0.1 on images scaled to [-1, 1], or why it cannot be had.

    Source: Zhang et al., The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
    CVPR 2018; the SANA-WM benchmark uses the AlexNet variant.
    """
    backbone = _hub_folder() / BACKBONE
    # Looked for first: the package would fetch it from the network without asking.
    if not backbone.is_file():
        return Unavailable(f"LPIPS needs the AlexNet weights {BACKBONE} in {backbone.parent}")
    try:
        lpips = import_module("lpips")
    except ImportError as error:
        return Unavailable(f"LPIPS needs the package lpips ({error}): pip install lpips")
    network = lpips.LPIPS(net="alex", version="0.1", verbose=False)

    def distance(a: npt.NDArray[np.uint8], b: npt.NDArray[np.uint8]) -> float:
        # `im2tensor` takes 0..255 to [-1, 1] and adds the batch axis.
        return float(network(lpips.im2tensor(a), lpips.im2tensor(b)).item())

    return distance


def _hub_folder() -> Path:
    """Where torch keeps downloaded weights, by its own environment variables."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser() / "hub" / "checkpoints"
