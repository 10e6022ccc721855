"""The prompt cache: one load per set of prompts, nothing kept, nothing half written."""

from __future__ import annotations

import json
import weakref
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from sana_wm_gym.models.text import Prompt, PromptEmbedding
from sana_wm_gym.weights import prompt_cache as module
from sana_wm_gym.weights.prompt_cache import (
    PromptCache,
    PromptKey,
    read_embedding,
    write_embedding,
)


class Encoder:
    """Stand-in whose features depend on the prompt; it refers to itself, as networks may."""

    def __init__(self) -> None:
        self.encoded: list[Prompt] = []
        self.me = self

    def __call__(self, prompt: Prompt) -> PromptEmbedding:
        self.encoded.append(prompt)
        seed = sum(map(ord, prompt.preamble + "|" + prompt.text))
        features = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(seed))
        return PromptEmbedding(features.bfloat16(), torch.tensor([[1, 1, 1, 0]]))


class Loads:
    """Counts encoders and whether they are still alive."""

    def __init__(self) -> None:
        self.made: list[weakref.ref[Encoder]] = []
        self.encoded: list[list[Prompt]] = []

    def __call__(self) -> Encoder:
        encoder = Encoder()
        self.made.append(weakref.ref(encoder))
        self.encoded.append(encoder.encoded)
        return encoder


PROMPTS = [Prompt("a room", "chi: "), Prompt(""), Prompt("a room"), Prompt("a room", "chi: ")]


def same(a: PromptEmbedding, b: PromptEmbedding) -> bool:
    return (
        torch.equal(a.features, b.features)
        and a.features.dtype == b.features.dtype
        and torch.equal(a.mask, b.mask)
    )


def test_an_encoder_is_loaded_once_per_set_and_let_go(tmp_path: Path) -> None:
    cache, loads = PromptCache(tmp_path / "prompts"), Loads()
    first = cache.embed("gemma@1", PROMPTS, loads)
    assert len(loads.made) == 1 and loads.made[0]() is None
    assert loads.encoded[0] == PROMPTS[:3]
    fresh = Encoder()
    assert all(same(a, fresh(p)) for a, p in zip(first, PROMPTS, strict=True))

    again = PromptCache(tmp_path / "prompts").embed("gemma@1", PROMPTS, loads)
    assert len(loads.made) == 1
    assert all(same(a, b) for a, b in zip(first, again, strict=True))

    cache.embed("gemma@1", [*PROMPTS, Prompt("a garden")], loads)
    assert loads.encoded[1] == [Prompt("a garden")]
    cache.embed("gemma@2", PROMPTS[:1], loads)
    assert loads.encoded[2] == PROMPTS[:1]
    assert not list(tmp_path.rglob(".partial-*"))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.text(), st.text(), st.text()), min_size=2, max_size=2, unique=True))
def test_different_keys_have_different_files(parts: list[tuple[str, str, str]]) -> None:
    one, other = (PromptKey(e, Prompt(text, preamble)) for e, preamble, text in parts)
    assert one.digest() != other.digest()


def test_an_embedding_can_be_read_by_its_path(tmp_path: Path) -> None:
    key, embedding = (
        PromptKey("gemma@1", Prompt("ein Zimmer, grün", "chi\n")),
        Encoder()(PROMPTS[0]),
    )
    write_embedding(tmp_path / "room.safetensors", key, embedding)
    found, read = read_embedding(tmp_path / "room.safetensors")
    assert found == key and same(read, embedding)


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.torch, "save_file", full)
    with pytest.raises(OSError, match="no space"):
        PromptCache(tmp_path).embed("gemma@1", PROMPTS, Encoder)
    assert list(tmp_path.iterdir()) == []


def test_features_that_are_not_finite_are_not_kept(tmp_path: Path) -> None:
    bad = PromptEmbedding(torch.full((1, 2, 3), torch.nan), torch.ones(1, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="not finite"):
        write_embedding(tmp_path / "x.safetensors", PromptKey("e", PROMPTS[0]), bad)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told(tmp_path: Path) -> None:
    cache, key = PromptCache(tmp_path), PromptKey("gemma@1", PROMPTS[0])
    with pytest.raises(FileNotFoundError, match="no such file, expected .*prompt"):
        read_embedding(cache.path(key))
    cache.embed("gemma@1", PROMPTS[:2], Encoder)
    whole = cache.path(key).read_bytes()

    for size in (0, 4, len(whole) // 2, len(whole) - 1):
        cache.path(key).write_bytes(whole[:size])
        with pytest.raises(ValueError, match="damaged"):
            cache.embed("gemma@1", PROMPTS[:1], Encoder)

    other = PromptKey("gemma@1", PROMPTS[1])
    cache.path(key).write_bytes(cache.path(other).read_bytes())
    with pytest.raises(ValueError, match="delete it to encode again"):
        cache.embed("gemma@1", PROMPTS[:1], Encoder)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "has format None"),
        ({"format": "other"}, "has format 'other'"),
        ({"format": module.FORMAT}, r"lacks \['encoder', 'prompt'\]"),
    ],
)
def test_other_files_are_refused(
    tmp_path: Path, header: dict[str, str] | None, message: str
) -> None:
    path = tmp_path / "x.safetensors"
    metadata = None if header is None else {"sana_wm_gym": json.dumps(header)}
    save_file({"features": torch.zeros(1, 2, 3)}, path, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        read_embedding(path)


def test_a_mask_of_another_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    wrong = PromptEmbedding(torch.zeros(1, 2, 3), torch.ones(1, 5, dtype=torch.int64))
    write_embedding(path, PromptKey("e", PROMPTS[0]), wrong)
    with pytest.raises(ValueError, match=r"a mask \(1, 5\)"):
        read_embedding(path)
