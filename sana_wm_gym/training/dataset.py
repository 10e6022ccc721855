"""Encoded walks through the shipped maps: rendered once, kept as latents.

Every walk is a clip: it begins where rollouts begin, and its latents are what the codec makes of
its first frame and of every eight frames after it. Walks are a function of (map, index), so a
data folder that was deleted, or was never made, comes back the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sana_wm_gym.camera.se3 import invert
from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.training.walks import sample_walk
from sana_wm_gym.world.renderer import render
from sana_wm_gym.world.scenes import generate_scene
from sana_wm_gym.world.world_model import CHUNK_FRAMES, LATENTS_PER_CHUNK

_TRAIN_STREAM, _HELD_OUT_STREAM = 1, 2


def walk_generator(scene: int, index: int, held_out: bool = False) -> np.random.Generator:
    """Random stream of one walk; held-out walks never meet training ones."""
    return np.random.default_rng([_HELD_OUT_STREAM if held_out else _TRAIN_STREAM, scene, index])


def render_walk(
    scene: int, index: int, frames: int, size: int, start_radius: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a training walk in the scene, float64 [frames + 1, 4, 4], and its frames, uint8
    [frames + 1, H, W, 3]."""
    world = generate_scene(scene)
    poses = sample_walk(world, walk_generator(scene, index), frames, start_radius=start_radius)
    return poses, render(world, poses, size=(size, size))


@dataclass(frozen=True)
class EncodedWalks:
    """Training walks of one length.

    Attributes:
        latents: The first frame's latent, then one per 8 frames, float16 [n, 1 + g, c, h, w].
        c2w: Camera-to-world relative to the first frame, float64 [n, 8 g + 1, 4, 4].
    """

    latents: Tensor
    c2w: Tensor


def encode_walks(
    folder: Path,
    codec: PatchCodec,
    scenes: Sequence[int],
    chunks: int,
    indices: range,
    size: int,
    start_radius: float | None,
) -> EncodedWalks:
    """Render and encode walks of `chunks` chunks in each scene, reusing what `folder` holds.

    Args:
        folder: Where encoded walks are kept.
        codec: Makes the latents.
        scenes: Maps to walk in.
        chunks: Length of every walk.
        indices: Which walks of each map.
        size: Frame height and width in pixels.
        start_radius: As in `sample_walk`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for scene in scenes:
        path = folder / f"scene_{scene}_{indices.start}_{indices.stop}_{chunks}.safetensors"
        if not path.exists():
            _encode(path, codec, scene, chunks, indices, size, start_radius)
        parts.append(load_file(path))
    return EncodedWalks(*(torch.cat([part[key] for part in parts]) for key in ("latents", "c2w")))


def _encode(
    path: Path,
    codec: PatchCodec,
    scene: int,
    chunks: int,
    indices: range,
    size: int,
    start_radius: float | None,
) -> None:
    latents, relative = [], []
    with torch.no_grad():
        for index in indices:
            poses, frames = render_walk(scene, index, chunks * CHUNK_FRAMES, size, start_radius)
            pixels = torch.from_numpy(frames).float() / 255
            still = codec.encode_image(pixels[:1])
            moving = codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
            latents.append(torch.cat([still, moving]).half())
            c2w = invert(poses[0]) @ poses
            c2w[0] = np.eye(4)
            relative.append(torch.from_numpy(c2w))
    temporary = path.with_name(f"{path.name}.{os.getpid()}.partial")
    save_file(
        {"latents": torch.stack(latents).contiguous(), "c2w": torch.stack(relative)}, temporary
    )
    os.replace(temporary, path)


@dataclass
class Episode:
    """A batch of clips that is walked through chunk by chunk."""

    latents: Tensor
    c2w: np.ndarray
    chunks: int

    def chunk(self, index: int) -> tuple[Tensor, np.ndarray]:
        """Latents [b, c, f, h, w] and poses [b, 25, 4, 4] of one chunk; the first has the still
        latent in front."""
        begin = 0 if index == 0 else 1 + index * LATENTS_PER_CHUNK
        end = 1 + (index + 1) * LATENTS_PER_CHUNK
        first = index * CHUNK_FRAMES
        return (
            self.latents[:, begin:end].movedim(1, 2),
            self.c2w[:, first : first + CHUNK_FRAMES + 1],
        )


def episodes(
    tiers: Sequence[EncodedWalks],
    batch: int,
    weights: Sequence[float],
    rng: np.random.Generator,
) -> Iterator[Episode]:
    """Endless batches of random walks; all walks of a batch come from one tier, one length."""
    share = np.asarray(weights) / np.sum(weights)
    while True:
        walks = tiers[int(rng.choice(len(tiers), p=share))]
        picks = rng.integers(len(walks.latents), size=batch)
        yield Episode(
            walks.latents[picks].float(),
            walks.c2w[picks].numpy(),
            (walks.latents.shape[1] - 1) // LATENTS_PER_CHUNK,
        )
