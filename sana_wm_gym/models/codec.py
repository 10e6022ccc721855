"""The embedded world's codec: eight small frames to one latent frame, and back.

Each 8x8-pixel patch of eight consecutive frames is projected on principal directions of training
video, so encoding is one matrix product. Decoding is the transposed product plus a small
convolutional correction that sees neighbouring patches and the latent frame before. The first
image enters as eight equal frames, as the released VAE's causal padding does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

GROUP = 8
"""Pixel frames per latent frame."""


class LatentCodec(Protocol):
    """Frames to latent frames and back; `PatchCodec` and `vae.CausalVae` are two.

    The decoder's past is a value of the codec's own (`Any` here): a frozen dataclass of tensors.
    """

    @property
    def free_skip(self) -> bool:
        """Whether `skip` costs nothing; otherwise it costs as much as `decode`."""

    @property
    def state_type(self) -> type[Any]:
        """Dataclass of the decoder's past."""

    def eval(self) -> Any:
        """Switch off what only training does."""

    def encode_image(self, image: Tensor) -> Tensor:
        """Latent frame of a still image, [n, H, W, 3] in [0, 1] to [n, channels, h, w]."""

    def begin(self, first: Tensor) -> Any:
        """State after the first image's latent frame [b, channels, h, w]."""

    def decode(self, latents: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Frames [b, 8 f, H, W, 3] in [0, 1] of consecutive latent frames [b, channels, f, h, w],
        and the next state."""

    def decode_last(self, latents: Tensor, state: Any) -> Tensor:
        """The last frame of `decode` alone, [b, H, W, 3]."""

    def skip(self, latents: Tensor, state: Any) -> Any:
        """State after `latents`, without their frames."""

    def to_bytes(self, frames: Tensor) -> Tensor:
        """Frames in [0, 1] as uint8, rounded the way the codec was made with."""

    def check_state(self, state: Any) -> None:
        """Refuse a past that this decoder cannot have.

        Raises:
            ValueError: A tensor has the wrong shape, or there is another number of them.
        """


@dataclass(frozen=True)
class CodecConfig:
    """Size of the codec.

    Attributes:
        channels: Latent channels per cell.
        patch: Pixels per cell on either side.
        hidden: Width of the correction network.
        depth: Its number of hidden layers.
    """

    channels: int = 64
    patch: int = 8
    hidden: int = 192
    depth: int = 2

    @property
    def values(self) -> int:
        """Pixel values of one patch of eight RGB frames."""
        return GROUP * self.patch * self.patch * 3


@dataclass(frozen=True)
class DecoderState:
    """The decoder's past: the latent frame before the next, [b, channels, h, w]."""

    previous: Tensor


class PatchCodec(nn.Module):
    """Linear patch codec with a learned causal correction.

    Buffers: `mean` [values], `basis` [values, channels] with orthonormal columns, and `scale`
    [channels], what one unit of each latent channel is worth in pixel values.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    free_skip = True
    state_type = DecoderState

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.values))
        self.register_buffer("basis", torch.zeros(config.values, config.channels))
        self.register_buffer("scale", torch.ones(config.channels))
        widths = [2 * config.channels, *[config.hidden] * config.depth]
        layers: list[nn.Module] = []
        for into, out in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(into, out, 3, padding=1), nn.SiLU()]
        self.correction = nn.Sequential(*layers, nn.Conv2d(config.hidden, config.values, 1))
        nn.init.zeros_(self.correction[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.correction[-1].bias)  # type: ignore[arg-type]

    def encode_groups(self, frames: Tensor) -> Tensor:
        """Latent frames of groups of eight, [n, 8, H, W, 3] in [0, 1] to [n, channels, h, w]."""
        patch = self.config.patch
        values = rearrange(frames, "n t (h p) (w q) c -> n h w (t p q c)", p=patch, q=patch)
        return rearrange((values - self.mean) @ (self.basis / self.scale), "n h w c -> n c h w")

    def encode_image(self, image: Tensor) -> Tensor:
        """Latent frame of a still image, [n, H, W, 3] in [0, 1] to [n, channels, h, w]."""
        return self.encode_groups(repeat(image, "n h w c -> n t h w c", t=GROUP))

    def decode(self, latents: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `LatentCodec.decode`."""
        past = torch.cat([state.previous[:, :, None], latents[:, :, :-1]], dim=2)
        return self._frames(latents, past, GROUP), self.skip(latents, state)

    def decode_last(self, latents: Tensor, state: DecoderState) -> Tensor:
        """The last frame of `decode` alone, [b, H, W, 3], for a small part of its cost."""
        past = latents[:, :, -2:-1] if latents.shape[2] > 1 else state.previous[:, :, None]
        return self._frames(latents[:, :, -1:], past, 1)[:, 0]

    def _frames(self, latents: Tensor, past: Tensor, kept: int) -> Tensor:
        """The last `kept` of the eight frames of each latent frame, of which `past` is the one
        before, both [b, channels, f, h, w]."""
        flat, before = (rearrange(x, "b c f h w -> (b f) c h w") for x in (latents, past))
        hidden = self.correction[:-1](torch.cat([flat, before], dim=1))
        # The values of a patch are ordered by frame, so those of the last ones are the last.
        count = kept * self.config.values // GROUP
        weight, bias = (value[-count:] for value in self.correction[-1].parameters())
        corrected = F.conv2d(hidden, weight, bias)
        basis, mean = (self.basis * self.scale)[-count:], self.mean[-count:]
        values = F.linear(flat.movedim(1, -1), basis) + mean + corrected.movedim(1, -1)
        patches = "(b f) h w (t p q c) -> b (f t) (h p) (w q) c"
        side, batch = self.config.patch, latents.shape[0]
        return rearrange(values, patches, b=batch, t=kept, p=side, q=side).clamp(0, 1)

    @staticmethod
    def skip(latents: Tensor, state: DecoderState) -> DecoderState:
        """State after `latents` without making pixels."""
        del state
        return DecoderState(latents[:, :, -1])

    @staticmethod
    def begin(first: Tensor) -> DecoderState:
        """State after the first image's latent frame [b, channels, h, w]."""
        return DecoderState(first)

    @staticmethod
    def to_bytes(frames: Tensor) -> Tensor:
        """Frames in [0, 1] as uint8, to the nearest."""
        return (frames * 255).round().to(torch.uint8)

    def check_state(self, state: DecoderState) -> None:
        """Raise ValueError for a past of another number of channels."""
        previous = state.previous
        if previous.ndim != 4 or previous.shape[1] != self.config.channels:
            raise ValueError(
                f"given a decoder state {tuple(previous.shape)}; "
                f"expected [b, {self.config.channels}, h, w]"
            )
