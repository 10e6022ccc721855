"""`manifest_*.json`: names and shapes of the full-size state dict."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.parity_checks.check import GoldenError, Outcome, equal
from benchmarks.parity_checks.files import entry, read_json
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig


def check(path: Path) -> Iterator[Outcome]:
    """Build the network without storage and compare its state dict with the manifest.

    Raises:
        GoldenError: The file is not readable, or its sizes make no network.
    """
    manifest = read_json(path)
    entries = entry(manifest, "state_dict", dict, path.name)
    shapes = {name: tuple(item["shape"]) for name, item in entries.items()}
    config = _sizes(shapes, path.name)
    with torch.device("meta"):
        model = SanaWM(config)
    ours = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    buffers = {name for name, _ in model.named_buffers()}

    yield equal("missing names", sorted(shapes.keys() - ours.keys()), [])
    yield equal("unexpected names", sorted(ours.keys() - shapes.keys()), [])
    for name in shapes:
        if name in ours:
            kind = "buffer" if name in buffers else "parameter"
            expected_kind = entries[name].get("kind", kind)
            yield equal(name, (kind, ours[name]), (expected_kind, shapes[name]))
    if "total_parameters" in manifest:
        total = sum(parameter.numel() for parameter in model.parameters())
        yield equal("total_parameters", total, manifest["total_parameters"])


def _sizes(shapes: Mapping[str, tuple[int, ...]], where: str) -> SanaWMConfig:
    """Network sizes from the shapes of a state dict."""
    blocks = sorted({int(name.split(".")[1]) for name in shapes if name.startswith("blocks.")})
    softmax = [i for i in blocks if f"blocks.{i}.attn.conv_k.weight" not in shapes]

    def size(name: str, axis: int) -> int:
        if name not in shapes or len(shapes[name]) <= axis:
            raise GoldenError(f"{where}: state_dict lacks {name!r} with an axis {axis}")
        return shapes[name][axis]

    width = size("x_embedder.proj.weight", 0)
    stated: dict[str, Any] = {
        "latent_channels": size("x_embedder.proj.weight", 1),
        "width": width,
        "depth": len(blocks),
        "heads": size("blocks.0.attn.A_log", 0),
        "softmax_every": softmax[0] + 1 if softmax else len(blocks) + 1,
        "mlp_ratio": size("blocks.0.mlp.point_conv.conv.weight", 1) / width,
        "text_channels": size("y_embedder.y_embedding", 1),
        "text_tokens": size("y_embedder.y_embedding", 0),
        "conv_kernel": size("blocks.0.attn.conv_k.weight", 2) if 0 not in softmax else 4,
        "temporal_kernel": size("blocks.0.mlp.t_conv.weight", 2),
        "plucker_channels": size("plucker_embedder.proj.weight", 1),
        "position_entries": shapes.get("pos_embed", (0, 0))[1],
    }
    try:
        return SanaWMConfig(**stated)
    except ValueError as error:
        raise GoldenError(f"{where}: {error}") from None
