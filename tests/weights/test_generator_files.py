"""A generator comes back from every released container, and from no damaged one."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from sana_wm_gym.models.numerics import EXACT, R1_CHUNK_CAUSAL
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.weights import generator
from sana_wm_gym.weights.generator import (
    check_generator,
    check_values,
    generator_bytes,
    load_generator,
    save_generator,
)
from sana_wm_gym.weights.names import DIFFUSERS_ABSENT, Variant, diffusers_names, expected_shapes
from sana_wm_gym.weights.preflight import Machine

STREAMING = Variant.STREAMING
QKV = "blocks.0.attn.qkv.weight"


def write(folder, weights, kind="safetensors"):
    """The same weights as one of the released containers."""
    if kind == "safetensors":
        save_file(weights, folder / "weights.safetensors")
        return folder / "weights.safetensors"
    if kind in ("state_dict", "generator"):
        nested = {f"model.{n}": t for n, t in weights.items()} if kind == "generator" else weights
        torch.save({kind: nested}, folder / "model.pt")
        return folder / "model.pt"
    theirs = folder / "transformer"
    theirs.mkdir()
    (theirs / "config.json").write_text('{"_class_name": "SanaWMTransformer3DModel"}')
    weights = diffusers_names(weights)
    if kind == "diffusers":
        save_file(weights, theirs / "diffusion_pytorch_model.safetensors")
        return folder
    names = sorted(weights)
    shards = {"s1.safetensors": names[::2], "s2.safetensors": names[1::2]}
    for shard, held in shards.items():
        save_file({name: weights[name] for name in held}, theirs / shard)
    places = {name: shard for shard, held in shards.items() for name in held}
    index = theirs / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}))
    return folder


def velocity(model):
    model.requires_grad_(False)  # torch picks its attention kernel by this
    random = torch.Generator().manual_seed(1)
    conditioning = Conditioning(
        ray_from_world=torch.eye(4).expand(1, 3, 2, 3, 4, 4),
        plucker=torch.randn(1, 48, 3, 2, 3, generator=random),
        text=torch.randn(1, 3, 6, generator=random),
    )
    latents = torch.randn(1, 4, 3, 2, 3, generator=random)
    with torch.inference_mode():
        return model(latents, torch.tensor([500]), conditioning, ChunkPlan(), None)[0]


@pytest.mark.parametrize(
    "kind", ["safetensors", "state_dict", "generator", "diffusers", "diffusers shards"]
)
def test_every_container_gives_the_same_network(tmp_path, small, weights, kind):
    variant = Variant.BIDIRECTIONAL if kind.startswith("diffusers") else STREAMING
    path = write(tmp_path, weights, kind)
    model = load_generator(path, variant, config=small, numerics=EXACT, dtype=torch.float32)
    loaded = model.state_dict()
    absent = DIFFUSERS_ABSENT if kind.startswith("diffusers") else DIFFUSERS_ABSENT[:1]
    assert loaded.keys() | set(absent) == weights.keys()
    assert all(torch.equal(loaded[n], t) for n, t in weights.items() if n not in absent)
    assert not model.training and not any(p.requires_grad for p in model.parameters())

    truth = SanaWM(small, EXACT).eval()
    truth.load_state_dict(weights)
    assert torch.equal(velocity(model), velocity(truth))


def test_saved_and_loaded_is_the_same(tmp_path, small, weights):
    model = SanaWM(small, EXACT).eval()
    model.load_state_dict(weights)
    path = tmp_path / "mine.safetensors"
    save_generator(path, model, STREAMING)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.safetensors"]
    again = load_generator(path, STREAMING, config=small, numerics=EXACT, dtype=torch.float32)
    assert torch.equal(velocity(again), velocity(model))
    with pytest.raises(ValueError, match="holds the streaming generator; expected the bidir"):
        load_generator(path, Variant.BIDIRECTIONAL, config=small)
    with pytest.raises(ValueError, match=r"ends in .safetensors"):
        save_generator(tmp_path / "mine.pt", model, STREAMING)


def test_type_numerics_and_ownership(tmp_path, small, weights):
    path = write(tmp_path, weights)
    model = load_generator(path, Variant.CHUNK_CAUSAL, config=small)
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.bfloat16}
    assert torch.equal(model.state_dict()[QKV], weights[QKV].bfloat16())
    assert model.blocks[0].attn.numerics == R1_CHUNK_CAUSAL
    # Weights are copies: a file that changes afterwards changes nothing.
    same = load_generator(path, STREAMING, config=small, dtype=torch.float32)
    before = same.state_dict()[QKV].clone()
    path.write_bytes(bytes(path.stat().st_size))
    assert torch.equal(same.state_dict()[QKV], before)


def spoilt(weights, value):
    weights[QKV][1, 2] = value
    return weights


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: {n: t for n, t in w.items() if n != QKV}, f"lacks 1: {QKV}"),
        (lambda w: w | {"blocks.7.odd": torch.ones(1)}, "has unknown 1: blocks.7.odd"),
        (
            lambda w: w | {QKV: w[QKV][:-1].clone()},
            rf"wrong shapes 1: {QKV} \(47, 16\) instead of \(48, 16\)",
        ),
        (lambda w: spoilt(w, torch.nan), f"{QKV} holds values that are not finite"),
        (lambda w: spoilt(w, -torch.inf), f"{QKV} holds values that are not finite"),
    ],
)
def test_damage_is_named(tmp_path, small, weights, change, message):
    path = write(tmp_path, change(weights))
    with pytest.raises(ValueError, match=message):
        load_generator(path, STREAMING, config=small)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match="truncated, damaged"):
        load_generator(path, STREAMING, config=small)


def test_values_have_to_fit_the_type(tmp_path, small, weights):
    weights[QKV][0, 0] = 1e6
    path = write(tmp_path, weights)
    check_values(check_generator(path, config=small))
    with pytest.raises(ValueError, match=f"{QKV} holds .* not finite in torch.float16"):
        load_generator(path, STREAMING, config=small, dtype=torch.float16)


def test_long_lists_are_cut(tmp_path, small, weights):
    path = write(tmp_path, weights)
    with pytest.raises(ValueError, match=r"lacks \d\d: (blocks\.2\S+, ){5}\.\.\.") as caught:
        load_generator(path, STREAMING, config=replace(small, depth=3))
    assert len(str(caught.value)) < 500


def test_another_variant_is_refused_before_values_are_read(tmp_path, small, weights, monkeypatch):
    write(tmp_path, weights, "diffusers")
    monkeypatch.setattr(generator, "require", lambda *_: pytest.fail("got as far as memory"))
    with pytest.raises(ValueError, match="holds the bidirectional generator; expected the stream"):
        load_generator(tmp_path, STREAMING, config=small)


@pytest.mark.parametrize(
    ("machine", "device", "short"),
    [
        (Machine(disk=None, ram=1000, vram=0), "cpu", "RAM: needs .*0.0 MB free"),
        (Machine(disk=None, ram=10**9, vram=1000), "cuda", "VRAM: needs .*0.0 MB free"),
    ],
)
def test_too_little_memory_is_refused_before_values_are_read(
    tmp_path, small, weights, monkeypatch, machine, device, short
):
    path = write(tmp_path, weights)
    monkeypatch.setattr(
        "sana_wm_gym.weights.containers._read_span", lambda *_: pytest.fail("values were read")
    )
    with pytest.raises(ValueError, match=f"not enough room for .*{short}") as caught:
        load_generator(path, STREAMING, config=small, machine=machine, device=device)
    assert "\n" not in str(caught.value)


PEAK = """
import sys
import torch
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.weights.generator import generator_bytes, load_generator
from sana_wm_gym.weights.names import Variant

