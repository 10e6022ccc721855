"""The forward of diffusers agrees, and each named difference between the revisions shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks import diffusers_oracle

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.fixture
def diffusers():
    """The installed diffusers, if it is recent enough to know SANA-WM."""
    module = pytest.importorskip("diffusers", reason="needs diffusers (the oracle extra)")
    if not hasattr(module, "SanaWMTransformer3DModel"):
        pytest.skip(f"diffusers {module.__version__} has no SanaWMTransformer3DModel")
    return module


def test_diffusers_agrees_and_every_choice_shows(diffusers, capsys):
    assert diffusers_oracle.main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    errors = {line[17:]: float(line[7:15]) for line in lines if line.startswith("  ")}
    turned = {name: error for name, error in errors.items() if name.startswith("turned over")}
    assert len(turned) == len(diffusers_oracle.MEANING) + 1
    agreed = next(error for name, error in errors.items() if "without bfloat16" in name)
    assert agreed < 1e-5
    assert all(error > 10 * agreed for error in turned.values()), turned


def test_a_changed_weight_is_a_miss(diffusers, monkeypatch, capsys):
    names, bias = diffusers_oracle.their_names, "blocks.1.attn.v_proj_cam.bias"
    monkeypatch.setattr(
        diffusers_oracle,
        "their_names",
        lambda weights: {n: t + 0.01 * (n == bias) for n, t in names(weights).items()},
    )
    assert diffusers_oracle.main([]) == 1
    assert "MISS" in capsys.readouterr().out


def test_names_map_one_to_one():
    names = ["t_embedder.mlp.0.weight", "t_embedder.mlp.2.bias", "blocks.0.mlp.t_conv.weight"]
    mapped = diffusers_oracle.their_names(dict.fromkeys([*names, *diffusers_oracle.ABSENT]))
    assert list(mapped) == [
        "t_embedder.linear_1.weight",
        "t_embedder.linear_2.bias",
        "blocks.0.mlp.t_conv.weight",
    ]


def test_a_directory_without_references(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        diffusers_oracle.main([str(tmp_path)])
    assert exit_.value.code == 2
    assert "no dit_bidirectional*.safetensors" in capsys.readouterr().err


def test_a_damaged_reference(diffusers, tmp_path, capsys):
    for suffix in (".json", ".safetensors"):
        name = f"dit_bidirectional_tiny{suffix}"
        shutil.copyfile(GOLDEN / name, tmp_path / name)
    path = tmp_path / "dit_bidirectional_tiny.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SystemExit) as exit_:
        diffusers_oracle.main([str(tmp_path)])
    assert exit_.value.code == 2
    assert "cannot be read" in capsys.readouterr().err
