"""Encoded walks through the maps of a world: rendered once, kept as latents.

Every walk is a clip: it begins where rollouts begin, in an appearance of its own, and its latents
are what the codec makes of its first frame and of every eight frames after it. Walks are a
function of (map, index), so a data folder that was deleted, or was never made, comes back the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sana_wm_gym.camera.se3 import invert
from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.models.localiser import Localiser
from sana_wm_gym.world.procedural.appearance import draw_appearance
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.scenes import Scene, generate_scene, with_appearance
from sana_wm_gym.world.procedural.walks import sample_walk
from sana_wm_gym.world.world_model import CHUNK_FRAMES, LATENTS_PER_CHUNK

_TRAIN_STREAM, _HELD_OUT_STREAM = 1, 2
SHARD = 250
"""Walks per file."""


def walk_generator(scene: int, index: int, held_out: bool = False) -> np.random.Generator:
    """Random stream of one walk; held-out walks never meet training ones."""
    return np.random.default_rng([_HELD_OUT_STREAM if held_out else _TRAIN_STREAM, scene, index])


def draw_walk(
    scene: int, index: int, frames: int, start_radius: float | None = None, held_out: bool = False
) -> tuple[Scene, np.ndarray]:
    """The scene in the appearance of one walk, and the walk's poses, float64 [frames + 1, 4, 4]."""
    rng, place = walk_generator(scene, index, held_out), generate_scene(scene)
    place = with_appearance(place, draw_appearance(place.surfaces, rng))
    return place, sample_walk(place, rng, frames, start_radius=start_radius)


def render_walk(
    scene: int, index: int, frames: int, size: int, start_radius: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Poses of a training walk in the scene, float64 [frames + 1, 4, 4], and its frames, uint8
    [frames + 1, H, W, 3]."""
    place, poses = draw_walk(scene, index, frames, start_radius)
    return poses, render(place, poses, size=(size, size))


@dataclass(frozen=True)
class EncodedWalks:
    """Training walks of one length.

    Attributes:
        latents: The first frame's latent, then one per 8 frames, float16 [n, 1 + g, c, h, w].
        c2w: Camera-to-world relative to the first frame, float64 [n, 8 g + 1, 4, 4].
        first: Pose of the first frame in the map, float64 [n, 4, 4].
        estimated: What the localiser makes of the first frame, likewise; `first` without one.
        appearance: Variant of each surface, int64 [n, surfaces].
    """

    latents: Tensor
    c2w: Tensor
    first: Tensor
    estimated: Tensor
    appearance: Tensor


@dataclass(frozen=True)
class WalkEncoder:
    """What turns walks into latents, and where they are kept.

    Attributes:
        folder: Where encoded walks are kept.
        codec: Makes the latents.
        localiser: Finds first frames in the map, or None.
        scenes: Maps to walk in.
        size: Frame height and width in pixels.
        start_radius: As in `sample_walk`.
        track: Wraps the shards that are to be made, to show progress.
    """

    folder: Path
    codec: PatchCodec
    localiser: Localiser | None
    scenes: Sequence[int]
    size: int
    start_radius: float | None
    track: Callable[[list[range]], Iterable[range]] = iter

    def __call__(self, chunks: int, count: int) -> EncodedWalks:
        """`count` walks of `chunks` chunks in each map, reusing what the folder holds."""
        self.folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for scene in self.scenes:
            shards = [range(i, min(i + SHARD, count)) for i in range(0, count, SHARD)]
            paths = {s: self.folder / f"scene_{scene}_{chunks}_{s.start}_{s.stop}" for s in shards}
            for shard in self.track([s for s in shards if not paths[s].exists()]):
                self._encode(paths[shard], scene, chunks, shard)
            parts += [load_file(path) for path in paths.values()]
        return EncodedWalks(
            *(torch.cat([part[f.name] for part in parts]) for f in fields(EncodedWalks))
        )

    @torch.inference_mode()
    def _encode(self, path: Path, scene: int, chunks: int, indices: range) -> None:
        rows: list[dict[str, Tensor]] = []
        for index in indices:
            # Walks of different lengths are different walks.
            number = chunks * 1_000_000 + index
            place, poses = draw_walk(scene, number, chunks * CHUNK_FRAMES, self.start_radius)
            frames = render(place, poses, size=(self.size, self.size))
            pixels = torch.from_numpy(frames).float() / 255
            still = self.codec.encode_image(pixels[:1])
            moving = self.codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
            c2w = invert(poses[0]) @ poses
            c2w[0] = np.eye(4)
            first = torch.from_numpy(poses[0])
            estimated = first
            if self.localiser is not None:
                estimated = self.localiser(torch.from_numpy(frames[:1]).movedim(-1, 1)).c2w[0]
            rows.append(
                {
                    "latents": torch.cat([still, moving]).half(),
                    "c2w": torch.from_numpy(c2w),
                    "first": first,
                    "estimated": estimated.double(),
                    "appearance": torch.tensor(place.appearance, dtype=torch.int64),
                }
            )
        with atomic_path(path) as partial:
            save_file(
                {k: torch.stack([row[k] for row in rows]).contiguous() for k in rows[0]}, partial
            )


@dataclass(frozen=True)
class Episode:
    """A batch of clips that is walked through chunk by chunk.

    Attributes:
        latents: [b, 1 + g, c, h, w].
        c2w: Poses in the map, float64 [b, 8 g + 1, 4, 4].
        appearance: Variant of each surface, or -1 where the prompt leaves it out, [b, surfaces].
        chunks: Length.
    """

    latents: Tensor
    c2w: np.ndarray
    appearance: np.ndarray
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


@dataclass(frozen=True)
class EpisodeConfig:
    """How episodes are drawn; attributes as in `TrainConfig`."""

    batch: int
    length_weights: Sequence[float]
    estimated_anchors: float
    word_dropout: float
    prompt_dropout: float


def episodes(
    tiers: Sequence[EncodedWalks], config: EpisodeConfig, rng: np.random.Generator
) -> Iterator[Episode]:
    """Endless batches of random walks; all walks of a batch come from one tier, one length."""
    probability = np.asarray(config.length_weights) / np.sum(config.length_weights)
    while True:
        walks = tiers[int(rng.choice(len(tiers), p=probability))]
        picks = torch.from_numpy(rng.integers(len(walks.latents), size=config.batch))
        exact = torch.from_numpy(rng.random(config.batch) >= config.estimated_anchors)
        anchor = torch.where(exact[:, None, None], walks.first[picks], walks.estimated[picks])
        appearance = walks.appearance[picks].numpy().copy()
        appearance[rng.random(appearance.shape) < config.word_dropout] = -1
        appearance[rng.random(config.batch) < config.prompt_dropout] = -1
        yield Episode(
            walks.latents[picks].float(),
            (anchor[:, None] @ walks.c2w[picks]).numpy(),
            appearance,
            (walks.latents.shape[1] - 1) // LATENTS_PER_CHUNK,
        )
