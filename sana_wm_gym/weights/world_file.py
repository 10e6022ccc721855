"""One file for a whole embedded world: generator, codec, localiser and all that builds them.

A safetensors file; tensors are named `generator.*`, `codec.*` and `localiser.*`, and one JSON text
in the header contains the sizes of the networks and the facts about the world. Weights are stored
in half precision and computed with in float32.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.tensor_files import read_header, write_tensors
from sana_wm_gym.values import from_json
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
        localiser: Finds a first frame in the scene; None for a world whose cameras are relative to
            the first frame.
        path: The file that it was read from.
    """

    generator: SanaWM
    codec: PatchCodec
    metadata: dict[str, Any]
    localiser: Localiser | None = None
    path: Path | None = None

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
    write_tensors(path, FORMAT, tensors, header)


def read_world_file(path: Path) -> WorldFile:
    """Read and check a world file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or not a world file, a tensor is missing, unknown, of
            the wrong shape, or not finite.
    """
    header, container = (
        from_json(_Header, read_header(path, FORMAT), str(path)),
        open_container(path),
    )
    depths = [header.generator.depth, header.codec.depth]
    depths += [] if header.localiser is None else header.localiser.depth
    if sum(depths) > len(container.stored):
        raise ValueError(f"{path} has {len(container.stored)} tensors for {sum(depths)} layers")
    with torch.device("meta"):  # nothing is allocated before it is known to be in the file
        wanted = {n: tuple(part.shape) for n, part in header.file().parts.state_dict().items()}
    container.check(wanted)
    file = replace(header.file(), path=path)
    file.parts.eval().load_state_dict(container.load({n: n for n in wanted}, torch.float32, "cpu"))
    return file


@dataclass(frozen=True)
class _Header:
    format: str
    generator: SanaWMConfig
    codec: CodecConfig
    localiser: LocaliserConfig | None
    world: dict[str, Any]

    def file(self) -> WorldFile:
        """With new networks."""
        generator, codec = SanaWM(self.generator, EXACT), PatchCodec(self.codec)
        localiser = None if self.localiser is None else Localiser(self.localiser)
        return WorldFile(generator, codec, self.world, localiser)
