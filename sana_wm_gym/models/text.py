"""Encoded prompts for the two networks.

The generator reads 300 tokens of Gemma-2: an instruction before the prompt (the "chi prompt") is
encoded with it and then cut away. The refiner reads Gemma-3: all layers' hidden states, mixed by
LTX-2's text connectors. `weights.components` loads the tokenizers and networks.

Source: SANA-WM and LTX-2 as released; the networks are transformers' and diffusers' own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

GENERATOR_TOKENS = 300
REFINER_TOKENS = 1024
CHI_PROMPT_SHA256 = "62b9ab89eebb0ac5ee4d264bf96bf19d2b81f504bc3852500efeaf5a34d638b1"
"""Digest of the released chi prompt: its eight lines joined by newlines, UTF-8."""


@dataclass(frozen=True)
class Prompt:
    """What to encode.

    Attributes:
        text: The user's words, or "" for the usual negative prompt.
        preamble: Instruction encoded in front of `text`, cut from the result; "" for none, as for
            negative prompts and for the refiner.
    """

    text: str
    preamble: str = ""


@dataclass(frozen=True)
class PromptEmbedding:
    """An encoded prompt.

    Attributes:
        features: [1, l, c].
        mask: 1 keeps a token, int64 [1, l].
    """

    features: Tensor
    mask: Tensor


class TextEncoder(Protocol):
    """Anything that encodes a prompt."""

    def __call__(self, prompt: Prompt) -> PromptEmbedding:
        """Encode one prompt."""


def released_chi_prompt() -> str:
    """The instruction that the released generators were trained with, from diffusers.

    Raises:
        ModuleNotFoundError: diffusers is missing or older than 0.42.
        ValueError: This diffusers holds another text than `CHI_PROMPT_SHA256`.
    """
    try:
        from diffusers.pipelines.sana_wm import pipeline_sana_wm
    except ImportError as error:
        raise ModuleNotFoundError(
            'no diffusers >= 0.42 and transformers; install "sana_wm_gym[hub]"'
        ) from error
    text = "\n".join(pipeline_sana_wm.DEFAULT_CHI_PROMPT)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != CHI_PROMPT_SHA256:
        raise ValueError(
            f"diffusers holds a chi prompt of SHA-256 {digest}; expected {CHI_PROMPT_SHA256}: "
            "read it from the release's config.yaml instead (chi_prompt_of)"
        )
    return text


def chi_prompt_of(config: Mapping[str, Any]) -> str:
    """The instruction in a release's parsed config.yaml, `text_encoder.chi_prompt`.

    Raises:
        ValueError: The entry is missing or not a list of lines.
    """
    lines = config.get("text_encoder", {}).get("chi_prompt")
    if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
        raise ValueError(f"given text_encoder.chi_prompt {lines!r}; expected a list of text lines")
    return "\n".join(lines)


@dataclass(frozen=True)
class GeneratorTextEncoder:
    """Gemma-2 as the generator's text encoder.

    Attributes:
        tokenizer: Its tokenizer, which prepends a BOS token.
        model: The decoder without a language head; its last hidden state is read.
        tokens: Tokens of an embedding.

    Source: SANA-WM releases, spec "Text (Stage 1)".
    """

    tokenizer: Any
    model: nn.Module
    tokens: int = GENERATOR_TOKENS

    @torch.inference_mode()
    def __call__(self, prompt: Prompt) -> PromptEmbedding:
        """Features [1, tokens, c] of the last hidden state; longer prompts are cut.

        With a preamble of n tokens (BOS among them) the text is padded or cut to n + tokens - 2,
        and of these the first and the last tokens - 1 are kept: BOS, the place of the preamble's
        last token, and the prompt. A tokenizer may join the preamble's last space with the
        prompt's first word; then that word takes the place.

        Raises:
            ValueError: The tokenizer makes fewer than two tokens of the preamble.
        """
        length = self.tokens
        if prompt.preamble:
            ahead = len(self.tokenizer.encode(prompt.preamble))
            if ahead < 2:
                raise ValueError(
                    f"given a preamble of {ahead} tokens; expected a BOS token and at least one"
                )
            length = ahead + self.tokens - 2
        tokens = _tokenize(self, prompt.preamble + prompt.text, length, "right")
        hidden = self.model(**tokens).last_hidden_state
        kept = [0, *range(length - self.tokens + 1, length)]
        return PromptEmbedding(hidden[:, kept], tokens["attention_mask"][:, kept])


@dataclass(frozen=True)
class RefinerTextEncoder:
    """Gemma-3 and LTX-2's connectors as the refiner's text encoder.

    Attributes:
        tokenizer: Gemma-3's tokenizer.
        model: Gemma-3 without a language head; all its hidden states are read.
        connectors: diffusers' `LTX2TextConnectors`. Since 0.42 they normalise each layer's states
            themselves, to 8 (h - mean) / (max - min) over the prompt's tokens.
        tokens: Tokens of an embedding, a multiple of the connectors' registers.

    Source: LTX-2; spec "LTX-2 refiner".
    """

    tokenizer: Any
    model: nn.Module
    connectors: nn.Module
    tokens: int = REFINER_TOKENS

    @torch.inference_mode()
    def __call__(self, prompt: Prompt) -> PromptEmbedding:
        """Features [1, tokens, c] and their mask, all ones where registers fill the padding.

        Raises:
            ValueError: A preamble is given, or the connectors were made for another encoder.
        """
        if prompt.preamble:
            raise ValueError(
                f"given the preamble {prompt.preamble[:40]!r}; the refiner reads bare prompts"
            )
        tokens = _tokenize(self, prompt.text.strip(), self.tokens, "left")
        states = self.model(**tokens, output_hidden_states=True).hidden_states
        config: Any = self.connectors.config
        made_for = (config.text_proj_in_factor, config.caption_channels)
        if (len(states), states[0].shape[-1]) != made_for:
            raise ValueError(
                f"given {len(states)} hidden states of width {states[0].shape[-1]}; "
                f"the connectors expect {made_for[0]} of width {made_for[1]}"
            )
        features, _, kept = self.connectors(torch.stack(states, dim=-1), tokens["attention_mask"])
        return PromptEmbedding(features, kept.to(torch.int64))


def _tokenize(
    encoder: GeneratorTextEncoder | RefinerTextEncoder, text: str, length: int, side: str
) -> dict[str, Tensor]:
    """Arguments of the encoder's network: token ids and mask, int64 [1, length], padded on a side
    or cut at the end."""
    tokens = encoder.tokenizer(
        [text],
        max_length=length,
        padding="max_length",
        padding_side=side,
        truncation=True,
        return_tensors="pt",
    )
    device = next(encoder.model.parameters()).device
    return {
        "input_ids": tokens["input_ids"].to(device),
        "attention_mask": tokens["attention_mask"].to(device, torch.int64),
    }
