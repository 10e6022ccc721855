"""Fit the codec: principal directions of patches of walks, then the decoder's correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from sana_wm_gym.models.codec import GROUP, CodecConfig, DecoderState, PatchCodec
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.walks import draw_walk

LATENT_RMS = 2.0


@dataclass(frozen=True)
class CodecFit:
    """How a codec is fitted.

    Attributes:
        walks: Walks per map that the linear part and the correction are fitted to.
        frames: Frames of each, a multiple of 8.
        steps: Steps of training of the decoder's correction; 0 leaves it out.
        batch: Latent frames per step.
        learning_rate: Peak rate; it falls linearly to zero over the second half.
        disturbance: Largest standard deviation of the noise that is added to latents, which then
            resemble generated ones.
        seed: Source of batches and noise.
    """

    walks: int = 48
    frames: int = 240
    steps: int = 4000
    batch: int = 32
    learning_rate: float = 2e-3
    disturbance: float = 0.2
    seed: int = 0


def fit_codec(
    config: CodecConfig,
    fit: CodecFit,
    scenes: Sequence[int],
    size: int,
    report: Callable[[str], None],
) -> PatchCodec:
    """A codec fitted to walks through `scenes` at `size` x `size` pixels; `report` gets lines."""
    report("fitting the codec's linear part")
    videos = walk_videos(scenes, fit.walks, fit.frames, size)
    codec = fit_linear(config, videos)
    if fit.steps > 0:
        fit_correction(codec, encoded_pairs(codec, videos), fit, report)
    return codec


def walk_videos(scenes: Sequence[int], walks: int, frames: int, size: int) -> list[Tensor]:
    """Frames of the first `walks` training walks of each scene, uint8 [frames + 1, H, W, 3]."""
    walked = [draw_walk(scene, index, frames) for scene in scenes for index in range(walks)]
    return [torch.from_numpy(render(place, c2w, size=(size, size))) for place, c2w in walked]


def fit_linear(config: CodecConfig, videos: Sequence[Tensor]) -> PatchCodec:
    """A codec whose linear part is fitted to videos [8 n + 1, H, W, 3].

    Still images enter too, as eight equal frames, because every rollout begins with one.
    """
    codec = PatchCodec(config)
    total = torch.zeros(config.values, dtype=torch.float64)
    second = torch.zeros(config.values, config.values, dtype=torch.float64)
    count = 0
    for video in videos:
        pixels = (video[1:].float() / 255).unflatten(0, (-1, GROUP))
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
    """Inputs and targets of the decoder, over n latent frames.

    Attributes:
        frames: True frames, uint8 [n, 8, H, W, 3].
        latents: Latent frame that stands for them, float16 [n, c, h, w].
        previous: The latent frame before it, likewise.
    """

    frames: Tensor
    latents: Tensor
    previous: Tensor


def fit_correction(
    codec: PatchCodec, pairs: DecoderPairs, fit: CodecFit, report: Callable[[str], None]
) -> None:
    """Train the correction of a codec's decoder in place, its linear part held fixed; `report` gets
    a line every 250 steps."""
    generator = torch.Generator().manual_seed(fit.seed)
    optimizer = torch.optim.AdamW(
        codec.correction.parameters(), lr=fit.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
    )
    recent = 0.0
    for step in range(fit.steps):
        pick = torch.randint(len(pairs.frames), (fit.batch,), generator=generator)
        target, latents = pairs.frames[pick].float() / 255, pairs.latents[pick].float()
        strength = fit.disturbance * torch.rand(fit.batch, 1, 1, 1, generator=generator)
        noisy = latents + strength * torch.randn(latents.shape, generator=generator)
        previous = DecoderState(pairs.previous[pick].float())
        with torch.autocast("cpu", torch.bfloat16):
            frames_out, _ = codec.decode(noisy[:, :, None], previous)
        loss = (frames_out.float() - target).pow(2).mean()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = fit.learning_rate * min((step + 1) / 50, 1.0, 2 * (1 - step / fit.steps))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        recent = 0.99 * recent + 0.01 * float(loss.detach())
        if (step + 1) % 250 == 0:
            psnr = -10 * np.log10(recent / (1 - 0.99 ** (step + 1)))
            report(f"codec step {step + 1} of {fit.steps}: {psnr:.2f} dB")


@torch.no_grad()
def encoded_pairs(codec: PatchCodec, videos: Sequence[Tensor]) -> DecoderPairs:
    """Pairs from the codec's own latents of videos [8 n + 1, H, W, 3]."""
    groups, latents, previous = [], [], []
    for video in videos:
        moving = video[1:].unflatten(0, (-1, GROUP))
        encoded = codec.encode_groups(moving.float() / 255)
        stills = codec.encode_image(video[::GROUP][: len(moving)].float() / 255)
        earlier = torch.cat([stills[:1], encoded[:-1]])
        # Every fourth group is seen as a rollout's first.
        earlier[::4] = stills[::4]
        groups.append(moving)
        latents.append(encoded.half())
        previous.append(earlier.half())
    return DecoderPairs(torch.cat(groups), torch.cat(latents), torch.cat(previous))
