"""Build the generator a reference file describes, and record what happens inside a call."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.parity_checks.check import (
    Array,
    Check,
    GoldenError,
    relative_l2,
    relative_or_absolute,
)
from benchmarks.parity_checks.files import Tensors, entry
from sana_wm_gym.models import numerics
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig

NUMERICS: Mapping[str, Numerics] = {
    "bidirectional": numerics.R1_BIDIRECTIONAL,
    "chunk_causal": numerics.R1_CHUNK_CAUSAL,
    "streaming": numerics.R1_STREAMING,
}
"""The revision the reference tensors were made with, per variant."""

PRECISIONS = {"fp32": False, "bf16attn": True}
"""Whether softmax inputs are rounded to bfloat16, per folder of tensors."""

ONE_FORWARD = 1e-5
BF16 = 1e-4
STREAMING_RUN = 1e-4


@dataclass(frozen=True)
class Network:
    """What a `dit_*` pair of files states about its network.

    Attributes:
        variant: Key of `NUMERICS`.
        config: Sizes.
        chunk: Latent frames per chunk; None for the full-sequence generator.
        weights: State dict.
        description: The whole json file.
    """

    variant: str
    config: SanaWMConfig
    chunk: int | None
    weights: dict[str, Tensor]
    description: Mapping[str, Any]

    def build(self, bf16_softmax: bool) -> SanaWM:
        """The network in evaluation mode, float32.

        Raises:
            GoldenError: The weights do not fit the stated sizes.
        """
        choice = replace(NUMERICS[self.variant], bf16_softmax=bf16_softmax)
        try:
            model = SanaWM(self.config, choice).eval()
            model.load_state_dict(self.weights)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise GoldenError(f"weights do not fit model_config: {reason[:300]}") from None
        return model


def read_network(path: Path, description: Mapping[str, Any]) -> Network:
    """Sizes and weights of a `dit_*.safetensors` file.

    A file without `weights/` uses those of another `dit_*` file in its folder: the reference sets
    hold the same weights in each.

    Raises:
        GoldenError: The description lacks a size, or there are no weights.
    """
    where = f"{path.stem}.json"
    variant = entry(description, "variant", str, where)
    if variant not in NUMERICS:
        raise GoldenError(f"{where}: expected variant in {list(NUMERICS)}, got {variant!r}")
    stated = entry(description, "model_config", dict, where)
    depth = entry(stated, "depth", int, where)
    weights = _find_weights(path)
    position = weights.get("pos_embed")
    try:
        config = SanaWMConfig(
            latent_channels=entry(stated, "in_channels", int, where),
            width=entry(stated, "hidden_size", int, where),
            depth=depth,
            heads=entry(stated, "num_heads", int, where),
            softmax_every=stated.get("softmax_every_n") or depth + 1,
            mlp_ratio=entry(stated, "mlp_ratio", float, where),
            text_channels=entry(stated, "caption_channels", int, where),
            text_tokens=entry(stated, "model_max_length", int, where),
            conv_kernel=entry(stated, "conv_kernel_size", int, where),
            temporal_kernel=entry(stated, "t_kernel_size", int, where),
            plucker_channels=entry(stated, "chunk_plucker_channels", int, where),
            position_entries=0 if position is None else position.shape[1],
        )
    except ValueError as error:
        raise GoldenError(f"{where}: {error}") from None
    return Network(variant, config, stated.get("chunk_size"), weights, description)


def _find_weights(path: Path) -> dict[str, Tensor]:
    others = sorted(p for p in path.parent.glob("dit_*.safetensors") if p != path)
    for candidate in (path, *others):
        stored = Tensors.open(candidate).under("weights/")
        if stored:
            return {name: torch.from_numpy(tensor) for name, tensor in stored.items()}
    raise GoldenError(f"{path.name}: holds no weights/*, and no dit_* file in its folder does")


def compare(name: str, ours: Array, reference: Array) -> Check:
    """Compare one tensor by the rule that its full name calls for."""
    folders = name.split("/")
    if "derived" in folders:
        return relative_or_absolute(name, ours, reference, ONE_FORWARD)
    if "bf16attn" in folders:
        return relative_l2(name, ours, reference, BF16)
    if folders[-1] == "latents_final":
        return relative_l2(name, ours, reference, STREAMING_RUN)
    return relative_l2(name, ours, reference, ONE_FORWARD)


@dataclass(frozen=True)
class Call:
    """One recorded call: positional arguments and result."""

    arguments: tuple[Any, ...]
    result: Any


@contextmanager
def recording(root: nn.Module, names: Iterable[str]) -> Iterator[dict[str, list[Call]]]:
    """Record every call of some methods inside a network, without changing what they do.

    Args:
        root: Module that names are relative to.
        names: Dotted paths to methods, such as `attn.qkv.forward`; those that do not exist in
            this network are left out.
    """
    calls: dict[str, list[Call]] = {}
    patched: list[tuple[nn.Module, str]] = []
    for name in names:
        path, _, method = name.rpartition(".")
        owner = _submodule(root, path)
        if owner is not None and hasattr(owner, method):
            calls[name] = []
            setattr(owner, method, _recorded(getattr(owner, method), calls[name]))
            patched.append((owner, method))
    try:
        yield calls
    finally:
        for owner, method in patched:
            delattr(owner, method)


def _submodule(root: nn.Module, path: str) -> nn.Module | None:
    return dict(root.named_modules()).get(path)


def _recorded(method: Callable[..., Any], calls: list[Call]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        result = method(*arguments)
        calls.append(Call(arguments, result))
        return result

    return call


def as_array(tensor: Tensor) -> Array:
    """Tensor to NumPy, from any device."""
    array: Array = tensor.detach().cpu().numpy()
    return array


def as_tensor(array: Array) -> Tensor:
    """NumPy to a tensor of its own."""
    return torch.from_numpy(np.ascontiguousarray(array))
