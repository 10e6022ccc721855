"""A training run on disk: weights, optimizer, logs, and how to go on after a kill."""

from __future__ import annotations

import csv
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.config import TINY, TrainConfig
from sana_wm_gym.training.fit_codec import encoded_pairs, fit_correction, fit_linear
from sana_wm_gym.training.initialise import initialise
from sana_wm_gym.training.optimizer import Optimizer
from sana_wm_gym.world.procedural import WALK_LIMITS
from sana_wm_gym.world.renderer import default_intrinsics
from sana_wm_gym.world.sana_world import SanaWorld
from sana_wm_gym.world.schedule import self_forcing
from sana_wm_gym.world.world_model import WorldSpec

CODEC_WALKS, CODEC_FRAMES = 8, 480
TIMESTEPS = (1000, 0)
"""One step: in a map known by heart the first prediction is the best (docs/embedded_world.md)."""
WINDOW = MemoryWindow(chunks=2, sink=True)
"""What softmax blocks remember in training and at run time: SANA-WM's streaming default."""


class Run:
    """Weights in training and where they are saved.

    Attributes:
        codec: Fitted codec.
        model: Weights in training.
        average: Their running average, which ships.
        optimizer: Muon and AdamW.
        done: Steps taken.
        hours: Hours trained, over all restarts.

    Raises:
        ValueError: The checkpoint is damaged or of another network.
    """

    def __init__(self, config: TrainConfig, say: Callable[[str], None]) -> None:
        self.config = config
        self.folder = Path(config.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.codec = self._codec(say)
        self.model = SanaWM(TINY, EXACT)
        initialise(self.model, config.seed)
        self.average = SanaWM(TINY, EXACT).requires_grad_(False)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.done, self.hours = 0, 0.0
        self._resume()

    def _codec(self, say: Callable[[str], None]) -> PatchCodec:
        path = self.folder / "codec.safetensors"
        if path.exists():
            return load_codec(self.folder)
        config = self.config
        say("fitting the codec's linear part")
        walks = min(CODEC_WALKS, config.walks[0])
        codec = fit_linear(CodecConfig(), config.scenes, walks, CODEC_FRAMES, config.size)
        if config.codec_minutes > 0:
            pairs = encoded_pairs(codec, config.scenes, walks, CODEC_FRAMES, config.size)
            fit_correction(codec, pairs, config.codec_minutes, config.seed, say)
        save_atomically(codec.state_dict(), path)
        return codec

    def _resume(self) -> None:
        path = self.folder / "checkpoint.pt"
        if not path.exists():
            return
        try:
            saved = torch.load(path, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.average.load_state_dict(saved["average"])
            self.optimizer.muon.load_state_dict(saved["muon"])
            self.optimizer.adamw.load_state_dict(saved["adamw"])
            self.done, self.hours = saved["step"], saved["hours"]
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is damaged or of another network ({error}); remove it to start again"
            ) from error

    def save(self) -> None:
        """Write the checkpoint and the averaged weights, each in one move."""
        path = self.folder / "checkpoint.pt"
        temporary = path.with_suffix(".partial")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "muon": self.optimizer.muon.state_dict(),
                "adamw": self.optimizer.adamw.state_dict(),
                "step": self.done,
                "hours": self.hours,
            },
            temporary,
        )
        os.replace(temporary, path)
        save_atomically(self.average.state_dict(), self.folder / "generator.safetensors")

    def world(self) -> SanaWorld:
        """The averaged weights as a world."""
        return tiny_world(self.average, self.codec, self.config)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to a csv log."""
        path = self.folder / name
        fresh = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def load_codec(folder: Path) -> PatchCodec:
    """The codec of a run."""
    codec = PatchCodec(CodecConfig())
    codec.load_state_dict(load_file(folder / "codec.safetensors"))
    return codec


def tiny_world(generator: SanaWM, codec: PatchCodec, config: TrainConfig) -> SanaWorld:
    """A generator and a codec as the world that ships."""
    size, cells = config.size, config.size // codec.config.patch
    fx, fy, cx, cy = default_intrinsics(size, size)
    spec = WorldSpec(
        name="tiny",
        height=size,
        width=size,
        fps=16.0,
        latent_shape=(codec.config.channels, cells, cells),
        intrinsics=(fx, fy, cx, cy),
        limits=WALK_LIMITS,
        scenes=tuple(config.scenes),
        start_radius=config.start_radius,
    )
    return SanaWorld(spec, generator, codec, self_forcing(TIMESTEPS), WINDOW)


def save_atomically(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file under a temporary name, then rename."""
    temporary = path.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary)
    os.replace(temporary, path)
