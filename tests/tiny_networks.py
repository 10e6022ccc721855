"""Networks of transformers and diffusers at tiny size, for tests of what wraps them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from sana_wm_gym.models.text import PromptEmbedding

CHANNELS, ROWS, COLUMNS, CAPTION = 4, 2, 3, 10
LTX = {
    "in_channels": CHANNELS,
    "out_channels": CHANNELS,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "audio_in_channels": 3,
    "audio_out_channels": 3,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 12,
    "num_layers": 3,
    "caption_channels": CAPTION,
}
WORDS = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdefghij", ":"]
GEMMA = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def ltx(rope_type: str = "split") -> Any:
    torch.manual_seed(3)
    return LTX2VideoTransformer3DModel(**LTX, rope_type=rope_type).eval()


def draw(
    frames: int, batch: int = 1, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor, PromptEmbedding]:
    """Latents of `frames`, noise for all but the first, and an encoded prompt with padding."""
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(batch, CHANNELS, frames, ROWS, COLUMNS, generator=random)
    noise = torch.randn(batch, CHANNELS, frames - 1, ROWS, COLUMNS, generator=random)
    text = torch.randn(1, 5, CAPTION, generator=random)
    return latents, noise, PromptEmbedding(text, torch.tensor([[1, 1, 1, 0, 1]]))


def gemma(**changes: int) -> Any:
    torch.manual_seed(0)
    return Gemma2ForCausalLM(Gemma2Config(**{**GEMMA, **changes})).eval()


def tokenizer(bos: bool = True) -> Any:
    """Words to ids with BOS in front; pads on the left by default, as Gemma's does."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        core.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", 1)]
        )
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "bos", "eos", "unk")}
    return PreTrainedTokenizerFast(tokenizer_object=core, padding_side="left", **special)


def connectors(**changes: int) -> Any:
    torch.manual_seed(1)
    small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, **changes}
    sizes = {f"{kind}_connector_{k}": v for kind in ("video", "audio") for k, v in small.items()}
    return LTX2TextConnectors(caption_channels=16, text_proj_in_factor=3, **sizes).eval()
