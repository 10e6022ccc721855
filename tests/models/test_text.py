"""Prompt encoding: what is kept of the tokens, against diffusers and by hand."""

from __future__ import annotations

import hashlib
import re
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_networks import GEMMA, WORDS, connectors, gemma, tokenizer
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3TextConfig,
    SiglipVisionConfig,
)

from sana_wm_gym.models import text as text_module
from sana_wm_gym.models.text import (
    CHI_PROMPT_SHA256,
    GeneratorTextEncoder,
    Prompt,
    RefinerTextEncoder,
    chi_prompt_of,
    released_chi_prompt,
)

CHI = "a b c d e : "


@pytest.fixture(scope="module")
def gemma2() -> Any:
    return gemma()


@pytest.fixture(scope="module")
def encode(gemma2: Any) -> GeneratorTextEncoder:
    return GeneratorTextEncoder(tokenizer(), gemma2.model, tokens=12)


@pytest.mark.parametrize("words", ["", "f g h", "f g h i j a b c d e f g h i j a b c"])
def test_generator_text_is_that_of_diffusers(
    gemma2: Any, encode: GeneratorTextEncoder, words: str
) -> None:
    from diffusers.pipelines.sana_wm.pipeline_sana_wm import SanaWMPipeline

    stand_in = SimpleNamespace(
        tokenizer=tokenizer(), text_encoder=gemma2, _execution_device=torch.device("cpu")
    )
    with torch.inference_mode():
        cond, cond_mask, neg, neg_mask = SanaWMPipeline.encode_prompt(
            stand_in, words, "j i", max_sequence_length=12, chi_prompt=CHI.split("\n")
        )
    ours, negative = encode(Prompt(words, preamble=CHI)), encode(Prompt("j i"))
    assert torch.allclose(ours.features, cond[0], atol=1e-6)
    assert torch.equal(ours.mask, cond_mask)
    assert torch.allclose(negative.features, neg[0], atol=1e-6)
    assert torch.equal(negative.mask, neg_mask)


def test_kept_are_bos_the_last_preamble_token_and_the_prompt() -> None:
    """A decoder that returns the ids shows which positions are kept."""

    class Ids(torch.nn.Linear):
        def forward(self, input_ids: Any, attention_mask: Any) -> Any:  # type: ignore[override]
            assert attention_mask.tolist() == (input_ids != 0).long().tolist()
            return SimpleNamespace(last_hidden_state=input_ids[..., None])

    encode = GeneratorTextEncoder(tokenizer(), Ids(1, 1), tokens=6)

    def kept(prompt: Prompt) -> str:
        out = encode(prompt)
        assert out.mask.tolist() == (out.features[..., 0] != 0).long().tolist()
        return " ".join(WORDS[i] for i in out.features[0, :, 0])

    # 7 tokens of preamble with BOS: a text of 7 + 6 - 2 = 11 tokens, of which 0 and 6..10 stay.
    assert kept(Prompt("f g", CHI)) == "<bos> : f g <pad> <pad>"
    assert kept(Prompt("f g h i j a", CHI)) == "<bos> : f g h i"
    assert kept(Prompt("", CHI)) == "<bos> : <pad> <pad> <pad> <pad>"
    assert kept(Prompt("")) == "<bos> <pad> <pad> <pad> <pad> <pad>"
    assert kept(Prompt("f g h i j a b")) == "<bos> f g h i j"


def test_the_prompt_attends_to_the_preamble(encode: GeneratorTextEncoder) -> None:
    plain = encode(Prompt("f g", CHI)).features
    other = encode(Prompt("f g", CHI.replace("a", "b"))).features
    assert torch.equal(plain[:, 0], other[:, 0])
    assert not torch.allclose(plain[:, 2], other[:, 2], atol=1e-4)


def test_a_preamble_without_tokens_is_refused(gemma2: Any) -> None:
    with pytest.raises(ValueError, match="preamble of 1 tokens"):
        GeneratorTextEncoder(tokenizer(bos=False), gemma2.model, 12)(Prompt("f", "a"))


