"""The released video VAEs: one image to a latent frame, latent frames to a clip or a stream.

Wraps diffusers' `AutoencoderKLLTX2Video` as the generator needs it: pixels in [0, 1], channels
last, the posterior's mode, latents in the VAE's own statistics, and the releases' tiling.

Every temporal convolution of the streaming release's decoder looks only back, two frames far, so
its past is the last two inputs of each. Decoding runs the library's modules one latent frame at a
time: chunks of any size give identical bits, and memory does not grow with the chunk. Never compile
it: the reference found blank chunks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn


@dataclass(frozen=True)
class Tiling:
    """Overlapping tiles that bound the memory of a whole-clip decode, in pixels and pixel frames.

    Attributes:
        size: Side of a spatial tile; images no larger on either side are not tiled.
        stride: Distance between spatial tiles.
        frames: Length of a temporal tile of the decoder; shorter clips are not tiled.
        frame_stride: Distance between temporal tiles.

    Source: streaming spec section 4, which states these defaults.
    """

    size: int = 512
    stride: int = 448
    frames: int = 96
    frame_stride: int = 64


RELEASED_TILING = Tiling()
"""What the releases run with: even the first frame of 704 x 1280 is encoded in tiles."""

CONTEXT = 2
"""Past frames a temporal convolution reads: its kernel spans three."""


class VideoVae(nn.Module):
    """First-frame encoder and whole-clip decoder.

    Args:
        autoencoder: diffusers' `AutoencoderKLLTX2Video` with its weights; owned from here on.
        tiling: Spatial tiles of encoder and decoder, temporal tiles of the decoder; None for none.
            Tiles change the result a little where they overlap, so parity needs the released ones.

    Attributes:
        channels: Latent channels.
        cell: Pixels per latent cell on either side (32 as released).
        group: Pixel frames per latent frame after the first (8 as released).

    Raises:
        ValueError: The decoder wants a timestep, which no release of SANA-WM gives it.
    """

    def __init__(self, autoencoder: Any, tiling: Tiling | None = RELEASED_TILING) -> None:
        super().__init__()
        # Any throughout: an optional library's classes are not there for the type checker.
        self.autoencoder: Any = autoencoder
        self.settings: Any = autoencoder.config
        if self.settings.timestep_conditioning:
            raise ValueError("given a VAE with timestep_conditioning; expected one without")
        self.channels: int = self.settings.latent_channels
        strides = [
            upsampler.stride
            for block in self.autoencoder.decoder.up_blocks
            for upsampler in block.upsamplers or ()
        ]
        self.cell: int = self.settings.patch_size * math.prod(stride[1] for stride in strides)
        self.group: int = math.prod(stride[0] for stride in strides)
        # A config may leave these out; the library then assumes that each stage does both.
        self.autoencoder.spatial_compression_ratio = self.cell
        self.autoencoder.temporal_compression_ratio = self.group
        self.autoencoder.use_tiling = tiling is not None
        self.autoencoder.use_framewise_decoding = tiling is not None
        if tiling is not None:
            self.autoencoder.enable_tiling(
                tile_sample_min_height=tiling.size,
                tile_sample_min_width=tiling.size,
                tile_sample_min_num_frames=tiling.frames,
                tile_sample_stride_height=tiling.stride,
                tile_sample_stride_width=tiling.stride,
                tile_sample_stride_num_frames=tiling.frame_stride,
            )

    def encode_image(self, image: Tensor) -> Tensor:
        """Latent frame of a still image: the posterior's mode, normalised.

        Args:
            image: [n, H, W, 3] in [0, 1], on any device and of any floating type.

        Returns:
            [n, channels, h, w] on the VAE's device and of its dtype (bfloat16 as released).

        Raises:
            ValueError: The image is not RGB, or its sides do not divide into latent cells.
        """
        shape = tuple(image.shape)
        if len(shape) != 4 or shape[3] != 3:
            raise ValueError(f"given an image {shape}; expected [n, H, W, 3]")
        if shape[1] % self.cell or shape[2] % self.cell or min(shape[1:3]) < 2 * self.cell:
            raise ValueError(
                f"given an image of {shape[1]} x {shape[2]} pixels; expected multiples of "
                f"{self.cell}, at least {2 * self.cell}"
            )
        if not image.is_floating_point():
            raise ValueError(f"given an image of {image.dtype}; expected floats in [0, 1]")
        weight = self.autoencoder.encoder.conv_in.conv.weight
        clip = rearrange(2 * image - 1, "n h w c -> n c 1 h w")
        posterior = self.autoencoder.encode(clip.to(weight.device, weight.dtype)).latent_dist
        return self.normalise(posterior.mode())[:, :, 0]

    def decode_clip(self, latents: Tensor) -> Tensor:
        """All frames of a clip at once, by a decoder that may look ahead.

        Args:
            latents: [b, channels, f, h, w], normalised, on the VAE's device.

        Returns:
            Float32 [b, group (f - 1) + 1, H, W, 3] in [0, 1].

        Raises:
            ValueError: See `check_latents`.
        """
        self.check_latents(latents)
        weight = self.autoencoder.decoder.conv_in.conv.weight
        clip = self.autoencoder.decode(self.denormalise(latents).to(weight.dtype)).sample
        return to_unit_range(rearrange(clip, "b c f h w -> b f h w c"))

    def normalise(self, latents: Tensor) -> Tensor:
        """The encoder's latents [b, channels, f, h, w] in the generator's units, in their dtype."""
        mean, std = self._statistics(latents)
        return (latents - mean) * self.settings.scaling_factor / std

    def denormalise(self, latents: Tensor) -> Tensor:
        """Inverse of `normalise`, computed in the dtype of `latents` as the reference does."""
        mean, std = self._statistics(latents)
        return latents * std / self.settings.scaling_factor + mean

    def check_latents(self, latents: Tensor) -> None:
        """Refuse latents that the decoder cannot read.

        Raises:
            ValueError: Another number of axes or channels, no frames, or fewer than two cells on a
                side, which the decoder's mirrored borders cannot pad.
        """
        shape = tuple(latents.shape)
        if len(shape) != 5 or shape[1] != self.channels or shape[2] < 1:
            raise ValueError(
                f"given latents {shape}; expected [b, {self.channels}, f, h, w], f >= 1"
            )
        if min(shape[3:]) < 2:
            raise ValueError(
                f"given latents of {shape[3]} x {shape[4]} cells; expected 2 x 2 or more"
            )

    def _statistics(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (
            value.to(latents.device, latents.dtype).view(1, -1, 1, 1, 1)
            for value in (self.autoencoder.latents_mean, self.autoencoder.latents_std)
        )
        return mean, std


def to_unit_range(pixels: Tensor) -> Tensor:
    """Decoder output around [-1, 1] as float32 in [0, 1]."""
    return (pixels.float() * 0.5 + 0.5).clamp(0, 1)


def to_uint8(frames: Tensor) -> Tensor:
    """Frames in [0, 1] as bytes, truncated as the reference does (its 127.5 x + 127.5)."""
    return (frames.float() * 255).to(torch.uint8)


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
