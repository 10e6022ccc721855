"""Foreign pictures, not of a given scene: renders of other scenes, photographs, noise, gradients,
and the scene's own frames changed so that they have no true pose."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from sana_wm_gym.evaluation.held_out import Frames
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import Scene, generate_scene, sample_pose

# Scenes of the foreign renders that a localiser is tested with, and may be trained with.
FOREIGN_SCENES, TRAINING_SCENES = range(100), range(1000, 2000)
COUNTS = {"other scenes": 150, "photographs": 20, "noise": 8, "gradients": 6, "mirrored": 8}
"""Foreign pictures by kind; with 8 recoloured ones 200."""
RECOLOURED = 8

_STREAM = 72
# Among scikit-image's pictures, what is no photograph.
_DRAWINGS = (
    "chessboard_GRAY", "chessboard_RGB", "color", "horse", "logo", "page", "phantom", "text",
)  # fmt: skip


def foreign_pictures(
    scene: Scene, own: Frames, size: int, seed: int
) -> tuple[dict[str, Frames], tuple[str, ...]]:
    """The 200 foreign pictures by kind, uint8 [n, size, size, 3], and the missing packages.

    Args:
        scene: Left out of the other scenes.
        own: Frames of it to mirror and recolour, at least 16.
        size: Height and width in pixels.
        seed: Source of poses, crops and colours.
    """
    rng = np.random.default_rng([_STREAM, seed])
    generator = torch.Generator().manual_seed(seed)
    # 150 renders of 100 scenes: one of each, two of the first fifty.
    scenes = [number for number in range(101) if number != scene.seed][: len(FOREIGN_SCENES)]
    second = scenes[: COUNTS["other scenes"] - len(scenes)]
    renders = [foreign_frames(numbers, 1, rng, size) for numbers in (scenes, second)]
    photographs, missing = photograph_crops(COUNTS["photographs"], size, rng)
    mirrored = own[: COUNTS["mirrored"], :, ::-1]
    rest = torch.from_numpy(own[COUNTS["mirrored"] :][:RECOLOURED]).movedim(-1, 1).float()
    pictures = {
        "other scenes": np.concatenate(renders),
        "photographs": photographs,
        "noise": _to_frames(noise(COUNTS["noise"], size, generator)),
        "gradients": _to_frames(gradients(COUNTS["gradients"], size, generator)),
        "mirrored": np.ascontiguousarray(mirrored),
        "recoloured": _to_frames(recolour(rest, generator)),
    }
    return {kind: images for kind, images in pictures.items() if len(images)}, missing


def photograph_crops(
    count: int, size: int, rng: np.random.Generator
) -> tuple[Frames, tuple[str, ...]]:
    """Random square crops of the photographs inside scikit-image's and scikit-learn's packages,
    uint8 [count, size, size, 3], or none without either; and the names of missing packages."""
    photographs, missing = [], []
    for package, module, folder in (
        ("scikit-image", "skimage", "data"),
        ("scikit-learn", "sklearn", "datasets/images"),
    ):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            missing.append(package)
            continue
        for path in sorted((Path(found.origin).parent / folder).iterdir()):
            if path.suffix in (".png", ".jpg") and path.stem not in _DRAWINGS:
                with Image.open(path) as opened:
                    image = np.asarray(opened.convert("RGB"))
                if min(image.shape[:2]) >= size:
                    photographs.append(image)
    crops = np.empty((count if photographs else 0, size, size, 3), np.uint8)
    for index, crop in enumerate(crops):
        image = photographs[index % len(photographs)]
        side = int(rng.integers(size, min(image.shape[:2]) + 1))
        top, left = (int(rng.integers(length - side + 1)) for length in image.shape[:2])
        piece = image[top : top + side, left : left + side]
        crop[...] = cv2.resize(piece, (size, size), interpolation=cv2.INTER_AREA)
    return crops, tuple(missing)


def foreign_frames(
    seeds: Sequence[int], per_scene: int, rng: np.random.Generator, size: int
) -> Frames:
    """First frames in other scenes, uint8 [seeds x per_scene, size, size, 3]."""
    parts = []
    for seed in seeds:
        scene = generate_scene(seed)
        poses = np.stack([sample_pose(scene, rng) for _ in range(per_scene)])
        parts.append(render(scene, poses, size=(size, size)))
    return np.concatenate(parts)


def recolour(frames: Tensor, generator: torch.Generator) -> Tensor:
    """Frames float [n, 3, H, W] in [0, 255] with their hues turned by 60 to 300 degrees, or their
    channels exchanged, or inverted, chosen per frame."""
    angle = (60 + 240 * torch.rand(len(frames), generator=generator)) * (math.pi / 180)
    # Rotation about the grey axis: a mixture of the three cyclic shifts of the channels.
    shifts = torch.stack([torch.roll(torch.eye(3), k, dims=0) for k in range(3)])
    phase = torch.arange(3) * (2 * math.pi / 3)
    weights = (1 + 2 * torch.cos(angle[:, None] - phase)) / 3
    mix = torch.einsum("nk,kij->nij", weights, shifts)
    exchanges = torch.eye(3)[torch.tensor([[1, 0, 2], [0, 2, 1], [2, 1, 0]])]
    kind = torch.randint(4, (len(frames),), generator=generator)
    pick = exchanges[torch.randint(3, (len(frames),), generator=generator)]
    mix = torch.where((kind == 2)[:, None, None], pick, mix)
    changed = torch.einsum("nij,njhw->nihw", mix, frames).clamp(0, 255)
    return torch.where((kind == 3)[:, None, None, None], 255 - frames, changed)


def gradients(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Pictures that go linearly from one random colour to another, float [count, 3, size, size]
    in [0, 255]."""
    ends = 255 * torch.rand(2, count, 3, 1, 1, generator=generator)
    angle = 2 * math.pi * torch.rand(count, 1, 1, generator=generator)
    axis = torch.linspace(-1, 1, size)
    along = torch.cos(angle) * axis + torch.sin(angle) * axis[:, None]
    place = (0.5 + along / (2 * (angle.cos().abs() + angle.sin().abs())))[:, None]
    return ends[0] + (ends[1] - ends[0]) * place


def noise(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random pictures, float [count, 3, size, size] in [0, 255], with grains of 1 to 16 pixels."""
    parts = []
    for _ in range(count):
        grain = 2 ** int(torch.randint(5, (), generator=generator))
        cells = -(-size // grain)
        coarse = 255 * torch.rand(1, 3, cells, cells, generator=generator)
        smooth = bool(torch.rand((), generator=generator) < 0.5)
        mode = "bilinear" if smooth and cells > 1 else "nearest"
        parts.append(F.interpolate(coarse, (size, size), mode=mode))
    return torch.cat(parts)


def _to_frames(pictures: Tensor) -> Frames:
    frames: Frames = pictures.round().to(torch.uint8).movedim(1, -1).contiguous().numpy()
    return frames