def test_the_released_chi_prompt_has_eight_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    chi = released_chi_prompt()
    lines = chi.split("\n")
    assert len(lines) == 8 and lines[-1] == "User Prompt: "
    assert chi_prompt_of({"text_encoder": {"chi_prompt": lines}}) == chi
    assert hashlib.sha256(chi.encode()).hexdigest() == CHI_PROMPT_SHA256
    monkeypatch.setattr(text_module, "CHI_PROMPT_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="another|expected 000"):
        released_chi_prompt()


def test_a_missing_library_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers.pipelines.sana_wm", None)
    with pytest.raises(ModuleNotFoundError, match=r"install .sana_wm_gym\[hub\]"):
        released_chi_prompt()


@pytest.mark.parametrize("config", [{}, {"text_encoder": {"chi_prompt": "one line"}}])
def test_a_config_without_chi_prompt(config: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected a list of text lines"):
        chi_prompt_of(config)


@pytest.fixture(scope="module")
def refiner_text() -> RefinerTextEncoder:
    torch.manual_seed(1)
    vision = SiglipVisionConfig(
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        image_size=28,
        patch_size=14,
    )
    config = Gemma3Config(
        text_config=Gemma3TextConfig(**GEMMA), vision_config=vision, mm_tokens_per_image=4
    )
    model = Gemma3ForConditionalGeneration(config).eval().model
    return RefinerTextEncoder(tokenizer(), model, connectors(num_learnable_registers=4), tokens=8)


@pytest.mark.parametrize("words", ["f g h", " f g h i j a b c d e "])
def test_refiner_text_is_that_of_diffusers(refiner_text: RefinerTextEncoder, words: str) -> None:
    """diffusers normalises twice; the second time changes nothing but rounding."""
    from diffusers.pipelines.sana_wm.refiner import SanaWMLTX2Refiner

    stand_in = SimpleNamespace(
        tokenizer=refiner_text.tokenizer,
        text_encoder=refiner_text.model,
        connectors=refiner_text.connectors,
        text_max_sequence_length=8,
    )
    with torch.inference_mode():
        features, mask = SanaWMLTX2Refiner._encode_prompt(
            stand_in, words, device=torch.device("cpu"), dtype=torch.float32
        )
    ours = refiner_text(Prompt(words))
    assert torch.allclose(ours.features, features, atol=1e-5)
    assert torch.equal(ours.mask, mask) and ours.mask.all()


def test_hidden_states_are_packed_as_the_release_does(refiner_text: RefinerTextEncoder) -> None:
    """Per layer 8 (h - mean) / (max - min + 1e-6) over real tokens, zeros elsewhere, layer last."""
    seen: dict[str, torch.Tensor] = {}
    hook = refiner_text.connectors.text_proj_in.register_forward_pre_hook(
        lambda _, given: seen.update(packed=given[0])
    )
    try:
        refiner_text(Prompt("f g h"))
    finally:
        hook.remove()
    ids = torch.tensor([[0, 0, 0, 0, 1, *(WORDS.index(w) for w in "fgh")]])
    with torch.inference_mode():
        states = refiner_text.model(
            input_ids=ids, attention_mask=(ids != 0).long(), output_hidden_states=True
        ).hidden_states
    expected = torch.zeros(1, 8, 16, 3)
    for index, state in enumerate(states):
        real = state[:, 4:]
        spread = real.max() - real.min() + 1e-6
        expected[:, 4:, :, index] = 8 * (real - real.mean()) / spread
    assert torch.allclose(seen["packed"], expected.flatten(2), atol=1e-5)


def test_prompts_and_encoders_that_do_not_fit(refiner_text: RefinerTextEncoder) -> None:
    with pytest.raises(ValueError, match="bare prompts"):
        refiner_text(Prompt("f", "a b"))
    deeper = gemma(num_hidden_layers=3).model
    other = RefinerTextEncoder(tokenizer(), deeper, refiner_text.connectors, 8)
    given = re.escape("given 4 hidden states of width 16; the connectors expect 3 of width 16")
    with pytest.raises(ValueError, match=given):
        other(Prompt("f"))
