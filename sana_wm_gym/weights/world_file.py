"""One file for a whole embedded world: generator, codec, localiser and all that builds them.

A safetensors file; tensors are named `generator.*`, `codec.*` and `localiser.*`, and one JSON text
in the header says how large the networks are and the facts about the world. Weights are stored in
half precision and computed with in float32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.codec import CodecConfig, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig

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
    def parts(self) -> dict[str, nn.Module]:
        """The networks that are there, by the prefix of their tensors."""
        named = {"generator": self.generator, "codec": self.codec, "localiser": self.localiser}
        return {name: module for name, module in named.items() if module is not None}


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
        f"{part}.{name}": tensor.detach().half().contiguous()
        for part, module in world.parts.items()
        for name, tensor in module.state_dict().items()
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
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}; expected a world file (.safetensors)")
    try:
        with safe_open(path, framework="pt") as stored:
            metadata = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from error
    try:
        header = json.loads(metadata["sana_wm_gym"])
        if header["format"] != FORMAT:
            raise ValueError(f"{path} has format {header['format']!r}; expected {FORMAT!r}")
        generator = SanaWM(SanaWMConfig(**header["generator"]), EXACT)
        codec = PatchCodec(CodecConfig(**header["codec"]))
        sized = header["localiser"]
        localiser = None if sized is None else Localiser(LocaliserConfig(**sized))
        file = WorldFile(generator, codec, dict(header["world"]), localiser)
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} lacks the header of a world file: {error!r}") from error
    for part, module in file.parts.items():
        fill(module.eval(), tensors, f"{part}.", path)
    known = tuple(f"{part}." for part in file.parts)
    unknown = sorted(name for name in tensors if not name.startswith(known))
    if unknown:
        raise ValueError(f"{path} holds unknown tensors {unknown[:5]}")
    return file


def fill(module: nn.Module, tensors: Mapping[str, Tensor], prefix: str, path: Path) -> None:
    """Copy tensors named `prefix` + key into a module.

    Raises:
        ValueError: A key is missing or unknown, a shape differs, or a value is not finite.
    """
    given = {
        name.removeprefix(prefix): tensor.float()
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    wanted = module.state_dict()
    missing, unknown = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(f"{path}: {prefix}* lacks {missing[:5]}, has unknown {unknown[:5]}")
    for name, tensor in given.items():
        if tensor.shape != wanted[name].shape:
            raise ValueError(
                f"{path}: {prefix}{name} has shape {tuple(tensor.shape)}; "
                f"expected {tuple(wanted[name].shape)}"
            )
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{path}: {prefix}{name} holds values that are not finite")
    module.load_state_dict(given)
