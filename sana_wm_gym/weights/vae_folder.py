"""VAE folders as released: `config.json` beside safetensors, one file or shards with an index.

The bidirectional release's `vae/` and the streaming release's `ltx2_causal_vae/` have this layout
and name their weights alike, so diffusers' `AutoencoderKLLTX2Video` holds both; only the causal
one's settings need translating. Everything that headers can tell is checked before a weight is
read, and weights are read one by one straight into the wanted dtype and device.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import torch

from sana_wm_gym.models.causal_vae import CausalVae
from sana_wm_gym.models.vae import RELEASED_TILING, Tiling, VideoVae
from sana_wm_gym.weights.containers import INDEX, open_container


def read_video_vae(
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    tiling: Tiling | None = RELEASED_TILING,
) -> VideoVae:
    """The VAE of the bidirectional and chunk-causal releases (`vae/`).

    Raises:
        FileNotFoundError: The folder, its config or its weights are missing.
        ImportError: diffusers is not installed.
        ValueError: A setting is unknown, or the weights are damaged or do not fit it.
    """
    return VideoVae(_read(Path(folder), dtype, device), tiling).eval()


def read_causal_vae(
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    tiling: Tiling | None = RELEASED_TILING,
) -> CausalVae:
    """The VAE of the streaming release (`ltx2_causal_vae/`).

    Raises:
        FileNotFoundError: The folder, its config or its weights are missing.
        ImportError: diffusers is not installed.
        ValueError: A setting is unknown, the decoder is not causal, or the weights are damaged or
            do not fit.
    """
    return CausalVae(_read(Path(folder), dtype, device), tiling).eval()


def _read(folder: Path, dtype: torch.dtype, device: torch.device | str) -> Any:
    autoencoder = _empty(folder)
    container = open_container(_weights(folder))
    container.check({n: tuple(tensor.shape) for n, tensor in autoencoder.state_dict().items()})
    tensors = container.load({name: name for name in container.stored}, dtype, device)
    if not (tensors["latents_std"] > 0).all():
        raise ValueError(f"{folder}: latents_std is not positive everywhere")
    autoencoder.load_state_dict(tensors, assign=True)
    return autoencoder.requires_grad_(False)


def _empty(folder: Path) -> Any:
    """The library's module without memory for its weights."""
    try:
        from diffusers import AutoencoderKLLTX2Video
    except ImportError as error:
        raise ImportError(
            'no diffusers with AutoencoderKLLTX2Video; install "sana_wm_gym[hub]"'
        ) from error
    path = folder / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no {path}; expected a VAE folder: config.json and safetensors")
    try:
        stored = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a JSON object: {error}") from error
    settings = _library_settings(stored)
    known = inspect.signature(AutoencoderKLLTX2Video.__init__).parameters
    unknown = sorted(settings.keys() - known.keys())
    if unknown:
        raise ValueError(f"{path} has unknown settings {unknown}")
    with torch.device("meta"):
        return AutoencoderKLLTX2Video(**settings)


def _library_settings(stored: dict[str, Any]) -> dict[str, Any]:
    """Settings of a shipped config under the library's names.

    The streaming release's own class differs in two: `decoder_upsample_type` counts from the
    output side as its neighbours do, the library's `upsample_type` from the latent side, and
    absent means that every stage enlarges space and time; `gradient_checkpointing` is for training.
    """
    settings = {name: value for name, value in stored.items() if not name.startswith("_")}
    settings.pop("gradient_checkpointing", None)
    kinds = settings.pop("decoder_upsample_type", None)
    if kinds is not None:
        settings["upsample_type"] = list(reversed(kinds))
    elif "upsample_type" not in settings and "decoder_block_out_channels" in settings:
        stages = len(settings["decoder_block_out_channels"])
        settings["upsample_type"] = ["spatiotemporal"] * stages
    return settings


def _weights(folder: Path) -> Path:
    """The safetensors file, or the index of its shards; pickled weights are not read."""
    for pattern in (f"*{INDEX}", "*.safetensors"):
        found = sorted(folder.glob(pattern))
        if len(found) > 1:
            raise ValueError(
                f"{folder} holds {len(found)} safetensors files; expected one or {INDEX}"
            )
        if found:
            return found[0]
    raise FileNotFoundError(
        f"no weights in {folder}; expected a .safetensors file (other formats are not read)"
    )
