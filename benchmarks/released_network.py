"""The released networks at full or tiny size with random weights, and what they work on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from sana_wm_gym.camera.controls import MotionLimits, twist_to_controls
from sana_wm_gym.camera.trajectory import CameraState, integrate
from sana_wm_gym.models.numerics import R1_STREAMING
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, map_tensors
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig
from sana_wm_gym.models.vae import CausalVae
from sana_wm_gym.weights.names import RELEASED
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.sampler import chunk_noise
from sana_wm_gym.world.released.streaming import assumed_intrinsics

CELL = 32
"""Pixels of a latent cell's side."""
TINY = SanaWMConfig(
    latent_channels=8,
    width=32,
    depth=4,
    heads=2,
    text_channels=16,
    text_tokens=12,
    position_entries=0,
)
TINY_DECODER: dict[str, Any] = {
    "latent_channels": 8,
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
}


@dataclass(frozen=True)
class StepCase:
    """What is measured, and where.

    Attributes:
        tiny: Small networks, to try the script.
        dtype: Type of weights and latents.
        device: Where.
        size: Height and width in pixels, multiples of 32.
        history: Chunks before the one that is timed.
        passes: 5 for a whole chunk; 1 for its clean pass alone.
        compiler: Backend of torch.compile for the blocks, or "".
        repeats: Chunks to time; of several, the first is a warm-up.
    """

    tiny: bool
    dtype: torch.dtype
    device: torch.device
    size: tuple[int, int]
    history: int
    passes: int
    compiler: str
    repeats: int

    @property
    def config(self) -> SanaWMConfig:
        """The generator's size."""
        return TINY if self.tiny else replace(RELEASED, position_entries=0)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of a latent frame."""
        return self.size[0] // CELL, self.size[1] // CELL


def random_generator(case: StepCase) -> SanaWM:
    """A generator whose random weights keep activations near unit size."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = SanaWM(case.config, R1_STREAMING)
    model = model.to(case.dtype).to_empty(device=case.device)
    model.requires_grad_(False)
    for name, weight in model.state_dict().items():
        if weight.ndim > 1:
            weight.normal_(std=weight[0].numel() ** -0.5)
        else:
            weight.fill_(float("norm" in name))
    return model.eval()


def filled_state(case: StepCase, window: MemoryWindow) -> GeneratorState:
    """The memory after `case.history` chunks, with random content: a step's time and memory do not
    depend on it. Its shapes come from running the chunks on tensors without values."""
    _, state = run_empty(case, window, case.history)

    def content(part: Tensor) -> Tensor:
        if not part.is_floating_point():
            seen = 1 + LATENTS_PER_CHUNK * case.history
            return torch.full(part.shape, seen, dtype=part.dtype, device=case.device)
        return torch.randn(part.shape, device=case.device).mul_(0.01).to(part.dtype)

    return map_tensors(content, state)


def run_empty(case: StepCase, window: MemoryWindow, chunks: int) -> tuple[int, GeneratorState]:
    """Operations of the last of some clean passes' matrix products, by torch's own counter, and
    the state after it; all on tensors without values."""

    def attention(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
        return sdpa_flop_count(query, key, value)

    kernels = [torch.ops.aten._scaled_dot_product_flash_attention_for_cpu]
    counting = FlopCounterMode(display=False, custom_mapping=dict.fromkeys(kernels, attention))
    calls = [random_call(replace(case, device=torch.device("cpu")), f) for f in (True, False)]
    numerics = replace(R1_STREAMING, bf16_softmax=False)
    with FakeTensorMode() as mode, torch.inference_mode():
        model, state = SanaWM(case.config, numerics), None
        weights = model.state_dict().items()
        model.load_state_dict({n: w.to(case.dtype) for n, w in weights}, assign=True)
        empty = [map_tensors(mode.from_tensor, call) for call in calls]
        for chunk in range(chunks):
            noise, conditioning = empty[min(chunk, 1)]
            arguments = (noise, torch.zeros(1), conditioning, ChunkPlan(window=window), state)
            if chunk < chunks - 1:
                _, state = model(*arguments)
        with counting:
            _, state = model(*arguments)
    return counting.get_total_flops(), state


def random_call(case: StepCase, first: bool = False) -> tuple[Tensor, Conditioning]:
    """Noise of a chunk, and a walk's cameras with a random caption."""
    config, limits = case.config, MotionLimits()
    controls = twist_to_controls(np.array([0.5, 0.2, 0, 0, 0.4]), limits, CHUNK_FRAMES)
    poses, _ = integrate(CameraState(), controls, limits.pitch_limit)
    c2w = np.concatenate([np.eye(4)[None], poses])[None]
    intrinsics = np.tile(assumed_intrinsics(*case.size), (1, CHUNK_FRAMES + 1, 1))
    with torch.device("cpu"):
        conditioning = chunk_conditioning(c2w, intrinsics, case.size, case.grid, first)
        if config.text_channels:
            text = torch.randn(1, config.text_tokens, config.text_channels).to(case.dtype)
            mask = torch.ones(1, config.text_tokens)
            conditioning = replace(conditioning, text=text, text_mask=mask)
        frames = LATENTS_PER_CHUNK + int(first)
        noise = chunk_noise(0, case.history, (1, config.latent_channels, frames, *case.grid))
    moved = map_tensors(lambda part: part.to(case.device), conditioning)
    return noise.to(case.device, case.dtype), moved


def random_decoder(case: StepCase) -> CausalVae:
    """The causal decoder as diffusers initialises it.

    Raises:
        ImportError: diffusers is not installed.
    """
    try:
        from diffusers import AutoencoderKLLTX2Video
    except ImportError as error:
        raise ImportError('no diffusers; install "sana_wm_gym[hub]"') from error
    torch.manual_seed(0)
    made = AutoencoderKLLTX2Video(decoder_causal=True, **(TINY_DECODER if case.tiny else {}))
    # The library's own `to` warns of layers that some of its networks keep in float32; not these.
    nn.Module.to(made, case.device, case.dtype)
    return CausalVae(made).eval()
