"""Sizes are what the networks weigh, and the command line prints what it knows and what not."""

from __future__ import annotations

import io
import json
import os
from dataclasses import fields, is_dataclass, replace

import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor

from sana_wm_gym import cli
from sana_wm_gym.models.numerics import R1_STREAMING
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.weights.command import main
from sana_wm_gym.weights.fetch import RECORD
from sana_wm_gym.weights.names import RELEASED, expected_shapes, quantised
from sana_wm_gym.weights.plan import Precision, memory_bytes, options, rows, weight_bytes
from sana_wm_gym.weights.preflight import GB, Machine
from sana_wm_gym.weights.releases import RELEASES, release

STREAMING = release("sana-wm-streaming")
SHA = "0123456789abcdef0123456789abcdef01234567"


def run(*arguments):
    """Status and what was printed, on a wide console."""
    console = Console(file=io.StringIO(), width=250)
    return main([*map(str, arguments)], console), console.file.getvalue()


def failed(*arguments):
    """Whether the command ends with status 2, as bad input does."""
    return cli.main(["weights", *map(str, arguments)]) == 2


def snapshot(cache, release, part):
    """Folder of a part's repository in the cache, its commit recorded."""
    hub_id = release.component(part).repository.hub_id
    (cache / RECORD).write_text(json.dumps({hub_id: SHA}))
    return cache / f"models--{hub_id.replace('/', '--')}" / "snapshots" / SHA


def test_generator_weighs_two_bytes_per_parameter():
    shapes = expected_shapes(RELEASED)
    buffers = 300 * 2304 + 20  # the unread null caption and recall gates
    full = weight_bytes(shapes, Precision.BF16, quantised)
    assert full == 2 * (2_661_800_448 + buffers)
    few = sum(torch.Size(shape).numel() for name, shape in shapes.items() if quantised(name, shape))
    fp8, fp4 = (weight_bytes(shapes, p, quantised) for p in (Precision.FP8, Precision.NVFP4))
    assert few < full - fp8 + few * 0.001 < 1.001 * few
    assert full - fp4 == pytest.approx((2 - 0.5625) * few, rel=1e-4)


def test_memory_is_that_of_the_state(small):
    """Counted on a small network in bfloat16 after three chunks."""
    config = replace(small, width=32, heads=2, depth=4, conv_kernel=4)
    plan = ChunkPlan(window=MemoryWindow(sink=True, chunks=2))
    model, state = SanaWM(config, R1_STREAMING).bfloat16().eval(), None
    for frames in (4, 3, 3):
        conditioning = Conditioning(
            torch.eye(4).expand(1, frames, 2, 3, 4, 4),
            torch.zeros(1, 48, frames, 2, 3),
            torch.zeros(1, 3, 6),
        )
        latents = torch.zeros(1, 4, frames, 2, 3, dtype=torch.bfloat16)
        with torch.inference_mode():
            _, state = model(latents, torch.tensor([0]), conditioning, plan, state)

    def count(value):
        if isinstance(value, Tensor):
            return value.numel() * value.element_size()
        if is_dataclass(value):
            return sum(count(getattr(value, field.name)) for field in fields(value))
        return sum(map(count, value)) if isinstance(value, tuple) else 0

    assert memory_bytes(config, cells=6) == count(state.blocks)


def test_sizes_are_stated_derived_or_unknown(tmp_path):
    table = {row.component.name: row for row in rows(STREAMING, tmp_path)}
    assert table["generator"].disk_source == "derived, at least"
    assert table["vae"].disk is None and table["vae"].memory[Precision.BF16] is None
    stated = {row.component.name: row for row in rows(release("sana-wm-bidirectional"), tmp_path)}
    assert [stated[n].disk for n in ("generator", "vae", "refiner", "refiner_text")] == [
        10 * GB,
        2 * GB,
        38 * GB,
        46 * GB,
    ]


def test_files_in_the_cache_are_measured(tmp_path):
    vae = snapshot(tmp_path, STREAMING, "vae") / "ltx2_causal_vae"
    vae.mkdir(parents=True)
    save_file({"a": torch.zeros(40), "b": torch.zeros(3, 20)}, vae / "model.safetensors")
    (vae / "config.json").write_text("{}")
    row = next(r for r in rows(STREAMING, tmp_path) if r.component.name == "vae")
    assert row.disk_source == "measured" and row.present
    assert row.disk == (vae / "model.safetensors").stat().st_size + 2
    assert set(row.memory.values()) == {200}


