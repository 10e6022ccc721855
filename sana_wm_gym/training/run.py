"""A training run on disk: weights, optimizer, logs, and how it resumes after a kill."""

from __future__ import annotations

import csv
import pickle
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sana_wm_gym.evaluation.foreign_pictures import TRAINING_SCENES, foreign_frames
from sana_wm_gym.files import atomic_path, remove_leftovers, write_text
from sana_wm_gym.models.codec import PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.fit_codec import fit_codec
from sana_wm_gym.training.fit_localiser import fit_localiser, localiser_frames
from sana_wm_gym.training.initialise import initialise
from sana_wm_gym.training.optimizer import Optimizer
from sana_wm_gym.weights.world_file import WorldFile, read_world_file, write_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.procedural_world import WALK_LIMITS
from sana_wm_gym.world.procedural.renderer import default_intrinsics
from sana_wm_gym.world.procedural.scenes import generate_scene

TIMESTEPS = (1000.0, 0)
"""One step: in a known map the first prediction is the best (docs/embedded_world.md)."""
WINDOW = MemoryWindow(chunks=2, sink=True)
"""Memory of softmax blocks in training and at run time: SANA-WM's streaming default."""
CODEC, LOCALISER, CHECKPOINT = "codec.safetensors", "localiser.safetensors", "checkpoint.pt"
LOGS = ("loss.csv", "validation.csv")
WEIGHTS = "tiny.safetensors"
"""The averaged weights as a world file."""


class TrainingRun:
    """Weights in training and where they are saved.

    Attributes:
        codec: Fitted codec.
        localiser: Fitted localiser, or None.
        model: Weights in training.
        average: Their running average, which ships.
        optimizer: Muon and AdamW.
        done: Steps taken.
        cpu_hours: CPU time trained for, over all restarts and processes.

    Raises:
        ValueError: The checkpoint, the codec or the localiser is damaged or of another network, or
            `init` is, or it is neither a world file nor the folder of a run.
    """

    def __init__(self, config: TrainConfig, report: Callable[[str], None]) -> None:
        self.config = config
        self.folder = Path(config.folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(self.folder)
        surfaces = [generate_scene(scene).surfaces for scene in config.scenes]
        if len(set(surfaces)) > 1:
            raise ValueError("given maps with different surfaces; expected the same words for all")
        self.captions = SurfaceCaptions(surfaces[0])
        shape = config.generator(self.captions.surfaces)
        source = self._init_parts()
        self.codec = self._codec(report)
        self.localiser = self._localiser(report)
        self.model = SanaWM(shape, EXACT)
        if source is None:
            initialise(self.model, config.seed)
        else:
            load(self.model, source.generator.state_dict(), Path(str(config.init)))
        self.model.to(config.device)
        self.average = SanaWM(shape, EXACT).requires_grad_(False).to(config.device)
        self.average.load_state_dict(self.model.state_dict())
        self.optimizer = Optimizer(self.model, config.optimizer)
        self.done, self.cpu_hours = 0, 0.0
        self._resume()

    def _init_parts(self) -> WorldFile | None:
        """Copy what `init` brings and the folder lacks; returns a world file."""
        if self.config.init is None:
            return None
        source = Path(self.config.init)
        if source.is_dir():
            if not (source / CHECKPOINT).is_file():
                raise ValueError(f"given init={source}; expected a world file or a run's folder")
            for name in (CODEC, LOCALISER, CHECKPOINT, *LOGS):
                if (source / name).exists() and not (self.folder / name).exists():
                    with atomic_path(self.folder / name) as partial:
                        shutil.copy(source / name, partial)
            return None
        file = read_world_file(source)
        for name, part in ((CODEC, file.codec), (LOCALISER, file.localiser)):
            if part is not None and not (self.folder / name).exists():
                save(part.state_dict(), self.folder / name)
        return file

    def _codec(self, report: Callable[[str], None]) -> PatchCodec:
        path, config = self.folder / CODEC, self.config
        if not path.exists():
            codec = fit_codec(config.codec, config.codec_fit, config.scenes, config.size, report)
            save(codec.state_dict(), path)
        codec = PatchCodec(config.codec)
        load(codec, load_file(path), path)
        return codec.eval()

    def _localiser(self, report: Callable[[str], None]) -> Localiser | None:
        path, config = self.folder / LOCALISER, self.config
        if config.localiser_fit is None:
            return None
        if not path.exists():
            if len(config.scenes) != 1:
                raise ValueError("given several maps; a localiser is fitted to one")
            report("rendering frames for the localiser")
            scene, rng = generate_scene(config.scenes[0]), np.random.default_rng([config.seed, 3])
            frames, poses = localiser_frames(scene, config.localiser_frames, rng, config.size)
            others = TRAINING_SCENES[: config.foreign_scenes]
            localiser = fit_localiser(
                frames,
                poses,
                config.localiser_fit,
                foreign=foreign_frames(others, 5, rng, config.size) if others else None,
                report=lambda progress: report(str(progress)),
            )
            save(localiser.state_dict(), path)
        localiser = Localiser(LocaliserConfig(size=config.size))
        load(localiser, load_file(path), path)
        return localiser.eval()

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        if not path.exists():
            return
        try:
            saved = torch.load(path, weights_only=True, map_location="cpu")
            for name, part in self._saved_parts().items():
                part.load_state_dict(saved[name])
            self.done, self.cpu_hours = saved["step"], saved["cpu_hours"]
        except (RuntimeError, KeyError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"{path} is damaged or of another network ({error}); remove it to start again"
            ) from error
        # What a killed run logged after its last checkpoint is dropped.
        for log in (self.folder / name for name in LOGS):
            if log.exists():
                header, *rows = log.read_text().splitlines()
                kept = [row for row in rows if int(row.split(",")[0]) <= self.done]
                write_text(log, "\n".join([header, *kept]) + "\n")

    def save(self) -> None:
        """Write the checkpoint and the averaged weights as a world file, each in one move."""
        state = {name: part.state_dict() for name, part in self._saved_parts().items()}
        with atomic_path(self.folder / CHECKPOINT) as partial:
            torch.save(state | {"step": self.done, "cpu_hours": self.cpu_hours}, partial)
        write_world_file(self.folder / WEIGHTS, self._file())

    def _saved_parts(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "average": self.average,
            "muon": self.optimizer.muon,
            "adamw": self.optimizer.adamw,
        }

    def world(self) -> SanaWorld:
        """The averaged weights as a world."""
        return world_of(self._file())

    def _file(self) -> WorldFile:
        config, size = self.config, self.config.size
        metadata = {
            "name": "tiny",
            "height": size,
            "width": size,
            "fps": 16.0,
            "intrinsics": list(default_intrinsics(size, size)),
            "limits": asdict(WALK_LIMITS),
            "scenes": list(config.scenes),
            "start_radius": config.start_radius,
            "surfaces": [asdict(surface) for surface in self.captions.surfaces],
            "frequencies": list(config.frequencies),
            "clean_pass": False,
            "timesteps": list(TIMESTEPS),
            "window": asdict(WINDOW),
        }
        return WorldFile(self.average, self.codec, metadata, self.localiser)

    def append(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to a csv log; its first column is the step."""
        path = self.folder / name
        fresh = not path.exists()
        with path.open("a", newline="") as stream:
            writer = csv.DictWriter(stream, row)
            if fresh:
                writer.writeheader()
            writer.writerow(row)


def load(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Fill a network with tensors from `path`; ValueError if they are of another network."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"{path} is of another network: {error}") from error


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file in one step."""
    with atomic_path(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
