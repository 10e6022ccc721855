"""Intrinsics of a picture that comes without any, from the viewing rays that Pi3X estimates.

    estimate = load_pi3x(Path("model.safetensors"))
    env = SanaWMEnv("sana-wm-streaming", image="room.png", intrinsics=estimate)

Neither the package nor its weights come with this project. The network wants a GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from sana_wm_gym.files import sha256
from sana_wm_gym.weights.containers import open_container

Array = npt.NDArray[np.float64]
Intrinsics = tuple[float, float, float, float]

FOV_DEG = (25.0, 120.0)
"""Fields of view that the release accepts, both strictly inside."""
PIXELS, PATCH = 255_000, 14
"""Most pixels that the network is given, and the side of its patches."""

_MISSING = (
    "Pi3X needs the package pi3 (code BSD-3, https://github.com/yyfz/Pi3) and its weights (CC "
    "BY-NC 4.0, not for commercial use: model.safetensors of yyfz233/Pi3X); or give intrinsics"
)


class FieldOfViewError(ValueError):
    """An estimated field of view outside of `FOV_DEG`, which no ordinary camera has.

    Attributes:
        degrees: (horizontal, vertical).
    """

    def __init__(self, degrees: tuple[float, float]) -> None:
        super().__init__(
            f"the estimated field of view is {degrees[0]:.1f} x {degrees[1]:.1f} degrees, expected "
            f"both between {FOV_DEG[0]:g} and {FOV_DEG[1]:g}; give intrinsics"
        )
        self.degrees = degrees


@dataclass(frozen=True)
class RayIntrinsics:
    """Intrinsics from the viewing rays that a network estimates for a picture.

    Attributes:
        name: Of the network and its weights, as `env.unwrapped.intrinsics_from` reports it.
        rays: float32 [3, h, w] in 0..1 to ray directions in camera axes, float64 [h, w, 3].
    """

    name: str
    rays: Callable[[npt.NDArray[np.float32]], Array]

    def __call__(self, image: npt.NDArray[np.uint8]) -> Intrinsics:
        """(fx, fy, cx, cy) in pixels of a picture, uint8 [H, W, 3]; its axis at the centre.

        Raises:
            FieldOfViewError: A field of view is not within `FOV_DEG`.
            ValueError: The picture is not uint8 [H, W, 3], or there is not one ray per pixel.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"given {image.dtype} {image.shape}; expected uint8 [H, W, 3]")
        height, width = image.shape[:2]
        rows, columns = network_size(height, width)
        small = Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS)
        pixels = np.asarray(small, dtype=np.float32).transpose(2, 0, 1) / np.float32(255)
        rays = np.asarray(self.rays(np.ascontiguousarray(pixels)), dtype=np.float64)
        if rays.shape != (rows, columns, 3):
            raise ValueError(f"given rays {rays.shape} by {self.name}; expected {rows, columns, 3}")
        fx, fy = focal_lengths(rays)
        fx, fy = fx * width / columns, fy * height / rows
        degrees = field_of_view(fx, width), field_of_view(fy, height)
        if not all(FOV_DEG[0] < angle < FOV_DEG[1] for angle in degrees):
            raise FieldOfViewError(degrees)
        return fx, fy, width / 2, height / 2


def focal_lengths(rays: Array) -> tuple[float, float]:
    """Focal lengths (fx, fy) in cells of a grid of rays [h, w, 3] seen by a pinhole camera whose
    axis goes through the centre: least squares of u - cx = fx x / z over all cells, v likewise.

    Cells whose ray is not finite or does not point forwards do not count; NaN where none is left.

    Source: SANA-WM's released inference script; spec "Intrinsics".
    """
    rows, columns, _ = rays.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        plane = rays[..., :2] / rays[..., 2:]
        good = np.isfinite(plane).all(axis=-1) & (rays[..., 2] > 0)
        x, y = plane[good].T
        v, u = np.nonzero(good)
        fx = np.sum(x * (u + 0.5 - columns / 2)) / np.sum(x * x)
        fy = np.sum(y * (v + 0.5 - rows / 2)) / np.sum(y * y)
    return float(fx), float(fy)


def field_of_view(focal: float, side: float) -> float:
    """Angle in degrees that a side of an image spans; NaN where the focal length is not positive
    and finite."""
    if not (math.isfinite(focal) and focal > 0):
        return math.nan
    return 2 * math.degrees(math.atan(side / 2 / focal))


def network_size(height: int, width: int) -> tuple[int, int]:
    """The same shape at no more than `PIXELS` pixels, sides whole patches."""
    scale = math.sqrt(PIXELS / (height * width))
    rows, columns = (max(1, int(side * scale / PATCH)) * PATCH for side in (height, width))
    return rows, columns


def load_pi3x(weights: Path, device: torch.device | str | None = None) -> RayIntrinsics:
    """Pi3X, whose rays the release takes its intrinsics from.

    Args:
        weights: Its `.safetensors` file.
        device: Where it runs; None is the GPU if there is one.

    Raises:
        ImportError: The package is missing; states which, and under which licence.
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, or lacks parts of the network.

    Source: Wang et al., Pi3: Permutation-Equivariant Visual Geometry Learning, 2025.
    """
    try:
        module: Any = import_module("pi3.models.pi3x")
    except ImportError as error:
        raise ImportError(f"{_MISSING}; missing here: {error.name}") from error
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    weights = Path(weights)
    container = open_container(weights)
    network = module.Pi3X(use_multimodal=False)
    tensors = {name: tensor.clone() for name, tensor in container.read(container.stored)}
    # Tensors of the parts that are switched off are left over.
    missing, _ = network.load_state_dict(tensors, strict=False)
    if missing:
        raise ValueError(f"{weights} lacks {len(missing)} tensors, first {missing[0]}")
    network = network.to(device).eval()

    def rays(image: npt.NDArray[np.float32]) -> Array:
        with torch.inference_mode():
            found = network(torch.from_numpy(image)[None, None].to(device))["rays"]
        return np.asarray(found[0, 0].double().cpu().numpy())

    return RayIntrinsics(f"pi3x@{sha256(weights)[:12]}", rays)
