"""Encoded walks through the maps of a world: rendered once, kept as latents.

Every walk begins where rollouts begin, in an appearance of its own; its latents are those of its
first frame and of every eight frames after it. Walks are a function of (map, index), so a deleted
data folder is made again as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.models.localiser import Localiser
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.objective import WalkBatch
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.walks import draw_walk

SHARD = 250
"""Walks per file."""


@dataclass(frozen=True)
class EncodedWalks:
    """Training walks of one length.

    Attributes:
        latents: The first frame's latent, then one per 8 frames, float16 [n, 1 + g, c, h, w].
        c2w: Camera-to-world relative to the first frame, float64 [n, 8 g + 1, 4, 4].
        first: Pose of the first frame in the map, float64 [n, 4, 4].
        estimated: The localiser's estimate of `first`; `first` without one.
        appearance: Variant of each surface, int64 [n, surfaces].
    """

    latents: Tensor
    c2w: Tensor
    first: Tensor
    estimated: Tensor
    appearance: Tensor


@dataclass(frozen=True)
class WalkEncoder:
    """Encodes walks and keeps them in the run's folder.

    Attributes:
        config: Folder, scenes, frame size and start radius of the run.
        codec: Encodes frames.
        localiser: Estimates poses of first frames, or None.
        track: Wraps the shards that are to be made, to show progress.
    """

    config: TrainConfig
    codec: PatchCodec
    localiser: Localiser | None
    track: Callable[[list[range]], Iterable[range]] = iter

    def __call__(self, chunks: int, count: int) -> EncodedWalks:
        """`count` walks of `chunks` chunks in each scene, reusing what the folder holds."""
        folder = Path(self.config.folder) / "walks"
        folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for scene in self.config.scenes:
            shards = [range(i, min(i + SHARD, count)) for i in range(0, count, SHARD)]
            paths = {s: folder / f"scene_{scene}_{chunks}_{s.start}_{s.stop}" for s in shards}
            for shard in self.track([s for s in shards if not paths[s].exists()]):
                self._encode(paths[shard], scene, chunks, shard)
            parts += [load_file(path) for path in paths.values()]
        return EncodedWalks(
            *(torch.cat([part[f.name] for part in parts]) for f in fields(EncodedWalks))
        )

    @torch.inference_mode()
    def _encode(self, path: Path, scene: int, chunks: int, indices: range) -> None:
        config, rows = self.config, []
        for index in indices:
            # Walks of different lengths are different walks.
            number = chunks * 1_000_000 + index
            place, poses = draw_walk(scene, number, chunks * CHUNK_FRAMES, config.start_radius)
            frames = render(place, poses, size=(config.size, config.size))
            pixels = torch.from_numpy(frames).float() / 255
            still = self.codec.encode_image(pixels[:1])
            moving = self.codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
            estimated = first = torch.from_numpy(poses[0])
            if self.localiser is not None:
                estimated = self.localiser(torch.from_numpy(frames[:1]).movedim(-1, 1)).c2w[0]
            rows.append(
                EncodedWalks(
                    latents=torch.cat([still, moving]).half(),
                    c2w=torch.from_numpy(relative_to_first(poses)),
                    first=first,
                    estimated=estimated.double(),
                    appearance=torch.tensor(place.appearance, dtype=torch.int64),
                )
            )
        tensors = {
            f.name: torch.stack([getattr(row, f.name) for row in rows]).contiguous()
            for f in fields(EncodedWalks)
        }
        with atomic_path(path) as partial:
            save_file(tensors, partial)


def episodes(
    tiers: Sequence[EncodedWalks], config: TrainConfig, rng: np.random.Generator
) -> Iterator[WalkBatch]:
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
        yield WalkBatch(
            walks.latents[picks].float(),
            (anchor[:, None] @ walks.c2w[picks]).numpy(),
            appearance,
            (walks.latents.shape[1] - 1) // LATENTS_PER_CHUNK,
        )
