"""Encoded prompts on disk, so that a text encoder is loaded once per set of prompts, never kept.

One safetensors file per prompt: the features and their mask, and in the header what they are of.
Files are named by the SHA-256 of (encoder, preamble, text); `read_embedding` reads any by its path.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from sana_wm_gym.files import atomic_path
from sana_wm_gym.models.text import Prompt, PromptEmbedding, TextEncoder

FORMAT = "sana_wm_gym/prompt/1"


@dataclass(frozen=True)
class PromptKey:
    """What an embedding is of.

    Attributes:
        encoder: Encoder and revision, such as "gemma-2-2b-it@<commit>": another revision makes
            other features.
        prompt: The prompt with its preamble.
    """

    encoder: str
    prompt: Prompt

    def digest(self) -> str:
        """SHA-256 of the key."""
        parts = json.dumps([self.encoder, self.prompt.preamble, self.prompt.text])
        return hashlib.sha256(parts.encode()).hexdigest()


def write_embedding(path: Path, key: PromptKey, embedding: PromptEmbedding) -> None:
    """Write an encoded prompt in one step.

    Raises:
        ValueError: The features are not finite.
    """
    if not torch.isfinite(embedding.features).all():
        raise ValueError(f"the features of {key.prompt.text[:40]!r} are not finite")
    header = json.dumps({"format": FORMAT, **asdict(key)})
    tensors = {
        "features": embedding.features.detach().cpu().contiguous(),
        "mask": embedding.mask.cpu().contiguous(),
    }
    with atomic_path(path) as partial:
        save_file(tensors, partial, metadata={"sana_wm_gym": header})


def read_embedding(path: Path) -> tuple[PromptKey, PromptEmbedding]:
    """Read an encoded prompt and what it is of.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is truncated or not an encoded prompt.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no encoded prompt at {path}")
    try:
        with safe_open(path, framework="pt") as stored:
            header = json.loads((stored.metadata() or {})["sana_wm_gym"])
            if header["format"] != FORMAT:
                raise ValueError(f"{path} has format {header['format']!r}; expected {FORMAT!r}")
            key = PromptKey(header["encoder"], Prompt(**header["prompt"]))
            embedding = PromptEmbedding(stored.get_tensor("features"), stored.get_tensor("mask"))
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is damaged or not an encoded prompt: {error!r}") from error
    features, mask = embedding.features, embedding.mask
    if features.ndim != 3 or mask.shape != features.shape[:2]:
        raise ValueError(
            f"{path} holds features {tuple(features.shape)} and a mask {tuple(mask.shape)}; "
            "expected [1, l, c] and [1, l]"
        )
    return key, embedding


@dataclass(frozen=True)
class PromptCache:
    """A folder of encoded prompts.

    Attributes:
        folder: Where they are; made when the first is written.
    """

    folder: Path

    def path(self, key: PromptKey) -> Path:
        """Where the embedding of a key is kept."""
        return self.folder / f"{key.digest()}.safetensors"

    def embed(
        self, encoder: str, prompts: Sequence[Prompt], load: Callable[[], TextEncoder]
    ) -> list[PromptEmbedding]:
        """Embeddings of prompts, on the CPU; those not in the folder are encoded and kept.

        Args:
            encoder: Encoder and revision, see `PromptKey`.
            prompts: What to encode.
            load: Makes the encoder. Called once if any prompt is missing, else never; the encoder
                is let go before this returns.

        Raises:
            ValueError: A file in the folder is damaged, or of another prompt.
        """
        keys = [PromptKey(encoder, prompt) for prompt in prompts]
        missing = [key for key in dict.fromkeys(keys) if not self.path(key).is_file()]
        if missing:
            encode = load()
            for key in missing:
                write_embedding(self.path(key), key, encode(key.prompt))
            del encode
            # A network of gigabytes: collect what refers to itself, and free the memory at once.
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        embeddings = []
        for key in keys:
            found, embedding = read_embedding(self.path(key))
            if found != key:
                raise ValueError(
                    f"{self.path(key)} is of {found}; expected {key}: delete it to encode again"
                )
            embeddings.append(embedding)
        return embeddings
