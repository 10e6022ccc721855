"""Tiny autoencoders of the released shape with random weights."""

from __future__ import annotations

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="needs the hub extra")
if not hasattr(diffusers, "AutoencoderKLLTX2Video"):
    pytest.skip("needs a diffusers with LTX-2", allow_module_level=True)

# Depth, strides and kernels as released; widths and layer counts small.
TINY = {
    "latent_channels": 8,
    "block_out_channels": [8, 16, 16, 16],
    "layers_per_block": [1, 1, 1, 1, 1],
    "decoder_block_out_channels": [8, 16, 32],
    "decoder_layers_per_block": [1, 1, 1, 1],
    "decoder_causal": True,
}
# Stages that change width, and every kind of upsampler.
MIXED = {
    "decoder_block_out_channels": [16, 32, 32, 32],
    "decoder_layers_per_block": [1, 1, 1, 1, 1],
    "decoder_spatio_temporal_scaling": [True, True, True, True],
    "decoder_inject_noise": [False, False, False, False, False],
    "upsample_residual": [True, True, True, True],
    "upsample_factor": [2, 2, 1, 2],
    "upsample_type": ["spatiotemporal", "spatiotemporal", "temporal", "spatial"],
}


def build(seed=0, **changes):
    """A random autoencoder; statistics, noise-free biases and scale as in no default."""
    random = torch.Generator().manual_seed(seed)
    autoencoder = diffusers.AutoencoderKLLTX2Video(**{**TINY, "scaling_factor": 0.8} | changes)
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(0, spread, generator=random)
        autoencoder.latents_mean.normal_(0, 1, generator=random)
        autoencoder.latents_std.uniform_(0.5, 2, generator=random)
    return autoencoder.double().eval().requires_grad_(False)


def draw(frames, rows=2, columns=3, batch=1, seed=1):
    random = torch.Generator().manual_seed(seed)
    shape = (batch, 8, frames, rows, columns)
    return torch.randn(shape, generator=random, dtype=torch.float64)


def picture(height=64, width=96, batch=1):
    random = torch.Generator().manual_seed(2)
    return torch.rand(batch, height, width, 3, generator=random, dtype=torch.float64)
