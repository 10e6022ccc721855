"""Names and shapes are the published ones, and files state which generator they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sana_wm_gym.weights.names import (
    DIFFUSERS_ABSENT,
    DROPPED,
    RELEASED,
    Variant,
    diffusers_names,
    expected_shapes,
    quantised,
    quantised_refiner,
    released_names,
    stated_variant,
)

GOLDEN = Path(__file__).parents[1] / "data" / "golden"


@pytest.mark.parametrize("variant", list(Variant))
def test_names_and_shapes_are_those_of_the_manifest(variant):
    manifest = json.loads((GOLDEN / f"manifest_{variant}.json").read_text())["state_dict"]
    published = {name: tuple(item["shape"]) for name, item in manifest.items()}
    assert len(published) == 872
    assert released_names(published).keys() == published.keys() - {DROPPED}
    published.pop(DROPPED)
    assert expected_shapes(RELEASED) == published


def test_names_of_diffusers_there_and_back():
    there = diffusers_names({name: name for name in expected_shapes(RELEASED)})
    assert "t_embedder.linear_1.weight" in there and "t_embedder.mlp.0.weight" not in there
    back = released_names(there)
    assert back.keys() == expected_shapes(RELEASED).keys() - set(DIFFUSERS_ABSENT)
    assert all(there[theirs] == name for name, theirs in back.items())


def test_prefix_and_unread_entry_go():
    assert released_names(["model.a", "b", "pos_embed", "model.pos_embed"]) == {
        "a": "model.a",
        "b": "b",
    }
    with pytest.raises(ValueError, match="'a' and 'model.a', which are one tensor"):
        released_names(["a", "model.a"])


@pytest.mark.parametrize(
    ("file", "variant"),
    [
        ("dit/sana_wm_1600m_720p.safetensors", Variant.BIDIRECTIONAL),
        ("dit/sana_wm_chunk_causal_1600m_720p.safetensors", Variant.CHUNK_CAUSAL),
        ("sana_dit/model.pt", Variant.STREAMING),
        ("models--Owner--SANA-WM_streaming/snapshots/0/x/y.pt", Variant.STREAMING),
        ("SANA-WM_streaming/dit/sana_wm_1600m_720p.safetensors", Variant.BIDIRECTIONAL),
        ("mine.safetensors", None),
    ],
)
def test_variants_by_file_name(tmp_path, file, variant):
    assert stated_variant(tmp_path / file, {}) == variant


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("model:\n  model: SanaMSVideoCamCtrlStreaming_1600M\n", Variant.STREAMING),
        ("model:\n  camctrl_type: ChunkCausalGDNUCPE\n", Variant.CHUNK_CAUSAL),
        ("model:\n  camctrl_type: BidirectionalGDNUCPE # no ChunkCausal\n", Variant.BIDIRECTIONAL),
        ("# camctrl_type: ChunkCausal\n", None),
    ],
)
def test_variants_by_settings(tmp_path, text, variant):
    (tmp_path / "dit").mkdir()
    (tmp_path / "config.yaml").write_text(text)
    assert stated_variant(tmp_path / "dit" / "any.safetensors", {}) == variant


def test_what_a_header_says_comes_first(tmp_path):
    file = tmp_path / "sana_wm_1600m_720p.safetensors"
    assert stated_variant(file, {"sana_wm_variant": "streaming"}) == Variant.STREAMING
    with pytest.raises(ValueError, match="states 'odd'; expected one of"):
        stated_variant(file, {"sana_wm_variant": "odd"})


def test_quantised_weights_are_those_of_the_streaming_script():
    chosen = {name for name, shape in expected_shapes(RELEASED).items() if quantised(name, shape)}
    # qkv, proj, output_gate; three of the caption attention; two of the FFN. Not beta and gate:
    # twenty outputs are no multiple of 16.
    assert len(chosen) == 20 * 8
    assert not any("cam" in name or "plucker" in name or "embedder" in name for name in chosen)
    assert quantised_refiner("blocks.0.attn1.to_q.weight", (64, 64))
    assert not quantised_refiner("proj_in.weight", (64, 64))
    assert not quantised_refiner("blocks.0.attn1.to_q.weight", (64, 20))
