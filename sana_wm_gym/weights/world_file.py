"""One file for a whole embedded world: generator, codec, localiser and all that builds them.

A safetensors file; tensors are named `generator.*`, `codec.*` and `localiser.*`, and one JSON text
in the header contains the sizes of the networks and the facts about the world. Weights are stored
in half precision and computed with in float32.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import nn

from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.weights.containers import open_container

FORMAT = "sana_wm_gym/world/2"
EMBEDDED = Path(__file__).parent / "embedded"


@dataclass(frozen=True)
class WorldFile:
    """Contents of a world file.

    Attributes:
        generator: Network that predicts clean latents.
        codec: Frames to latents and back.
        metadata: The world's plain facts (name, frame size, rate, intrinsics, limits, scenes,
            surfaces, timesteps, window, ...), as JSON values; see `world_files.world_of`.
        localiser: Finds a first frame in the map; None for a world whose cameras are relative to
            the first frame.
    """

    generator: SanaWM
    codec: PatchCodec
    metadata: dict[str, Any]
    localiser: Localiser | None = None

    @property
    def parts(self) -> nn.ModuleDict:
        """The networks that are there, by the prefix of their tensors."""
        named = {"generator": self.generator, "codec": self.codec, "localiser": self.localiser}
        return nn.ModuleDict({name: module for name, module in named.items() if module is not None})


def write_world_file(path: Path, world: WorldFile) -> None:
    """Write a world file in one step.

    Raises:
        ValueError: A weight does not fit half precision.
    """
    header = {
        "format": FORMAT,
        "generator": asdict(world.generator.config),
        "codec": asdict(world.codec.config),
        "localiser": None if world.localiser is None else asdict(world.localiser.config),
        "world": world.metadata,
    }
    tensors = {
        name: tensor.detach().half().contiguous()
        for name, tensor in world.parts.state_dict().items()
    }
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that float16 cannot hold")
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"sana_wm_gym": json.dumps(header)})


def read_world_file(path: Path) -> WorldFile:
    """Read and check a world file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or not a world file, a tensor is missing, unknown, of
            the wrong shape, or not finite.
    """
    container = open_container(path)
    try:
        header = json.loads(container.metadata["sana_wm_gym"])
        if header["format"] != FORMAT:
            raise ValueError(f"{path} has format {header['format']!r}; expected {FORMAT!r}")
        generator = SanaWM(SanaWMConfig(**header["generator"]), EXACT)
        codec = PatchCodec(CodecConfig(**header["codec"]))
        sized = header["localiser"]
        localiser = None if sized is None else Localiser(LocaliserConfig(**sized))
        file = WorldFile(generator, codec, dict(header["world"]), localiser)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} lacks the header of a world file: {error!r}") from error
    parts = file.parts.eval()
    wanted = {name: tuple(tensor.shape) for name, tensor in parts.state_dict().items()}
    container.check(wanted)
    parts.load_state_dict(container.load({n: n for n in wanted}, torch.float32, "cpu"))
    return file
