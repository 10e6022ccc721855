"""VAE folders as released: read back, and refused by name where they are damaged."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from safetensors.torch import load, save_file
from tiny_vae import MIXED, build, draw, picture

from sana_wm_gym.models.causal_vae import CausalVae
from sana_wm_gym.models.vae import VideoVae
from sana_wm_gym.weights.components import load_vae

INDEX = "diffusion_pytorch_model.safetensors.index.json"
SHARD = "diffusion_pytorch_model-0000{}-of-00002.safetensors"


def write(folder, autoencoder, weights=None, **changes):
    """A folder as the streaming release ships it."""
    folder.mkdir(exist_ok=True)
    config = {name: value for name, value in autoencoder.config.items() if name != "upsample_type"}
    config = {**config, "_class_name": "AutoencoderKLCausalLTX2Video", **changes}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    save_file(weights or autoencoder.state_dict(), folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "ltx2_causal_vae", build())


@pytest.mark.parametrize("kind", [CausalVae, VideoVae])
def test_a_folder_gives_back_what_was_written(folder, kind):
    loaded, latents = load_vae(kind, folder, torch.float64), draw(3)
    assert torch.equal(loaded.encode_image(picture()), CausalVae(build()).encode_image(picture()))
    assert torch.equal(loaded.decode_clip(latents), type(loaded)(build()).decode_clip(latents))
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_shards_are_read_through_their_index(folder):
    whole = folder / "diffusion_pytorch_model.safetensors"
    tensors = load(whole.read_bytes())
    whole.unlink()
    names = sorted(tensors)
    index = {}
    for shard, part in enumerate((names[::2], names[1::2]), start=1):
        save_file({name: tensors[name] for name in part}, folder / SHARD.format(shard))
        index |= dict.fromkeys(part, SHARD.format(shard))
    with pytest.raises(ValueError, match="holds several checkpoints"):
        load_vae(CausalVae, folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": index}), encoding="utf-8")
    loaded = load_vae(CausalVae, folder, torch.float64)
    assert torch.equal(loaded.decode_clip(draw(2)), CausalVae(build()).decode_clip(draw(2)))
    (folder / SHARD.format(2)).unlink()
    with pytest.raises(FileNotFoundError, match="00002-of-00002"):
        load_vae(CausalVae, folder)


def test_the_causal_classes_own_settings_are_understood(tmp_path):
    """Its upsampler kinds count from the output, the library's from the latents."""
    built, kinds = build(**MIXED), MIXED["upsample_type"][::-1]
    folder = write(
        tmp_path / "vae", built, decoder_upsample_type=kinds, gradient_checkpointing=False
    )
    loaded = load_vae(CausalVae, folder, torch.float64)
    assert torch.equal(loaded.decode_clip(draw(2)), CausalVae(built).decode_clip(draw(2)))


def test_without_the_library_one_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ImportError, match=r"install \"sana_wm_gym\[hub\]\""):
        load_vae(CausalVae, folder)


def remove_file(name):
    def remove(folder):
        (folder / name).unlink()

    return remove


def change_weights(change):
    def apply(folder):
        file = folder / "diffusion_pytorch_model.safetensors"
        tensors = load(file.read_bytes())
        change(tensors)
        save_file(tensors, file)

    return apply


def change_config(**changes):
    def apply(folder):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | changes), encoding="utf-8")

    return apply


def cut(folder):
    file = folder / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def pickle_instead(folder):
    file = folder / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))


@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        (remove_file("config.json"), FileNotFoundError, r"no config\.json"),
        (pickle_instead, ValueError, "holds no checkpoint"),
        (lambda f: (f / "config.json").write_text("{"), ValueError, "not a JSON object"),
        (lambda f: (f / INDEX).write_text("{}"), ValueError, "not an index of shards"),
        (cut, ValueError, "truncated"),
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
def test_damaged_folders_are_refused(folder, damage, kind, message):
    damage(folder)
    with pytest.raises(kind, match=message):
        load_vae(CausalVae, folder)


def test_a_config_without_channels_uses_the_librarys_defaults(tmp_path):
    """The released widths: checked by name and shape alone, so that nothing large is built."""
    folder = write(tmp_path / "vae", build())
    (folder / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks \d+: "):
        load_vae(CausalVae, folder)


def test_bfloat16_stays_near(folder):
    image = picture()
    exact = load_vae(CausalVae, folder, torch.float64).encode_image(image)
    rough = load_vae(CausalVae, folder).encode_image(image)
    assert rough.dtype == torch.bfloat16
    assert (rough.double() - exact).norm() < 0.05 * exact.norm()
