"""The least work of a pass: operations of its matrix products, bytes that have to be read.

Counted on paper from the sizes, part by part; a test holds the sum against torch's own counter at
small and at released size. Elementwise work is left out, which makes the floor a true one.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from sana_wm_gym.models.layers import TIMESTEP_FREQUENCIES
from sana_wm_gym.models.plan import MemoryWindow
from sana_wm_gym.models.state import (
    BlockMemory,
    DeltaRuleMemory,
    GeneratorState,
    KeyValueChunk,
    KeyValueMemory,
    named_tensors,
)
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.weights.generator import generator_bytes
from sana_wm_gym.world.world_model import LATENTS_PER_CHUNK

FIRST_CHUNK = LATENTS_PER_CHUNK + 1


@dataclass(frozen=True)
class PassWork:
    """Floating-point operations of one pass, two per multiply-add, by part of the network.

    Attributes:
        projections: Linear maps around both branches of self-attention, and the Pluecker term.
        feed_forward: GLU-MBConv with its temporal convolution.
        softmax: Scores and values of the softmax blocks, both branches.
        delta_rule: Transitions, writes and readings of the delta-rule blocks, key convolutions.
        caption: Caption embedding and attention to it.
        surroundings: Embeddings, ray transforms, final layer.
    """

    projections: int
    feed_forward: int
    softmax: int
    delta_rule: int
    caption: int
    surroundings: int

    @property
    def total(self) -> int:
        """All parts."""
        return sum(astuple(self))


def pass_work(
    config: SanaWMConfig,
    frames: int,
    cells: int,
    remembered: int,
    caption_tokens: int,
    noise_levels: int,
) -> PassWork:
    """Work of one call of the network for one world, cameras and Pluecker maps given.

    Args:
        config: Size of the network.
        frames: Latent frames of the call, one chunk.
        cells: Tokens of a latent frame.
        remembered: Latent frames in the memory of a softmax block.
        caption_tokens: Length of the caption; 0 for a network without.
        noise_levels: Different timesteps of the call: `frames` while denoising, 1 in the clean
            pass.
    """
    width, heads, depth = config.width, config.heads, config.depth
    head, hidden = width // heads, int(width * config.mlp_ratio)
    tokens, softmax_blocks = frames * cells, depth // config.softmax_every
    delta_blocks, square = depth - softmax_blocks, width * width

    # qkv, output gate, projection; the same for the camera with one output map; Pluecker.
    projections = depth * tokens * 10 * square
    feed_forward = (
        depth * tokens * (3 * width * hidden + 9 * 2 * hidden + config.temporal_kernel * square)
    )
    keys = tokens + remembered * cells
    softmax = softmax_blocks * 2 * 2 * tokens * keys * width

    def scan(value: int) -> int:
        """Transitions, writes, readings; then composing the frames' maps, forth and back."""
        per_token = head * head + 2 * head * value
        compositions = frames + max(frames - 2, 0)
        return heads * (tokens * per_token + compositions * head * head * value)

    convolutions = 4 * width * tokens * config.conv_kernel
    gates = (tokens + frames) * width * heads
    delta_rule = delta_blocks * (2 * scan(head) + scan(1) + convolutions + gates)

    caption = 0
    if config.text_channels:
        caption = caption_tokens * (config.text_channels * width + square)
        caption += depth * (2 * tokens * square + 2 * caption_tokens * square)
        caption += depth * 2 * tokens * caption_tokens * width

    rays = depth * 4 * 2 * tokens * width + 9 * tokens
    embedded = tokens * width * (2 * config.latent_channels + config.plucker_channels)
    levels = noise_levels * (TIMESTEP_FREQUENCIES * width + 7 * square)
    return PassWork(
        2 * projections,
        2 * feed_forward,
        2 * softmax,
        2 * delta_rule,
        2 * caption,
        2 * (rays + embedded + levels),
    )


def chunk_operations(
    config: SanaWMConfig, cells: int, remembered: int, caption_tokens: int, steps: int
) -> int:
    """Operations of a later chunk: `steps` denoising passes and the clean one."""
    frames = LATENTS_PER_CHUNK
    noisy = pass_work(config, frames, cells, remembered, caption_tokens, frames)
    clean = pass_work(config, frames, cells, remembered, caption_tokens, 1)
    return steps * noisy.total + clean.total


def pass_bytes(config: SanaWMConfig, state: GeneratorState, dtype: torch.dtype) -> int:
    """Bytes that a pass reads at least: every weight and the whole memory, once."""
    return generator_bytes(config, dtype) + state_bytes(state)


def state_bytes(state: GeneratorState) -> int:
    """Size of the generator's memory."""
    return sum(tensor.nbytes for tensor in named_tensors(state).values())


def remembered_frames(window: MemoryWindow, chunks: int) -> int:
    """Latent frames that a softmax block remembers after some chunks."""
    return sum(_lengths(window, chunks))


def filled_state(
    config: SanaWMConfig,
    cells: int,
    window: MemoryWindow,
    chunks: int,
    dtype: torch.dtype,
    device: torch.device | str,
) -> GeneratorState:
    """A state as it is after some chunks, with random content: what a step takes does not depend
    on it. For the numerics of the streaming release, whose camera keys keep no context."""
    heads, head = config.heads, config.width // config.heads
    kinds: dict[str, Any] = {"dtype": dtype, "device": device}

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    def delta() -> DeltaRuleMemory:
        square = torch.full((1, heads, head, head), 0.01, device=device)
        denominator = torch.ones(1, heads, head, 1, device=device)
        tail = normal(1, config.conv_kernel - 1, cells, config.width)
        return DeltaRuleMemory(square, denominator, square.clone(), tail, None)

    def softmax() -> KeyValueMemory:
        return KeyValueMemory(
            tuple(
                KeyValueChunk(*(normal(1, heads, frames * cells, head) for _ in range(4)))
                for frames in _lengths(window, chunks)
            )
        )

    blocks = tuple(
        BlockMemory(
            softmax() if (index + 1) % config.softmax_every == 0 else delta(),
            torch.zeros(1, config.temporal_kernel // 2, cells, config.width, **kinds),
        )
        for index in range(config.depth)
    )
    seen = FIRST_CHUNK + (chunks - 1) * LATENTS_PER_CHUNK
    return GeneratorState(torch.full((1,), seen, device=device), blocks)


def _lengths(window: MemoryWindow, chunks: int) -> list[int]:
    return [FIRST_CHUNK if index == 0 else LATENTS_PER_CHUNK for index in window.keep(chunks)]