def memory(what):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(what)) * 1024

def load(path, width, depth):
    config = SanaWMConfig(width=width, depth=depth, heads=2, mlp_ratio=2.0, text_channels=None)
    return config, load_generator(path, Variant.STREAMING, config=config)

for suffix in (".pt", ".safetensors"):
    load("16" + suffix, 16, 1)  # what is imported late is imported now
before = memory("VmRSS")
for suffix in (".pt", ".safetensors"):
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # forget the peak so far
    config, model = load("384" + suffix, 384, 10)
    print((memory("VmHWM") - before) / generator_bytes(config, torch.bfloat16))
    del model
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory(tmp_path, small):
    """From float32 files of twice the size of the result."""
    sizes = {"latent_channels": 128, "heads": 2, "softmax_every": 4, "mlp_ratio": 2.0}
    for width, depth in ((16, 1), (384, 10)):
        config = replace(small, width=width, depth=depth, text_channels=None, **sizes)
        shapes = expected_shapes(replace(config, position_entries=0))
        zeros = {name: torch.zeros(shape) for name, shape in shapes.items()}
        torch.save({"generator": zeros}, tmp_path / f"{width}.pt")
        save_file(zeros, tmp_path / f"{width}.safetensors")
    assert generator_bytes(config, torch.bfloat16) > 5 * 10**7
    done = subprocess.run(
        [sys.executable, "-c", PEAK], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    peaks = [float(line) for line in done.stdout.split()]
    assert len(peaks) == 2
    assert all(0.9 < peak < generator.OVERHEAD for peak in peaks), peaks
