"""The streaming release's VAE: a decoder that turns each new latent frame into pixels at once.

Every temporal convolution of this decoder looks only back, two frames far, so its past is the last
two inputs of each convolution. Decoding runs the library's modules one latent frame at a time:
chunks of any size give identical bits, and memory does not grow with the chunk. Never compile it:
the reference found blank chunks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from sana_wm_gym.models.vae import RELEASED_TILING, Tiling, VideoVae, to_uint8, to_unit_range

CONTEXT = 2
"""Past frames a temporal convolution reads: its kernel spans three."""


@dataclass(frozen=True)
class CausalDecoderState:
    """The decoder's past.

    Attributes:
        tails: Last two input frames of each temporal convolution, [b, channels, 2, h, w] at that
            convolution's resolution, in the order of `CausalVae.convolutions`.
    """

    tails: tuple[Tensor, ...]


class CausalVae(VideoVae):
    """First-frame encoder and streaming decoder.

    Args:
        autoencoder: diffusers' `AutoencoderKLLTX2Video` with the streaming release's weights.
        tiling: Spatial tiles of the encoder; the decoder never tiles.

    Attributes:
        convolutions: The temporal convolutions of the decoder by name.

    Raises:
        ValueError: The decoder is not causal, injects noise, or wants a timestep.

    Source: streaming spec section 4, "Streaming decode".
    """

    free_skip = False
    state_type = CausalDecoderState

    def __init__(self, autoencoder: Any, tiling: Tiling | None = RELEASED_TILING) -> None:
        super().__init__(autoencoder, tiling)
        if not self.settings.decoder_causal:
            raise ValueError("given a VAE whose decoder looks ahead; expected decoder_causal true")
        noise = self.settings.decoder_inject_noise
        if noise if isinstance(noise, bool) else any(noise):
            raise ValueError("given a VAE whose decoder draws noise; its frames could not repeat")
        self.convolutions = {
            name: module
            for name, module in self.autoencoder.decoder.named_modules()
            if isinstance(getattr(module, "conv", None), nn.Conv3d)
            and hasattr(module, "kernel_size")
        }
        assert all(conv.kernel_size[0] == CONTEXT + 1 for conv in self.convolutions.values())

    def begin(self, first: Tensor) -> CausalDecoderState:
        """State after the first image's latent frame [b, channels, h, w]."""
        return self.decode(first[:, :, None], None)[1]

    def decode(
        self, latents: Tensor, state: CausalDecoderState | None
    ) -> tuple[Tensor, CausalDecoderState]:
        """Frames of consecutive latent frames [b, channels, f, h, w] on the VAE's device.

        Returns:
            Float32 frames [b, F, H, W, 3] in [0, 1] and the next state. A latent frame makes 8
            frames, the first of a stream (whose state is None) makes 1.

        Raises:
            ValueError: The latents or the state have unexpected shapes.
        """
        self.check_latents(latents)
        decoder = self.autoencoder.decoder
        unscaled = self.denormalise(latents).to(decoder.conv_in.conv.weight.dtype)
        if state is not None:
            self.check_state(state)
            batch, channels, _, rows, columns = latents.shape
            given, expected = tuple(state.tails[0].shape), (batch, channels, CONTEXT, rows, columns)
            if given != expected:
                raise ValueError(
                    f"given a decoder state that begins with {given}; "
                    f"latents {tuple(latents.shape)} need {expected}"
                )
        frames = []
        for latent in unscaled.split(1, dim=2):
            tails = () if state is None else state.tails
            one = _FrameDecoder(dict(zip(self.convolutions.values(), tails, strict=False)))
            frames.append(to_unit_range(one.decoder(decoder, latent)))
            tails = tuple(one.tails[conv] for conv in self.convolutions.values())
            state = CausalDecoderState(tails)
        assert state is not None
        return torch.cat(frames, dim=1), state

    def decode_last(self, latents: Tensor, state: CausalDecoderState | None) -> Tensor:
        """The last frame of `decode`, [b, H, W, 3]; costs as much as all of them."""
        return self.decode(latents, state)[0][:, -1]

    def skip(self, latents: Tensor, state: CausalDecoderState | None) -> CausalDecoderState:
        """State after `latents`; costs as much as decoding."""
        return self.decode(latents, state)[1]

    def decode_clip(self, latents: Tensor) -> Tensor:
        """A whole clip: `decode` from the start of a stream."""
        return self.decode(latents, None)[0]

    @staticmethod
    def to_bytes(frames: Tensor) -> Tensor:
        """As `to_uint8`."""
        return to_uint8(frames)

    def check_state(self, state: CausalDecoderState) -> None:
        """Raise ValueError for a past that does not fit the convolutions."""
        if len(state.tails) != len(self.convolutions):
            raise ValueError(
                f"given a decoder state of {len(state.tails)} tensors; "
                f"expected {len(self.convolutions)}"
            )
        for (name, conv), tail in zip(self.convolutions.items(), state.tails, strict=True):
            if tail.ndim != 5 or tail.shape[1:3] != (conv.in_channels, CONTEXT):
                raise ValueError(
                    f"given a decoder state with {name} {tuple(tail.shape)}; "
                    f"expected [b, {conv.in_channels}, {CONTEXT}, h, w]"
                )


