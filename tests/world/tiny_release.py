"""A release of real library classes at tiny size with random weights, as files.

Tests import this after they have made sure that diffusers and transformers are there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from safetensors.torch import save_file
from tiny_generators import CONFIG, scramble
from tiny_vae import TINY
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    PreTrainedTokenizerFast,
)

from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.weights.generator import save_generator
from sana_wm_gym.world.released.files import STREAMING, Layout
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offline import load_offline
from sana_wm_gym.world.released.streaming import load_streaming

SIZE = (64, 96)
LTX = {
    "in_channels": CONFIG.latent_channels,
    "out_channels": CONFIG.latent_channels,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "audio_in_channels": 3,
    "audio_out_channels": 3,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 12,
    "num_layers": 2,
    "caption_channels": 16,
    "rope_type": "split",
}
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *["a", "room", "with", "two", "doors", "Prompt:"]]
GEMMA = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
}
CHI_PROMPT = ["two rooms", "User Prompt: "]


def write_generator(folder: Path) -> None:
    """As published: nested, prefixed, pickled."""
    folder.mkdir()
    model = SanaWM(CONFIG)
    scramble(model, 0)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"generator": weights}, folder / "model.pt")


def write_vae(folder: Path, **changes: Any) -> None:
    folder.mkdir()
    vae = diffusers.AutoencoderKLLTX2Video(**TINY | changes)
    scramble(vae, 1)
    config = {name: value for name, value in vae.config.items() if name != "upsample_type"}
    config["_class_name"] = "AutoencoderKLCausalLTX2Video"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(vae.state_dict(), folder / "diffusion_pytorch_model.safetensors")


def write_text_encoder(folder: Path) -> None:
    torch.manual_seed(2)
    Gemma2ForCausalLM(Gemma2Config(**GEMMA)).save_pretrained(folder)
    write_tokenizer(folder)


def write_second_stage(folder: Path, text: Path) -> None:
    torch.manual_seed(3)
    transformer = diffusers.LTX2VideoTransformer3DModel(**LTX)
    transformer.save_pretrained(folder / "transformer")
    small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=3,
        **{f"{kind}_connector_{k}": v for kind in ("video", "audio") for k, v in small.items()},
    ).save_pretrained(folder / "connectors")
    Gemma3ForCausalLM(Gemma3TextConfig(**GEMMA)).save_pretrained(text)
    write_tokenizer(text)


def write_tokenizer(folder: Path) -> None:
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        unk_token="<unk>",
    ).save_pretrained(folder)


@dataclass(frozen=True)
class Stack:
    """A release on disk and what loads it."""

    folder: Path
    prompts: Path
    layout: Layout = STREAMING

    def load(self, size: tuple[int, int] = SIZE, **changes: Any) -> Any:
        loading = Loading(**{"config": CONFIG, "device": "cpu", "prompts": self.prompts} | changes)
        files = self.layout.within(self.folder)
        if self.layout is STREAMING:
            return load_streaming(files, loading, size=size)
        return load_offline(files, loading, steps=3)


def write_release(folder: Path) -> None:
    """The streaming release."""
    write_generator(folder / "sana_dit")
    write_vae(folder / "ltx2_causal_vae")
    write_text_encoder(folder / "gemma-2-2b-it")
    write_second_stage(folder / "refiner_diffusers", folder / "gemma3_12b")
    lines = "".join(f"    - {json.dumps(line)}\n" for line in CHI_PROMPT)
    (folder / "config.yaml").write_text(f"text_encoder:\n  chi_prompt:\n{lines}", encoding="utf-8")


def write_offline_release(folder: Path, layout: Layout, streaming: Path) -> None:
    """A release of whole clips; text encoder and settings are those of the streaming one."""
    (folder / "dit").mkdir(parents=True)
    model = SanaWM(replace(CONFIG, position_entries=0))
    scramble(model, 0)
    save_generator(folder / "dit" / "weights.safetensors", model, layout.variant)
    write_vae(folder / "vae", decoder_causal=False)
    for name in ("gemma-2-2b-it", "config.yaml"):
        (folder / name).symlink_to(streaming / name)
    refiner = folder / "refiner"
    refiner.mkdir()
    for name in ("transformer", "connectors"):
        (refiner / name).symlink_to(streaming / "refiner_diffusers" / name)
    # The tokenizer in a folder of its own, as diffusers lays pipelines out.
    for name, kept in (("text_encoder", False), ("tokenizer", True)):
        (refiner / name).mkdir()
        for file in (streaming / "gemma3_12b").iterdir():
            if ("token" in file.name) == kept:
                (refiner / name / file.name).symlink_to(file)


def picture(height: int = 80, width: int = 200) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
