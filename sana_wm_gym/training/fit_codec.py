"""Fit the codec: principal directions of patches of walks, then the decoder's correction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from sana_wm_gym.models.codec import GROUP, CodecConfig, DecoderState, PatchCodec
from sana_wm_gym.training.dataset import render_walk

LATENT_RMS = 2.0


def fit_linear(
    config: CodecConfig, scenes: Sequence[int], walks: int, frames: int, size: int
) -> PatchCodec:
    """A codec whose linear part is fitted to `walks` walks of `frames` frames in each scene.

    Still images enter too, as eight equal frames, because every rollout begins with one.
    """
    codec = PatchCodec(config)
    total = torch.zeros(config.values, dtype=torch.float64)
    second = torch.zeros(config.values, config.values, dtype=torch.float64)
    count = 0
    for scene in scenes:
        for index in range(walks):
            _, images = render_walk(scene, index, frames, size)
            pixels = torch.from_numpy(images[1:].astype(np.float32) / 255).unflatten(0, (-1, GROUP))
            still = pixels[::4, :1].expand(-1, GROUP, -1, -1, -1)
            values = rearrange(
                torch.cat([pixels, still]),
                "n t (h p) (w q) c -> (n h w) (t p q c)",
                p=config.patch,
                q=config.patch,
            )
            total += values.sum(0)
            second += values.T @ values
            count += len(values)
    mean = total / count
    covariance = second / count - torch.outer(mean, mean)
    variance, directions = torch.linalg.eigh(covariance)
    codec.mean.copy_(mean)
    codec.basis.copy_(directions.flip(1)[:, : config.channels])
    deviation = variance.flip(0)[: config.channels].clamp(min=1e-12).sqrt()
    # Halfway to whitening: strong directions stay stronger, so that noise drowns them last. The
    # latents' root mean square is LATENT_RMS, so clean tokens stand out from pure noise.
    codec.scale.copy_(deviation.sqrt() * deviation.mean().sqrt() / LATENT_RMS)
    return codec


@dataclass(frozen=True)
class DecoderPairs:
    """What the decoder is given and should answer, over n latent frames.

    Attributes:
        frames: True frames, uint8 [n, 8, H, W, 3].
        latents: Latent frame that stands for them, float16 [n, c, h, w].
        previous: The latent frame before it, float16 [n, c, h, w].
        disturbance: Largest standard deviation of noise added to `latents` while training.
    """

    frames: Tensor
    latents: Tensor
    previous: Tensor
    disturbance: float


def fit_correction(
    codec: PatchCodec,
    pairs: DecoderPairs,
    minutes: float,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Train the decoder's correction in place, the linear part held fixed.

    The rate falls to zero over the given time.

    Args:
        codec: Codec whose linear part is fitted.
        pairs: What to learn from.
        minutes: Time to train for; 0 leaves the decoder as it is.
        seed: Source of batches and disturbance.
        say: Called with a line of progress now and then.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = list(codec.correction.parameters())
    peak, batch = 2e-3, 32
    optimizer = torch.optim.AdamW(parameters, lr=peak, betas=(0.9, 0.98), weight_decay=0.0)
    began, step, recent = time.time(), 0, 0.0
    while minutes > 0 and (progress := (time.time() - began) / (60 * minutes)) < 1:
        pick = torch.randint(len(pairs.frames), (batch,), generator=generator)
        target, latents = pairs.frames[pick].float() / 255, pairs.latents[pick].float()
        strength = pairs.disturbance * torch.rand(batch, 1, 1, 1, generator=generator)
        noisy = latents + strength * torch.randn(latents.shape, generator=generator)
        previous = DecoderState(pairs.previous[pick].float())
        frames_out, _ = codec.decode(noisy[:, :, None], previous)
        loss = (frames_out - target).pow(2).mean()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = peak * min(1.0, (step + 1) / 50, 2 * (1 - progress))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step, recent = step + 1, 0.98 * recent + 0.02 * float(loss.detach())
        if step % 200 == 0:
            say(f"codec step {step}: {-10 * np.log10(recent / (1 - 0.98**step)):.2f} dB")


def encoded_pairs(
    codec: PatchCodec, scenes: Sequence[int], walks: int, frames: int, size: int
) -> DecoderPairs:
    """Pairs from the codec's own latents of walks, a little disturbed, as generated ones are."""
    groups, latents, previous = [], [], []
    with torch.no_grad():
        for scene in scenes:
            for index in range(walks):
                _, images = render_walk(scene, index, frames, size)
                pixels = torch.from_numpy(images)
                moving = pixels[1:].unflatten(0, (-1, GROUP))
                encoded = codec.encode_groups(moving.float() / 255)
                stills = codec.encode_image(pixels[::GROUP][: len(moving)].float() / 255)
                earlier = torch.cat([stills[:1], encoded[:-1]])
                # Every fourth group is seen as a rollout's first.
                earlier[::4] = stills[::4]
                groups.append(moving)
                latents.append(encoded.half())
                previous.append(earlier.half())
    return DecoderPairs(torch.cat(groups), torch.cat(latents), torch.cat(previous), 0.3)
