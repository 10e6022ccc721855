"""The released video VAE: one image to a latent frame, latent frames to a clip.

Wraps diffusers' `AutoencoderKLLTX2Video` as the generator needs it: pixels in [0, 1], channels
last, the posterior's mode, latents in the VAE's own statistics, and the releases' tiling. The
streaming release's decoder, which has a state, is in `causal_vae.py`.
"""

from __future__ import annotations

import math
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
