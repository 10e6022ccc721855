"""Fit the codec's linear part: principal directions of patches of the shipped maps' walks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange

from sana_wm_gym.models.codec import GROUP, CodecConfig, PatchCodec
from sana_wm_gym.training.dataset import render_walk


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
    codec.scale.copy_(variance.flip(0)[: config.channels].clamp(min=1e-12).sqrt())
    return codec
