"""Networks of other libraries from the folders of a release: VAEs, text encoders and refiner.

Folders are local and in the libraries' own layout: config.json next to safetensors, one file or
shards with an index. Nothing is downloaded or unpickled. Everything that headers contain is checked
before a weight is read, and weights are read one by one into the given dtype and device.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from sana_wm_gym.files import read_json
from sana_wm_gym.models.refiner import Refiner, RefinerPlan, video_only
from sana_wm_gym.models.text import GeneratorTextEncoder, RefinerTextEncoder
from sana_wm_gym.models.vae import RELEASED_TILING, Tiling, VideoVae
from sana_wm_gym.weights.containers import open_container

VaeT = TypeVar("VaeT", bound=VideoVae)


def load_vae(
    kind: type[VaeT],
    folder: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    tiling: Tiling | None = RELEASED_TILING,
) -> VaeT:
    """A VAE from its folder.

    Args:
        kind: `CausalVae` for the streaming release (`ltx2_causal_vae/`), `VideoVae` for the
            bidirectional and chunk-causal ones (`vae/`).
        folder: The folder.
        dtype: Type of all weights.
        device: Where the weights go.
        tiling: See `VideoVae`.

    Raises:
        FileNotFoundError: The folder has no config.json, or a shard is missing.
        ModuleNotFoundError: diffusers is missing.
        ValueError: A setting is unknown, the weights are damaged or do not fit, or the decoder is
            not of this kind.
    """
    library = _library("diffusers", "AutoencoderKLLTX2Video")
    path = _config(folder)
    settings = _library_settings(read_json(path))
    unknown = sorted(settings.keys() - inspect.signature(library.__init__).parameters.keys())
    if unknown:
        raise ValueError(f"{path} has unknown settings {unknown}")
    with torch.device("meta"):
        autoencoder = library(**settings)
    _load(autoencoder, folder, _shapes(autoencoder), dtype, device)
    if not (autoencoder.latents_std > 0).all():
        raise ValueError(f"{folder}: latents_std is not positive everywhere")
    return kind(autoencoder, tiling).eval()


def load_generator_text(
    folder: Path, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> GeneratorTextEncoder:
    """Gemma-2 without its language head, from its folder.

    Raises:
        FileNotFoundError: The folder has no config.json.
        ModuleNotFoundError: transformers is missing.
    """
    return GeneratorTextEncoder(*_language_model(folder, dtype, device))


def load_refiner_text(
    gemma: Path, connectors: Path, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> RefinerTextEncoder:
    """Gemma-3 and LTX-2's text connectors from their folders.

    Raises:
        FileNotFoundError: A folder has no config.json.
        ModuleNotFoundError: transformers or diffusers is missing.
    """
    _config(connectors)
    library = _library("diffusers.pipelines.ltx2.connectors", "LTX2TextConnectors")
    tokenizer, model = _language_model(gemma, dtype, device)
    mixer = library.from_pretrained(
        connectors, local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    return RefinerTextEncoder(tokenizer, model, mixer.to(device).eval())


def load_refiner(
    folder: Path, plan: RefinerPlan, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> Refiner:
    """The refiner from the folder of an `LTX2VideoTransformer3DModel`, its video half alone.

    Raises:
        FileNotFoundError: The folder has no config.json, or a shard is missing.
        ModuleNotFoundError: diffusers is missing.
        ValueError: The weights are damaged or do not fit, or the configuration is of another LTX.
    """
    _config(folder)
    module = "diffusers.models.transformers.transformer_ltx2"
    library = _library(module, "LTX2VideoTransformer3DModel")
    with torch.device("meta"):
        full = library.from_config(library.load_config(folder, local_files_only=True))
    known = _shapes(full)
    refiner = Refiner(video_only(full), plan)
    _load(refiner.transformer, folder, known, dtype, device)
    return refiner.eval()


def _library(module: str, name: str) -> Any:
    try:
        return getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModuleNotFoundError(
            'no diffusers >= 0.42 and transformers; install "sana_wm_gym[hub]"'
        ) from error


def _config(folder: Path) -> Path:
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise FileNotFoundError(f"no config.json in {folder}; expected it next to safetensors")
    return path


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def _load(
    module: nn.Module,
    folder: Path,
    known: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device | str,
) -> None:
    """Fill a module without storage; `known` are the weights that the files may have."""
    required = _shapes(module)
    container = open_container(folder)
    container.check(required, known)
    tensors = container.load({name: name for name in required}, dtype, device)
    module.load_state_dict(tensors, assign=True)
    module.requires_grad_(False)


def _library_settings(stored: dict[str, Any]) -> dict[str, Any]:
    """Settings of a VAE's config under the library's names.

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


def _language_model(folder: Path, dtype: torch.dtype, device: str) -> tuple[Any, nn.Module]:
    """Tokenizer and network without a language head."""
    _config(folder)
    # In diffusers' layout the tokenizer has a folder of its own, next to the network's.
    place = folder.parent / "tokenizer"
    if any(folder.glob("tokenizer*")) or not place.is_dir():
        place = folder
    library = _library("transformers", "AutoTokenizer")
    tokenizer = library.from_pretrained(place, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = _library("transformers", "AutoModel").from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=dtype
    )
    return tokenizer, model.to(device).eval().requires_grad_(False)
