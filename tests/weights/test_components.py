"""Library networks from folders in the released layout, written here at tiny size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from tiny_networks import connectors, gemma, ltx, tokenizer
from tiny_networks import draw as draw_blocks
from tiny_vae import MIXED, build, draw, picture

from sana_wm_gym.models.refiner import CHUNK_CAUSAL, Refiner
from sana_wm_gym.models.text import GeneratorTextEncoder, Prompt
from sana_wm_gym.models.vae import CausalVae, VideoVae
from sana_wm_gym.weights.components import (
    load_generator_text,
    load_refiner,
    load_refiner_text,
    load_vae,
)

WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = f"{WEIGHTS}.index.json"
NAME = "transformer_blocks.1.attn1.to_q.weight"


def load_one(folder: Path) -> Any:
    """The refiner of a folder, or its VAE."""
    if folder.name == "vae":
        return load_vae(CausalVae, folder)
    return load_refiner(folder, CHUNK_CAUSAL)


def write_vae(folder: Path, autoencoder: Any, **changes: Any) -> Path:
    """A folder as the streaming release ships it."""
    folder.mkdir()
    config = {name: value for name, value in autoencoder.config.items() if name != "upsample_type"}
    config = {**config, "_class_name": "AutoencoderKLCausalLTX2Video", **changes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(autoencoder.state_dict(), folder / WEIGHTS)
    return folder


@pytest.fixture
def vae(tmp_path: Path) -> Path:
    return write_vae(tmp_path / "vae", build())


@pytest.fixture(scope="module")
def transformer() -> Any:
    return ltx()


@pytest.fixture(params=["one file", "shards"])
def refiner(request: pytest.FixtureRequest, transformer: Any, tmp_path: Path) -> Path:
    size = "5GB" if request.param == "one file" else "60KB"
    transformer.save_pretrained(tmp_path / "refiner", max_shard_size=size)
    assert (tmp_path / "refiner" / INDEX).is_file() == (request.param == "shards")
    return tmp_path / "refiner"


# Reading back


@pytest.mark.parametrize("kind", [CausalVae, VideoVae])
def test_a_vae_comes_back_as_written(vae: Path, kind: Any) -> None:
    loaded, latents = load_vae(kind, vae, torch.float64), draw(3)
    assert torch.equal(loaded.encode_image(picture()), CausalVae(build()).encode_image(picture()))
    assert torch.equal(loaded.decode_clip(latents), kind(build()).decode_clip(latents))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    rough, exact = load_vae(kind, vae).encode_image(picture()), loaded.encode_image(picture())
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - exact).norm() < 0.05 * exact.norm()


def test_a_vae_in_shards(vae: Path) -> None:
    tensors = load((vae / WEIGHTS).read_bytes())
    (vae / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {f"diffusion-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for shard, part in shards.items():
        save_file({name: tensors[name] for name in part}, vae / shard)
    with pytest.raises(ValueError, match="holds several checkpoints"):
        load_one(vae)
    places = {name: shard for shard, part in shards.items() for name in part}
    (vae / INDEX).write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    loaded = load_vae(CausalVae, vae, torch.float64)
    assert torch.equal(loaded.decode_clip(draw(2)), CausalVae(build()).decode_clip(draw(2)))
    (vae / max(shards)).unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00002"):
        load_one(vae)


def test_settings_of_the_released_causal_class(tmp_path: Path) -> None:
    """Its upsampler kinds count from the output, the library's from the latents."""
    built, kinds = build(**MIXED), MIXED["upsample_type"][::-1]
    changes = {"decoder_upsample_type": kinds, "gradient_checkpointing": False}
    loaded = load_vae(CausalVae, write_vae(tmp_path / "vae", built, **changes), torch.float64)
    assert torch.equal(loaded.decode_clip(draw(2)), CausalVae(built).decode_clip(draw(2)))


def test_the_refiner_comes_back_without_its_audio_half(refiner: Path, transformer: Any) -> None:
    loaded, inputs = load_refiner(refiner, CHUNK_CAUSAL, torch.float32), draw_blocks(4)
    with torch.inference_mode():
        expected = Refiner(transformer, CHUNK_CAUSAL).refine(*inputs)
        assert torch.equal(loaded.refine(*inputs), expected)
    assert not any("audio" in name for name in loaded.state_dict())
    assert not any(p.requires_grad or p.is_meta for p in loaded.parameters())
    assert {p.dtype for p in load_one(refiner).parameters()} == {torch.bfloat16}