class _FrameDecoder:
    """The library's forward of one latent frame, without the branches that `CausalVae` refuses.

    It reads the inputs each convolution kept from the frame before (`past`, empty at the start of a
    stream) and collects those to keep (`tails`).
    """

    def __init__(self, past: Mapping[nn.Module, Tensor]) -> None:
        self.past = past
        self.tails: dict[nn.Module, Tensor] = {}

    def decoder(self, decoder: Any, latent: Tensor) -> Tensor:
        """Latent frame [b, c, 1, h, w] to pixels [b, F, H, W, 3] around [-1, 1]."""
        x = self.convolution(decoder.conv_in, latent)
        for resnet in decoder.mid_block.resnets:
            x = self.resnet(resnet, x)
        for block in decoder.up_blocks:
            if block.conv_in is not None:
                x = self.resnet(block.conv_in, x)
            for upsampler in block.upsamplers or ():
                x = self.upsampler(upsampler, x)
            for resnet in block.resnets:
                x = self.resnet(resnet, x)
        x = self.convolution(decoder.conv_out, decoder.conv_act(decoder.norm_out(x)))
        side = decoder.patch_size
        # The library's patch order has the column before the row.
        return rearrange(x, "b (c q p) f h w -> b f (h p) (w q) c", p=side, q=side)

    def convolution(self, conv: Any, x: Tensor) -> Tensor:
        """Causal convolution; before a stream's first frame stand copies of it."""
        left = self.past.get(conv, x[:, :, :1].expand(-1, -1, CONTEXT, -1, -1))
        joined = torch.cat([left, x], dim=2)
        # A copy, so that the state does not keep the whole input alive.
        self.tails[conv] = joined[:, :, -CONTEXT:].clone(memory_format=torch.contiguous_format)
        return conv.conv(joined)

    def resnet(self, block: Any, x: Tensor) -> Tensor:
        """Two normalised convolutions and a shortcut."""
        y = self.convolution(block.conv1, block.nonlinearity(block.norm1(x)))
        y = self.convolution(block.conv2, block.dropout(block.nonlinearity(block.norm2(y))))
        if block.norm3 is not None:
            x = block.norm3(x.movedim(1, -1)).movedim(-1, 1)
        if block.conv_shortcut is not None:
            x = block.conv_shortcut(x)
        return x + y

    def upsampler(self, upsampler: Any, x: Tensor) -> Tensor:
        """Channels to space and time, without what would precede the stream's first frame."""
        y = _unfold(self.convolution(upsampler.conv, x), upsampler.stride)
        if upsampler.residual:
            plain = _unfold(x, upsampler.stride)
            y = y + plain.repeat(1, y.shape[1] // plain.shape[1], 1, 1, 1)
        before = 0 if self.past else upsampler.stride[0] - 1
        return y[:, :, before:]


def _unfold(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """Spread groups of channels over frames, rows and columns."""
    s, p, q = stride
    return rearrange(x, "b (c s p q) f h w -> b c (f s) (h p) (w q)", s=s, p=p, q=q)
