"""Networks of other libraries from the folders of a release: text encoders and refiner.

Folders are local and in the libraries' own layout (config.json and safetensors); nothing is
downloaded here and nothing is unpickled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from sana_wm_gym.models.refiner import Refiner, RefinerPlan, video_only
from sana_wm_gym.models.text import GeneratorTextEncoder, RefinerTextEncoder
from sana_wm_gym.weights.containers import open_container

HUB_EXTRA = 'no diffusers and transformers; install "sana_wm_gym[hub]"'


def load_generator_text(
    folder: Path, dtype: torch.dtype = torch.bfloat16, device: str = "cpu"
) -> GeneratorTextEncoder:
    """Gemma-2 without its language head, from its folder.

    Raises:
        FileNotFoundError: The folder has no config.json.
        ModuleNotFoundError: transformers is missing.
    """
    tokenizer, model = _language_model(folder, dtype, device)
    return GeneratorTextEncoder(tokenizer, model)


def load_refiner_text(
    gemma: Path,
    connectors: Path,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
) -> RefinerTextEncoder:
    """Gemma-3 and LTX-2's text connectors from their folders.

    Raises:
        FileNotFoundError: A folder has no config.json.
        ModuleNotFoundError: transformers or diffusers is missing.
    """
    _require_config(connectors)
    try:
        from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
    except ImportError as error:
        raise ModuleNotFoundError(HUB_EXTRA) from error
    tokenizer, model = _language_model(gemma, dtype, device)
    mixer = LTX2TextConnectors.from_pretrained(
        connectors, local_files_only=True, use_safetensors=True, torch_dtype=dtype
    )
    return RefinerTextEncoder(tokenizer, model, mixer.to(device).eval())


def load_refiner(
    folder: Path,
    plan: RefinerPlan,
    dtype: torch.dtype = torch.bfloat16,
    device: str = "cpu",
) -> Refiner:
    """The refiner from the folder of an `LTX2VideoTransformer3DModel`.

    Names and shapes are checked first; then the video half alone is read, tensor by tensor,
    straight into `dtype` on `device`.

    Raises:
        FileNotFoundError: The folder has no config.json, or a shard is missing.
        ModuleNotFoundError: diffusers is missing.
        ValueError: A weight is missing, unknown, of the wrong shape or not finite, a file is
            truncated or there is none, or the configuration is of another LTX.
    """
    _require_config(folder)
    try:
        from diffusers.models.transformers.transformer_ltx2 import LTX2VideoTransformer3DModel
    except ImportError as error:
        raise ModuleNotFoundError(HUB_EXTRA) from error
    with torch.device("meta"):
        full = LTX2VideoTransformer3DModel.from_config(
            LTX2VideoTransformer3DModel.load_config(folder, local_files_only=True)
        )
    known = {name: tuple(tensor.shape) for name, tensor in full.state_dict().items()}
    refiner = Refiner(video_only(full), plan)
    wanted = {name: known[name] for name in refiner.transformer.state_dict()}
    container = open_container(folder)
    container.check(wanted, known)
    tensors = container.load({name: name for name in wanted}, dtype, device)
    refiner.transformer.load_state_dict(tensors, assign=True)
    return refiner.eval().requires_grad_(False)


def _require_config(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"no config.json in {folder}")


def _language_model(folder: Path, dtype: torch.dtype, device: str) -> tuple[Any, nn.Module]:
    """Tokenizer and network without a language head."""
    _require_config(folder)
    try:
        from transformers import AutoModel, AutoTokenizer
    except ImportError as error:
        raise ModuleNotFoundError(HUB_EXTRA) from error
    # Diffusers' layout keeps the tokenizer in a folder beside the network's.
    beside = folder.parent / "tokenizer"
    own = any(folder.glob("tokenizer*")) or not beside.is_dir()
    tokenizer = AutoTokenizer.from_pretrained(folder if own else beside, local_files_only=True)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = AutoModel.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, dtype=dtype
    )
    return tokenizer, model.to(device).eval().requires_grad_(False)
