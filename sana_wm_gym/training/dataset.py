"""Encoded walks through the shipped maps: rendered once, kept as latents, cut into clips.

A walk of 961 frames is stored as 120 latent frames and, so that a clip may begin at every eighth
frame, as 121 still latents. Walks are a function of (map, index), so a data folder that was
deleted, or was never made, comes back the same.
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

WALK_FRAMES = 40 * CHUNK_FRAMES
_TRAIN_STREAM, _HELD_OUT_STREAM = 1, 2


def walk_generator(scene: int, index: int, held_out: bool = False) -> np.random.Generator:
    """Random stream of one walk; held-out walks never meet training ones."""
    return np.random.default_rng([_HELD_OUT_STREAM if held_out else _TRAIN_STREAM, scene, index])


def render_walk(
    scene: int, index: int, frames: int, size: int, held_out: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Poses in the scene, float64 [frames + 1, 4, 4], and frames, uint8 [frames + 1, H, W, 3]."""
    world = generate_scene(scene)
    poses = sample_walk(world, walk_generator(scene, index, held_out), frames)
    return poses, render(world, poses, size=(size, size))


@dataclass(frozen=True)
class EncodedWalks:
    """All training walks.

    Attributes:
        moving: Latent frame g covers frames 8 g + 1 ... 8 g + 8, float16 [n, g, c, h, w].
        still: Latent frame of the still image 8 g, float16 [n, g + 1, c, h, w].
        poses: Camera-to-world in the scene, float64 [n, 8 g + 1, 4, 4].
    """

    moving: Tensor
    still: Tensor
    poses: Tensor

    def clip(self, walk: int, start: int, chunks: int) -> tuple[Tensor, np.ndarray]:
        """Latents [1 + 3 chunks, c, h, w] and relative poses [1 + 24 chunks, 4, 4] from
        frame 8 * start of a walk."""
        count = chunks * LATENTS_PER_CHUNK
        latents = torch.cat(
            [self.still[walk, start : start + 1], self.moving[walk, start : start + count]]
        )
        poses = self.poses[walk, start * GROUP : (start + count) * GROUP + 1].numpy()
        relative = invert(poses[0]) @ poses
        relative[0] = np.eye(4)
        return latents.float(), relative


def encode_walks(
    folder: Path, codec: PatchCodec, scenes: Sequence[int], walks: int, size: int
) -> EncodedWalks:
    """Render and encode `walks` walks in each scene, reusing what `folder` already holds."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        _encode_scene(folder / f"scene_{scene}_{walks}.safetensors", codec, scene, walks, size)
        for scene in scenes
    ]
    return EncodedWalks(*(torch.cat([part[key] for part in parts]) for key in parts[0]))


def _encode_scene(
    path: Path, codec: PatchCodec, scene: int, walks: int, size: int
) -> dict[str, Tensor]:
    if path.exists():
        stored = load_file(path)
        return {key: stored[key] for key in ("moving", "still", "poses")}
    moving, still, poses = [], [], []
    with torch.no_grad():
        for index in range(walks):
            c2w, frames = render_walk(scene, index, WALK_FRAMES, size)
            pixels = torch.from_numpy(frames).float() / 255
            moving.append(codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP))).half())
            still.append(codec.encode_image(pixels[::GROUP]).half())
            poses.append(torch.from_numpy(c2w))
    arrays = {
        "moving": torch.stack(moving).contiguous(),
        "still": torch.stack(still).contiguous(),
        "poses": torch.stack(poses),
    }
    temporary = path.with_suffix(".partial")
    save_file(arrays, temporary)
    os.replace(temporary, path)
    return arrays


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
    data: EncodedWalks,
    batch: int,
    lengths: Sequence[int],
    weights: Sequence[float],
    rng: np.random.Generator,
) -> Iterator[Episode]:
    """Endless batches of random clips; all clips of a batch have one random length in chunks."""
    walks, groups = data.moving.shape[:2]
    while True:
        chunks = int(rng.choice(lengths, p=np.asarray(weights) / np.sum(weights)))
        span = groups - chunks * LATENTS_PER_CHUNK
        picks = [
            data.clip(int(rng.integers(walks)), int(rng.integers(span + 1)), chunks)
            for _ in range(batch)
        ]
        yield Episode(
            torch.stack([latents for latents, _ in picks]),
            np.stack([poses for _, poses in picks]),
            chunks,
        )
