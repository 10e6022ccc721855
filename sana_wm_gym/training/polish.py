"""Train the decoder on what the generator makes: `python -m sana_wm_gym.training.polish FOLDER`.

Last step of a run, before `export`. Walks that the generator was trained on are rolled out by its
averaged weights, and the decoder's correction learns to answer the true frames; every other step
takes the codec's own latents, so that sharp latents stay sharp. The generator and the encoder are
left as they are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file

from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.models.codec import GROUP
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.config import TINY, TrainConfig
from sana_wm_gym.training.dataset import render_walk
from sana_wm_gym.training.fit_codec import DecoderPairs, encoded_pairs, fit_correction
from sana_wm_gym.training.run import (
    CODEC_FRAMES,
    CODEC_WALKS,
    load_codec,
    save_atomically,
    tiny_world,
)
from sana_wm_gym.world.sana_world import SanaWorld
from sana_wm_gym.world.world_model import CHUNK_FRAMES, Start

CHUNKS, BATCH = 4, 32


def rollout_pairs(world: SanaWorld, walks: int, start_radius: float | None) -> DecoderPairs:
    """Pairs from rollouts of the first training walks in each map, 4 chunks each.

    Args:
        world: Generator and codec in question.
        walks: Walks in each map.
        start_radius: Where they begin, as in `sample_walk`.
    """
    spec = world.spec
    frames, latents, previous = [], [], []
    numbers = [(scene, index) for scene in spec.scenes for index in range(walks)]
    for first in range(0, len(numbers), BATCH):
        batch = numbers[first : first + BATCH]
        made = [
            render_walk(scene, index, CHUNKS * CHUNK_FRAMES, spec.height, start_radius)
            for scene, index in batch
        ]
        commands = [relative_to_first(poses) for poses, _ in made]
        states = [
            world.begin(Start(images[0], spec.intrinsics, scene=scene), seed=index)
            for (scene, index), (_, images) in zip(batch, made, strict=True)
        ]
        told = [np.stack([world.latents(state)[-1] for state in states])[:, None]]
        for chunk in range(CHUNKS):
            span = slice(chunk * CHUNK_FRAMES, (chunk + 1) * CHUNK_FRAMES + 1)
            cameras = [
                CameraTrajectory(c2w[span], np.array(spec.intrinsics), spec.width, spec.height)
                for c2w in commands
            ]
            states = world.advance(states, cameras)
            told.append(np.stack([world.latents(state) for state in states]))
        path = torch.from_numpy(np.concatenate(told, axis=1)).half()
        latents.append(path[:, 1:].flatten(0, 1))
        previous.append(path[:, :-1].flatten(0, 1))
        truth = np.stack([images[1:] for _, images in made])
        frames.append(torch.from_numpy(truth).unflatten(1, (-1, GROUP)).flatten(0, 1))
    return DecoderPairs(torch.cat(frames), torch.cat(latents), torch.cat(previous), 0.0)


def polish(folder: Path, walks: int, minutes: float, console: Console) -> None:
    """Train the decoder of a run on rollouts of its averaged weights, and save the codec.

    Raises:
        FileNotFoundError: The run has no weights or no settings yet.
    """
    for needed in ("generator.safetensors", "config.json"):
        if not (folder / needed).is_file():
            raise FileNotFoundError(f"no {needed} in {folder}; train first")
    told = json.loads((folder / "config.json").read_text())
    config = TrainConfig(
        scenes=tuple(told["scenes"]), size=told["size"], start_radius=told["start_radius"]
    )
    generator = SanaWM(TINY, EXACT)
    generator.load_state_dict(load_file(folder / "generator.safetensors"))
    codec = load_codec(folder)
    console.print(f"rolling out {walks} walks per map")
    own = rollout_pairs(tiny_world(generator, codec, config), walks, config.start_radius)
    known = encoded_pairs(codec, config.scenes, CODEC_WALKS, CODEC_FRAMES, config.size)
    fit_correction(codec, [own, known], minutes, config.seed, console.print)
    save_atomically(codec.state_dict(), folder / "codec.safetensors")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the training run")
    parser.add_argument("--walks", type=int, default=320, help="training walks to roll out (320)")
    parser.add_argument("--minutes", type=float, default=5.0, help="time to train for (5)")
    arguments = parser.parse_args()
    if arguments.walks < 1 or arguments.minutes <= 0:
        parser.error("--walks and --minutes must be more than 0")
    polish(arguments.folder, arguments.walks, arguments.minutes, Console())


if __name__ == "__main__":
    main()
