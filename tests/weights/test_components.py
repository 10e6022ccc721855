"""Library networks from folders in the released layout, written here at tiny size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from diffusers import LTX2VideoTransformer3DModel
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import Gemma2Config, Gemma2ForCausalLM, PreTrainedTokenizerFast

from sana_wm_gym.models.refiner import CHUNK_CAUSAL, Refiner
from sana_wm_gym.models.text import GeneratorTextEncoder, Prompt, PromptEmbedding
from sana_wm_gym.weights.components import (
    load_generator_text,
    load_refiner,
    load_refiner_text,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
LTX = {
    "in_channels": 4,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "cross_attention_dim": 24,
    "audio_in_channels": 3,
    "audio_out_channels": 3,
    "audio_num_attention_heads": 2,
    "audio_attention_head_dim": 6,
    "audio_cross_attention_dim": 12,
    "num_layers": 2,
    "caption_channels": 10,
    "rope_type": "split",
}


@pytest.fixture(scope="module")
def transformer() -> Any:
    torch.manual_seed(0)
    return LTX2VideoTransformer3DModel(**LTX).eval()


@pytest.fixture(params=["one file", "shards"])
def folder(request: pytest.FixtureRequest, transformer: Any, tmp_path: Path) -> Path:
    size = "5GB" if request.param == "one file" else "60KB"
    transformer.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / f"{WEIGHTS}.index.json").is_file() == (request.param == "shards")
    return tmp_path


def weight_file(folder: Path, name: str) -> Path:
    index = folder / f"{WEIGHTS}.index.json"
    if index.is_file():
        return folder / json.loads(index.read_text())["weight_map"][name]
    return folder / WEIGHTS


def rewrite(path: Path, change: Any) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_the_refiner_comes_back_without_its_audio_half(folder: Path, transformer: Any) -> None:
    refiner = load_refiner(folder, CHUNK_CAUSAL, torch.float32)
    random = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 4, 2, 3, generator=random)
    noise = torch.randn(1, 4, 3, 2, 3, generator=random)
    text = PromptEmbedding(torch.randn(1, 5, 10, generator=random), torch.ones(1, 5).long())
    with torch.inference_mode():
        expected = Refiner(transformer, CHUNK_CAUSAL).refine(latents, noise, text)
        assert torch.equal(refiner.refine(latents, noise, text), expected)
    assert not any("audio" in name for name in refiner.state_dict())
    assert not any(p.requires_grad or p.is_meta for p in refiner.parameters())
    half = load_refiner(folder, CHUNK_CAUSAL)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


NAME = "transformer_blocks.1.attn1.to_q.weight"


def _cut(tensors: Any) -> None:
    tensors[NAME] = tensors[NAME][:5]


def _spoil(tensors: Any) -> None:
    tensors[NAME][0, 0] = torch.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_cut, r"\(5, 24\) instead of \(24, 24\)"),
        (_spoil, "not finite"),
    ],
)
def test_spoilt_weights_are_told_by_name(folder: Path, change: Any, message: str) -> None:
    rewrite(weight_file(folder, NAME), change)
    with pytest.raises(ValueError, match=f"{NAME}.*{message}"):
        load_refiner(folder, CHUNK_CAUSAL)


def test_missing_and_unknown_weights_are_told_by_name(transformer: Any, tmp_path: Path) -> None:
    transformer.save_pretrained(tmp_path)
    rewrite(tmp_path / WEIGHTS, lambda tensors: tensors.pop(NAME))
    with pytest.raises(ValueError, match=f"lacks 1: {NAME}"):
        load_refiner(tmp_path, CHUNK_CAUSAL)
    transformer.save_pretrained(tmp_path)
    rewrite(tmp_path / WEIGHTS, lambda tensors: tensors.update(lora=torch.zeros(2)))
    with pytest.raises(ValueError, match="has unknown 1: lora"):
        load_refiner(tmp_path, CHUNK_CAUSAL)


def test_missing_and_truncated_files_are_told(folder: Path) -> None:
    path = weight_file(folder, NAME)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated"):
        load_refiner(folder, CHUNK_CAUSAL)
    path.unlink()
    with pytest.raises((FileNotFoundError, ValueError), match="not there|holds no checkpoint"):
        load_refiner(folder, CHUNK_CAUSAL)
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_refiner(folder, CHUNK_CAUSAL)


def test_missing_libraries_are_one_line(
    transformer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer.save_config(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers.models.transformers.transformer_ltx2", None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    for load in (
        lambda: load_refiner(tmp_path, CHUNK_CAUSAL),
        lambda: load_generator_text(tmp_path),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"install .sana_wm_gym\[hub\]"):
            load()


def gemma(folder: Path) -> tuple[Any, Any]:
    """A tiny Gemma-2 with its language head, saved as released."""
    words = ["<pad>", "<bos>", "<eos>", "<unk>", *"abcdef"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>"
    )
    torch.manual_seed(4)
    model = Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=len(words),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
        )
    ).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer, model


def test_text_encoders_come_back_without_their_head(tmp_path: Path) -> None:
    tokenizer, model = gemma(tmp_path / "gemma")
    prompt = Prompt("a b c", "d e f")
    expected = GeneratorTextEncoder(tokenizer, model.model)(prompt)
    loaded = load_generator_text(tmp_path / "gemma", torch.float32)
    assert not any("head" in name for name in loaded.model.state_dict())
    got = loaded(prompt)
    assert got.features.shape == (1, 300, 16)
    assert torch.allclose(got.features, expected.features, atol=1e-6)
    assert torch.equal(got.mask, expected.mask)

    small = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1}
    connectors = LTX2TextConnectors(
        caption_channels=16,
        text_proj_in_factor=3,
        **{f"{kind}_connector_{k}": v for kind in ("video", "audio") for k, v in small.items()},
    )
    connectors.save_pretrained(tmp_path / "connectors")
    refined = load_refiner_text(tmp_path / "gemma", tmp_path / "connectors")(Prompt("a b"))
    assert refined.features.shape == (1, 1024, 16) and refined.features.dtype == torch.bfloat16
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_refiner_text(tmp_path / "gemma", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_generator_text(tmp_path / "nowhere")
