"""The causal LTX-2 decoder with random weights, at the size of the library's own settings."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from benchmarks.released.meter import place
from sana_wm_gym.models.causal_vae import CausalVae

_SMALL: dict[str, Any] = {
    "latent_channels": 8,
    "block_out_channels": (8, 16, 16, 16),
    "layers_per_block": (1, 1, 1, 1, 1),
    "decoder_block_out_channels": (8, 16, 32),
    "decoder_layers_per_block": (1, 1, 1, 1),
}


def _autoencoder(tiny: bool) -> Any:
    try:
        from diffusers import AutoencoderKLLTX2Video
    except ImportError as error:
        raise ImportError('no diffusers; install "sana_wm_gym[hub]"') from error
    return AutoencoderKLLTX2Video(decoder_causal=True, **(_SMALL if tiny else {}))


def random_decoder(dtype: str, device: torch.device, tiny: bool) -> CausalVae:
    """A decoder as the library initialises it.

    Raises:
        ImportError: diffusers is not installed.
    """
    torch.manual_seed(0)
    autoencoder = _autoencoder(tiny)
    # The library's own `to` warns of layers that some of its networks keep in float32; not these.
    nn.Module.to(autoencoder, device, place(dtype))
    return CausalVae(autoencoder).eval()


def decoder_operations(height: int, width: int, latents: int, tiny: bool) -> int:
    """Operations of decoding some latent frames of a running stream, by torch's own counter on
    tensors without values.

    Args:
        height: Pixels.
        width: Pixels.
        latents: Latent frames.
        tiny: Of the small decoder.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.flop_counter import FlopCounterMode

    with FakeTensorMode(), torch.inference_mode():
        vae = CausalVae(_autoencoder(tiny))
        frames = torch.empty(1, vae.channels, latents, height // vae.cell, width // vae.cell)
        _, state = vae.decode(frames[:, :, :1], None)
        with FlopCounterMode(display=False) as counter:
            vae.decode(frames, state)
    return counter.get_total_flops()