@pytest.mark.parametrize(
    ("machine", "fits"),
    [
        (Machine(None, None, 80 * GB, "H100", (9, 0)), {"bf16, with refiner", "fp8, with refiner"}),
        (Machine(None, None, 32 * GB, "5090", (12, 0)), {"NVFP4, with refiner"}),
        (Machine(None, None, 24 * GB, "4090", (8, 9)), set()),
        (Machine(None, None, 0), set()),
    ],
)
def test_what_fits(tmp_path, machine, fits):
    found = options(STREAMING, rows(STREAMING, tmp_path), machine)
    assert [o.vram for o in found] == sorted((o.vram for o in found), reverse=True)
    whole = {o.name for o in found if o.fits and o.name.endswith(", with refiner")}
    assert {name for name in whole if "window" not in name} == fits
    small = [o for o in found if "refiner off" in o.name]
    assert any(o.fits for o in small) == (machine.vram > 0)
    assert all(o.fits is False for o in found if o.name.startswith("NVFP4")) == (
        machine.capability is None or machine.capability < (10, 0)
    )


def test_unknown_memory_gives_no_verdict(tmp_path):
    found = options(STREAMING, rows(STREAMING, tmp_path), Machine(None, None, None))
    assert {option.fits for option in found} == {None}


@pytest.mark.parametrize("name", [r.name for r in RELEASES])
def test_every_release_has_a_plan(tmp_path, name):
    status, text = run("plan", name, "--cache", tmp_path)
    assert status == 0
    for part in release(name).components:
        assert part.name in text and part.repository.hub_id in text
    assert "see the hub page" in text and "Free now: disk" in text and "refiner off" in text


def sparse(path, shapes, dtype="BF16"):
    """A safetensors file of any size: header, then a hole."""
    header, offset = {}, 0
    for name, shape in shapes.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)


@pytest.mark.skipif(not hasattr(os, "truncate"), reason="needs files with holes")
def test_check_of_a_full_size_file(tmp_path):
    path = tmp_path / "dit" / "sana_wm_1600m_720p.safetensors"
    shapes = {"pos_embed": (1, 484, 2240), **expected_shapes(RELEASED)}
    sparse(path, shapes)
    status, text = run("check", tmp_path, "--quick")
    assert status == 0
    assert "bidirectional, 871 tensors with the released names and shapes, bfloat16" in text
    assert run("check", path, "--quick", "--variant", "bidirectional")[0] == 0


def test_check_of_other_files(tmp_path, capsys):
    path = tmp_path / "dit" / "sana_wm_1600m_720p.safetensors"
    shapes = expected_shapes(RELEASED)
    name = "blocks.19.attn.qkv.weight"
    sparse(path, {n: shape for n, shape in shapes.items() if n != name})
    assert failed("check", path, "--quick")
    assert f"lacks 1: {name}" in capsys.readouterr().err
    assert failed("check", path, "--variant", "streaming", "--quick")
    assert "holds the bidirectional generator" in capsys.readouterr().err
    assert failed("check", tmp_path / "nothing")
    assert "error: no weights at" in capsys.readouterr().err


def test_fetch_from_the_command_line(tmp_path, capsys):
    pytest.importorskip("huggingface_hub")
    assert failed("fetch", "sana-wm-streaming", "--cache", tmp_path)
    assert "give --revision COMMIT" in capsys.readouterr().err
    vae = snapshot(tmp_path, STREAMING, "vae") / "ltx2_causal_vae"
    vae.mkdir(parents=True)
    (vae / "config.json").write_text("{}")
    arguments = ("fetch", "sana-wm-streaming", "--cache", tmp_path, "--offline")
    status, text = run(*arguments, "--component", "vae")
    assert status == 0 and f"vae  {SHA}  {vae}" in text


def test_help_teaches(capsys):
    for arguments in (["--help"], ["fetch", "--help"], ["check", "--help"]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "examples:" in text and "resume" in text and "--quick" in text
