"""Prompts to what a network reads: encoded text, or words for surfaces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import platformdirs
import torch
import torch.nn.functional as F

from sana_wm_gym.files import read_text
from sana_wm_gym.models.text import (
    Prompt,
    PromptEmbedding,
    TextEncoder,
    chi_prompt_of,
    released_chi_prompt,
)
from sana_wm_gym.weights.components import load_generator_text
from sana_wm_gym.weights.prompt_cache import PromptCache, read_embedding
from sana_wm_gym.world.procedural.appearance import Surface, parse_prompt

TEXT = "gemma-2-2b-it"
"""The generators' text encoder, as its folder is called."""


@dataclass(frozen=True)
class Captions:
    """Prompts to what a network reads, by way of the prompt cache.

    Attributes:
        cache: Prompts that are encoded already.
        encoder: Text encoder and revision.
        preamble: Gives the instruction in front of every prompt.
        load: Makes the text encoder; called only for a prompt that is new.
        channels: Width of the features that the network reads.
    """

    cache: PromptCache
    encoder: str
    preamble: Callable[[], str]
    load: Callable[[], TextEncoder]
    channels: int

    def __call__(self, text: str) -> PromptEmbedding:
        """Encode a prompt, or read the file it names if it ends in ".safetensors".

        Raises:
            FileNotFoundError: The file is missing, or a new prompt and the encoder is missing.
            ValueError: The features have another width than the network reads.
        """
        if text.endswith(".safetensors"):
            _, embedding = read_embedding(Path(text))
        else:
            [embedding] = self.cache.embed(self.encoder, [Prompt(text, self.preamble())], self.load)
        width = embedding.features.shape[-1]
        if width != self.channels:
            raise ValueError(f"given prompt features of width {width}; expected {self.channels}")
        return embedding


@dataclass(frozen=True)
class SurfaceCaptions:
    """Prompts that name the variants of a scene's surfaces, for a generator that learned them.

    A caption has one token that is always there and one per surface: one-hot over all variants of
    all surfaces, masked where the prompt leaves the surface out.

    Attributes:
        surfaces: What can be named.
    """

    surfaces: tuple[Surface, ...]

    @property
    def channels(self) -> int:
        """Width of the features."""
        return 1 + sum(len(surface.variants) for surface in self.surfaces)

    @property
    def tokens(self) -> int:
        """Length of a caption."""
        return 1 + len(self.surfaces)

    def __call__(self, text: str) -> PromptEmbedding:
        """Encode a prompt such as "red door, green crates"; errors as of `parse_prompt`."""
        named = parse_prompt(self.surfaces, text)
        return self.embed(np.array([[-1 if v is None else v for v in named]]))

    def embed(self, appearance: npt.NDArray[np.int64]) -> PromptEmbedding:
        """Encode variants [b, surfaces], -1 where a surface is left out, as features
        [b, tokens, channels]."""
        sizes = [len(surface.variants) for surface in self.surfaces]
        first = 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]])
        before = ((0, 0), (1, 0))  # the token that is always there: channel 0, not masked
        chosen = np.pad(np.maximum(appearance, 0) + first.astype(np.int64), before)
        mask = np.pad(appearance >= 0, before, constant_values=True)
        features = F.one_hot(torch.from_numpy(chosen), self.channels).float()
        return PromptEmbedding(features, torch.from_numpy(mask).long())


def chi_prompt(settings: Path | None) -> str:
    """The chi prompt of a config.yaml, or of diffusers for None.

    Raises:
        ModuleNotFoundError: diffusers is missing or too old.
        ValueError: The file has none.
    """
    if settings is None:
        return released_chi_prompt()
    import yaml  # type: ignore[import-untyped]

    try:
        parsed = yaml.safe_load(read_text(settings, "a YAML file", 2**20))
    except (RecursionError, yaml.YAMLError) as error:
        raise ValueError(f"{settings} is not YAML: {' '.join(str(error).split())}") from error
    return chi_prompt_of(parsed if isinstance(parsed, dict) else {})


def generator_text(folder: Path | None, device: str) -> TextEncoder:
    """The generator's text encoder on a device; FileNotFoundError if there is none."""
    if folder is None:
        raise FileNotFoundError(
            f"no text encoder for a prompt that is not encoded yet; put {TEXT}/ next to the "
            "generator, or give the .safetensors file of an encoded prompt as the prompt"
        )
    return load_generator_text(folder, device=device)


def default_prompts() -> Path:
    """Where encoded prompts are kept, in the user's cache."""
    return platformdirs.user_cache_path("sana_wm_gym", appauthor=False) / "prompts"


def fingerprint(folder: Path) -> str:
    """Stands for a folder's revision: a hash of its JSON files, and all files' names and sizes."""
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.is_file():
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
            if file.suffix == ".json":
                digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
