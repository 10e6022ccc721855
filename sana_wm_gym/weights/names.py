"""Upstream's names of tensors, files and variants of the Stage-1 generator.

Our networks have the released names but for wrappers around the state dict, one unread entry and
two names of the diffusers port. Names and shapes are those of the network built without storage; a
test compares them with the published manifests.

Source: SANA-WM public releases; `SanaWMTransformer3DModel` of diffusers 0.42.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from sana_wm_gym.files import read_json, read_text
from sana_wm_gym.models import numerics
from sana_wm_gym.models.numerics import Numerics
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig

T = TypeVar("T")
Shapes = dict[str, tuple[int, ...]]

RELEASED = SanaWMConfig(position_entries=0)
"""The released network, without the entry that every loader drops."""


class Variant(StrEnum):
    """The three released generators. Their tensors have the same names and shapes."""

    BIDIRECTIONAL = "bidirectional"
    CHUNK_CAUSAL = "chunk_causal"
    STREAMING = "streaming"


AS_RELEASED: Mapping[Variant, Numerics] = {
    Variant.BIDIRECTIONAL: numerics.R1_BIDIRECTIONAL,
    Variant.CHUNK_CAUSAL: numerics.R1_CHUNK_CAUSAL,
    Variant.STREAMING: numerics.R1_STREAMING,
}
"""Numbers as the released code computes them (revision R1)."""

NESTS = ("state_dict", "generator")
"""Keys under which a `model.pt` may hold its state dict."""

PREFIX = "model."
DROPPED = "pos_embed"

DIFFUSERS_RENAMED = (
    ("t_embedder.mlp.0.", "t_embedder.linear_1."),
    ("t_embedder.mlp.2.", "t_embedder.linear_2."),
)
"""Beginnings of released names and those of diffusers, where they differ."""

DIFFUSERS_ABSENT = (DROPPED, "y_embedder.y_embedding")
"""Entries that the released checkpoints carry and diffusers leaves out; nothing reads them."""

DIFFUSERS_CLASS = "SanaWMTransformer3DModel"
METADATA_VARIANT = "sana_wm_variant"
"""Header entry of the files that this package writes."""

FOLDERS = ("dit", "sana_dit", "transformer")
"""Where a release keeps its generator."""

_STEMS = (
    ("sana_wm_chunk_causal_1600m_720p", Variant.CHUNK_CAUSAL),
    ("SANA-WM_chunk_causal", Variant.CHUNK_CAUSAL),
    ("SANA-WM_streaming", Variant.STREAMING),
    ("sana_dit", Variant.STREAMING),
    ("sana_wm_1600m_720p", Variant.BIDIRECTIONAL),
    ("SANA-WM_bidirectional", Variant.BIDIRECTIONAL),
)

_QUANTISED = re.compile(
    r"blocks\.\d+\.(attn\.(qkv|proj|beta_proj|gate_proj|output_gate)|"
    r"cross_attn\.(q_linear|kv_linear|proj)|mlp\.(inverted_conv|point_conv)\.conv)\.weight"
)
_REFINER_NATIVE = re.compile(r"proj_in|proj_out|audio|caption_projection|time_embed")


@cache
def expected_shapes(config: SanaWMConfig = RELEASED) -> Shapes:
    """Names and shapes of a generator's state dict; nothing is allocated."""
    with torch.device("meta"):
        model = SanaWM(config)
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def released_names(stored: Iterable[str]) -> dict[str, str]:
    """Released names to stored ones of any container, without the entry that is dropped.

    Raises:
        ValueError: Two stored names stand for one tensor.
    """
    found: dict[str, str] = {}
    for name in stored:
        released = name.removeprefix(PREFIX)
        for ours, theirs in DIFFUSERS_RENAMED:
            if released.startswith(theirs):
                released = ours + released.removeprefix(theirs)
        if released in found:
            raise ValueError(f"given {found[released]!r} and {name!r}, which are one tensor")
        if released != DROPPED:
            found[released] = name
    return found


def diffusers_names(weights: Mapping[str, T]) -> dict[str, T]:
    """A released state dict under the names of diffusers."""
    renamed = {}
    for name, tensor in weights.items():
        for ours, theirs in DIFFUSERS_RENAMED:
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        if name not in DIFFUSERS_ABSENT:
            renamed[name] = tensor
    return renamed


def stated_variant(file: Path, metadata: Mapping[str, str]) -> Variant | None:
    """Which generator a file of a checkpoint states that it holds, or None.

    The tensors do not show it: all three variants have the same names and shapes. Read are, in this
    order, the header of files written here, the diffusers config next to the file, the release's
    `config.yaml`, and the names that the releases give to files and folders.

    Raises:
        ValueError: The header (`metadata`) names a variant that is not known.
    """
    header = metadata.get(METADATA_VARIANT)
    if header is not None:
        if header not in list(Variant):
            raise ValueError(f"{file} states {header!r}; expected one of {[*map(str, Variant)]}")
        return Variant(header)
    with suppress(OSError, ValueError):  # no such file, or not an object in it
        config = read_json(file.parent / "config.json")
        if config.get("_class_name") == DIFFUSERS_CLASS:
            return Variant.BIDIRECTIONAL
    for folder in (file.parent, file.parent.parent):
        yaml = folder / "config.yaml"
        stated = _yaml_variant(read_text(yaml)) if yaml.is_file() else None
        if stated is not None:
            return stated
    for part in (file.name, *(folder.name for folder in file.absolute().parents)):
        for stem, variant in _STEMS:
            if stem in part:
                return variant
    return None


def _yaml_variant(text: str) -> Variant | None:
    """Upstream picks the streaming generator by model class, the chunk-causal by attention."""
    if re.search(r"^\s*model:\s*\S*CamCtrlStreaming", text, re.MULTILINE):
        return Variant.STREAMING
    attention = re.search(r"^\s*camctrl_type:\s*(\S+)", text, re.MULTILINE)
    if attention is None:
        return None
    return Variant.CHUNK_CAUSAL if "ChunkCausal" in attention[1] else Variant.BIDIRECTIONAL


def quantised(name: str, shape: tuple[int, ...]) -> bool:
    """Whether the fp8 and NVFP4 modes store this weight of the generator in fewer bits.

    Linears of the two attentions and the 1x1 convolutions of the FFN, both sides a multiple of
    16; embedders, the final layer and everything that reads cameras stay as they are.
    """
    return bool(_QUANTISED.fullmatch(name)) and not (shape[0] % 16 or shape[1] % 16)


def quantised_refiner(name: str, shape: tuple[int, ...]) -> bool:
    """The same for the refiner's transformer: its linears but for inputs, outputs and audio."""
    return len(shape) == 2 and not (_REFINER_NATIVE.search(name) or shape[0] % 16 or shape[1] % 16)
