"""Poses from large pretrained networks, Pi3X and VGGT: adapters, nothing more.

Neither package nor weights come with this project. `load_pi3x` and `load_vggt` read a
`.safetensors` file that the caller has fetched; nothing is downloaded and nothing is unpickled.
Both need a GPU. A minute of video is more than fits: pass every fourth frame, as the published
benchmark does, and the poses at the same stride.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.se3 import invert, nearest_rotation
from sana_wm_gym.files import sha256
from sana_wm_gym.poses.protocol import EstimatorInfo, Frames, PoseEstimate, check_input

Images = npt.NDArray[np.float32]
Poses = npt.NDArray[np.float64]

_PATCH = 14  # both networks cut images into patches of this side
_PI3X_PIXELS = 255_000
_VGGT_WIDTH = 518

_PI3X_MISSING = (
    "Pi3X needs torch, safetensors and the package pi3 (code BSD-3, "
    "https://github.com/yyfz/Pi3) and its weights (CC BY-NC 4.0, not for commercial use: "
    "model.safetensors of yyfz233/Pi3X)"
)
_VGGT_MISSING = (
    "VGGT needs torch, safetensors and the package vggt "
    "(https://github.com/facebookresearch/vggt) and its weights (model.safetensors of "
    "facebook/VGGT-1B); read their own licences before use"
)


@dataclass(frozen=True)
class NetworkEstimator:
    """A network that estimates the cameras of all frames in one call.

    The caller's intrinsics are not used: these networks estimate their own.

    Attributes:
        name: Of the network.
        version: Of the weights.
        size: Height and width that the network takes for frames of a height and width.
        cameras: float32 [n, 3, h, w] in 0..1 to camera-to-world poses float64 [n, 4, 4] in
            OpenCV axes.
    """

    name: str
    version: str
    size: Callable[[int, int], tuple[int, int]]
    cameras: Callable[[Images], Poses]

    def estimate(
        self, frames: Frames, intrinsics: npt.ArrayLike | None, fps: float
    ) -> PoseEstimate:
        """Place every frame; see `PoseEstimator.estimate`. `fps` is not used.

        Raises:
            ValueError: As there, or the network returned poses of another shape.
        """
        frames, _, _ = check_input(frames, intrinsics, fps)
        height, width = self.size(*frames.shape[1:3])
        resized = [
            cv2.resize(frame, (width, height), interpolation=cv2.INTER_LANCZOS4) for frame in frames
        ]
        images = np.stack(resized).transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
        poses = np.array(self.cameras(images), dtype=np.float64)
        if poses.shape != (len(frames), 4, 4):
            raise ValueError(
                f"expected poses [{len(frames)}, 4, 4] from {self.name}, given {poses.shape}"
            )
        valid = np.asarray(np.isfinite(poses).all(axis=(1, 2)))
        # Networks answer in half precision; rotations are made exact.
        poses[valid, :3, :3] = nearest_rotation(poses[valid, :3, :3])
        poses[valid, 3] = np.eye(4)[3]
        info = EstimatorInfo(self.name, self.version, "estimated", "full", None, None, False)
        return PoseEstimate.of(poses, valid, info)


def load_pi3x(weights: Path, device: str = "cuda") -> NetworkEstimator:
    """Pi3X, the estimator that the SANA-WM paper names.

    Args:
        weights: Its `.safetensors` file.
        device: Where torch runs it.

    Raises:
        ImportError: A package is missing; names it and its licence.
        ValueError: The file is of another kind, or does not fit the network.

    Source: Wang et al., Pi3: Permutation-Equivariant Visual Geometry Learning, 2025.
    """
    torch, module = _packages(_PI3X_MISSING, "pi3.models.pi3x")
    network = _loaded(lambda: module.Pi3X(use_multimodal=False), weights, device)

    def cameras(images: Images) -> Poses:
        with torch.inference_mode():
            found = network(torch.from_numpy(images)[None].to(device))["camera_poses"]
        return np.asarray(found[0].double().cpu().numpy())

    return NetworkEstimator("pi3x", sha256(weights)[:12], pi3x_size, cameras)


def load_vggt(weights: Path, device: str = "cuda") -> NetworkEstimator:
    """VGGT's camera head; arguments and errors as those of `load_pi3x`.

    Source: Wang et al., VGGT: Visual Geometry Grounded Transformer, CVPR 2025.
    """
    torch, module = _packages(_VGGT_MISSING, "vggt.models.vggt")
    decode = import_module("vggt.utils.pose_enc").pose_encoding_to_extri_intri
    network = _loaded(module.VGGT, weights, device)

    def cameras(images: Images) -> Poses:
        batch = torch.from_numpy(images)[None].to(device)
        with torch.inference_mode():
            tokens, _ = network.aggregator(batch)
            world_to_camera, _ = decode(network.camera_head(tokens)[-1], batch.shape[-2:])
        poses = np.tile(np.eye(4), (len(images), 1, 1))
        poses[:, :3] = world_to_camera[0].double().cpu().numpy()
        return np.asarray(invert(poses))

    return NetworkEstimator("vggt", sha256(weights)[:12], vggt_size, cameras)


def pi3x_size(height: int, width: int) -> tuple[int, int]:
    """The same shape at no more than 255,000 pixels, sides multiples of 14."""
    scale = float(np.sqrt(_PI3X_PIXELS / (height * width)))
    return tuple(max(1, int(side * scale / _PATCH)) * _PATCH for side in (height, width))  # type: ignore[return-value]


def vggt_size(height: int, width: int) -> tuple[int, int]:
    """518 pixels across, the height to the nearest multiple of 14."""
    return max(1, round(height * _VGGT_WIDTH / width / _PATCH)) * _PATCH, _VGGT_WIDTH


def _packages(missing: str, module: str) -> tuple[Any, Any]:
    """torch and the network's module."""
    try:
        import_module("safetensors.torch")
        return import_module("torch"), import_module(module)
    except ImportError as error:
        raise ImportError(f"{missing}; missing here: {error.name}") from error


def _loaded(make: Callable[[], Any], weights: Path, device: str) -> Any:
    """A network with all parameters from a file, which may hold parts that are switched off."""
    if weights.suffix != ".safetensors" or not weights.is_file():
        raise ValueError(f"expected an existing .safetensors file, given {weights}")
    network = make()
    tensors = import_module("safetensors.torch").load_file(str(weights))
    missing, _ = network.load_state_dict(tensors, strict=False)
    if missing:
        raise ValueError(f"{weights} lacks {len(missing)} tensors, first {missing[0]}")
    return network.to(device).eval()
