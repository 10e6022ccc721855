"""The forward of diffusers agrees, and each named difference between the revisions shows."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from benchmarks import diffusers_oracle
from sana_wm_gym.weights.names import RELEASED, diffusers_names, expected_shapes

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
    turned = {name: error for name, error in errors.items() if name.startswith("toggled")}
    assert len(turned) == len(diffusers_oracle.MEANING) + 1
    agreed = next(error for name, error in errors.items() if "without bfloat16" in name)
    assert agreed < 1e-5
    assert all(error > 10 * agreed for error in turned.values()), turned


def test_a_changed_weight_is_a_miss(diffusers, monkeypatch, capsys):
    names, bias = diffusers_oracle.diffusers_names, "blocks.1.attn.v_proj_cam.bias"
    monkeypatch.setattr(
        diffusers_oracle,
        "diffusers_names",
        lambda weights: {n: t + 0.01 * (n == bias) for n, t in names(weights).items()},
    )
    assert diffusers_oracle.main([]) == 1
    assert "MISS" in capsys.readouterr().out


def test_names_and_shapes_at_full_size(diffusers):
    with torch.device("meta"):
        network = diffusers.SanaWMTransformer3DModel()
    theirs = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    assert theirs == diffusers_names(expected_shapes(RELEASED))


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
