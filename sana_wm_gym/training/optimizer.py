"""Muon for weight matrices, AdamW for everything else, one schedule for both."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """Learning rates and schedule.

    Attributes:
        matrix_rate: Peak rate of Muon, its updates scaled to AdamW's typical size.
        other_rate: Peak rate of AdamW.
        warmup: Steps of linear rise.
        decay_from: Training progress in [0, 1] after which the rate falls linearly to zero.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights per step.
    """

    matrix_rate: float = 9e-3
    other_rate: float = 2.2e-3
    warmup: int = 40
    decay_from: float = 0.2
    clip: float = 1.0
    ema: float = 0.998


def is_matrix(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: dense matrices inside blocks, 1x1 convolutions included."""
    dense = parameter.ndim >= 2 and parameter.shape[1] > 1 and parameter.shape[0] >= 16
    return name.startswith("blocks.") and dense and "scale_shift" not in name


class Optimizer:
    """Both optimizers behind one `step`."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        named = list(model.named_parameters())
        self.parameters = [p for _, p in named]
        self.matrices = [p for name, p in named if is_matrix(name, p)]
        # Muon works on matrices: views of the same storage, 1x1 kernels flattened.
        self.views = [nn.Parameter(p.detach().flatten(1)) for p in self.matrices]
        self.muon = torch.optim.Muon(
            self.views,
            lr=config.matrix_rate,
            weight_decay=0.0,
            adjust_lr_fn="match_rms_adamw",
        )
        self.adamw = torch.optim.AdamW(
            [p for name, p in named if not is_matrix(name, p)],
            lr=config.other_rate,
            betas=(0.9, 0.98),
            weight_decay=0.0,
        )

    def rate(self, step: int, progress: float) -> float:
        """Share of the peak rates at a step, `progress` in [0, 1] through the run."""
        config = self.config
        rise = min(1.0, (step + 1) / config.warmup)
        fall = min(1.0, max(0.0, (1 - progress) / (1 - config.decay_from)))
        return rise * fall

    def step(self, step: int, progress: float) -> float:
        """Apply the gradients of one step and clear them; returns their norm.

        Gradients that are not finite are dropped: a memory that ran away costs one step.
        """
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.config.clip)
        if not torch.isfinite(norm):
            for parameter in self.parameters:
                parameter.grad = None
            return float(norm)
        for view, parameter in zip(self.views, self.matrices, strict=True):
            view.grad = None if parameter.grad is None else parameter.grad.flatten(1)
        share = self.rate(step, progress)
        for optimizer, peak in (
            (self.muon, self.config.matrix_rate),
            (self.adamw, self.config.other_rate),
        ):
            for group in optimizer.param_groups:
                group["lr"] = peak * share
            optimizer.step()
        for parameter in self.parameters:
            parameter.grad = None
        return float(norm)