def test_text_encoders_come_back_without_their_head(tmp_path: Path) -> None:
    model, prompt = gemma(), Prompt("a b c", "d e f")
    model.save_pretrained(tmp_path / "gemma")
    tokenizer().save_pretrained(tmp_path / "gemma")
    expected = GeneratorTextEncoder(tokenizer(), model.model)(prompt)
    loaded = load_generator_text(tmp_path / "gemma", torch.float32)
    assert not any("head" in name for name in loaded.model.state_dict())
    got = loaded(prompt)
    assert got.features.shape == (1, 300, 16)
    assert torch.allclose(got.features, expected.features, atol=1e-6)
    assert torch.equal(got.mask, expected.mask)

    connectors().save_pretrained(tmp_path / "connectors")
    refined = load_refiner_text(tmp_path / "gemma", tmp_path / "connectors")(Prompt("a b"))
    assert refined.features.shape == (1, 1024, 16) and refined.features.dtype == torch.bfloat16
    for load_text in (
        lambda: load_refiner_text(tmp_path / "gemma", tmp_path / "nowhere"),
        lambda: load_generator_text(tmp_path / "nowhere"),
    ):
        with pytest.raises(FileNotFoundError, match=r"no config\.json"):
            load_text()


# Damage


def change_weights(change: Any, name: str = "") -> Any:
    def apply(folder: Path) -> None:
        file, index = folder / WEIGHTS, folder / INDEX
        if index.is_file():
            file = folder / json.loads(index.read_text())["weight_map"][name]
        tensors = load(file.read_bytes())
        change(tensors)
        save_file(tensors, file, metadata={"format": "pt"})

    return apply


def change_config(**changes: Any) -> Any:
    def apply(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return apply


def truncate(folder: Path) -> None:
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-100])


def pickle_instead(folder: Path) -> None:
    (folder / WEIGHTS).rename((folder / WEIGHTS).with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (lambda f: (f / "config.json").unlink(), FileNotFoundError, r"no config\.json"),
        (pickle_instead, ValueError, "holds no checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, "JSON"),
        # The defaults are the released widths, compared by name and shape alone.
        (lambda f: (f / "config.json").write_text("{}"), ValueError, r"lacks \d+: "),
        (lambda f: (f / INDEX).write_text("{}"), ValueError, "not an index of shards"),
        (truncate, ValueError, "truncated"),
        (change_config(latent_channel=8), ValueError, r"unknown settings \['latent_channel'\]"),
        (change_config(decoder_causal=False), ValueError, "looks ahead"),
        (change_config(decoder_layers_per_block=[1, 1, 1, 2]), ValueError, "lacks 4: "),
        (change_weights(lambda t: t.pop("latents_std")), ValueError, "lacks 1: latents_std"),
        (
            change_weights(lambda t: t.update(extra=torch.zeros(1))),
            ValueError,
            "has unknown 1: extra",
        ),
        (
            change_weights(lambda t: t.update(latents_mean=torch.zeros(7))),
            ValueError,
            r"latents_mean \(7,\) instead of \(8,\)",
        ),
        (
            change_weights(lambda t: t["decoder.conv_out.conv.bias"].fill_(torch.nan)),
            ValueError,
            r"decoder.conv_out.conv.bias holds values that are not finite",
        ),
        (
            change_weights(lambda t: t["latents_std"].zero_()),
            ValueError,
            "latents_std is not positive",
        ),
    ],
)
def test_damaged_vae_folders(vae: Path, damage: Any, kind: Any, message: str) -> None:
    damage(vae)
    with pytest.raises(kind, match=message):
        load_one(vae)


def shorten(tensors: Any) -> None:
    tensors[NAME] = tensors[NAME][:5].clone()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, rf"{NAME} \(5, 24\) instead of \(24, 24\)"),
        (lambda t: t[NAME][0, 0].fill_(torch.nan), f"{NAME}.*not finite"),
        (lambda t: t.pop(NAME), rf"lacks (1: |\['){NAME}"),
        (lambda t: t.update(lora=torch.zeros(2)), "has un(known 1: |listed .')lora"),
    ],
)
def test_damaged_refiner_weights(refiner: Path, damage: Any, message: str) -> None:
    change_weights(damage, NAME)(refiner)
    with pytest.raises(ValueError, match=message):
        load_one(refiner)


def test_missing_and_truncated_refiner_files(refiner: Path) -> None:
    truncate(refiner)
    with pytest.raises(ValueError, match="truncated"):
        load_one(refiner)
    next(refiner.glob("*.safetensors")).unlink()
    with pytest.raises((FileNotFoundError, ValueError), match="not there|holds no checkpoint"):
        load_one(refiner)
    (refiner / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        load_one(refiner)


def test_missing_libraries_are_one_line(
    vae: Path, transformer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer.save_config(tmp_path)
    for name in ("diffusers", "diffusers.models.transformers.transformer_ltx2", "transformers"):
        monkeypatch.setitem(sys.modules, name, None)
    for load_part in (
        lambda: load_one(vae),
        lambda: load_one(tmp_path),
        lambda: load_generator_text(tmp_path),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"install .sana_wm_gym\[hub\]"):
            load_part()
