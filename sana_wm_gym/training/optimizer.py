"""Muon for weight matrices, AdamW for everything else, one schedule for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimizerConfig:
    """Learning rates and schedule.

    Attributes:
        matrix_rate: Peak rate of Muon, its updates scaled to AdamW's typical size.
        other_rate: Peak rate of AdamW.
        gate_rate: Peak rate of AdamW for the write gates and decays of delta-rule blocks: at
            `other_rate` they saturate at 0 or 1, where they no longer learn.
        warmup: Steps of linear rise, from a run's first step.
        decay: Steps at the end of the run over which the rates fall linearly to zero; 0 keeps
            them constant.
        weight_decay: Of matrices, per step and unit of the learning rate. It keeps their scale, and
            with it that of activations, from growing.
        clip: Largest gradient norm.
        ema: Decay of the averaged weights per step.
    """

    matrix_rate: float = 7e-3
    other_rate: float = 1.7e-3
    gate_rate: float = 2e-4
    warmup: int = 40
    decay: int = 0
    weight_decay: float = 0.03
    clip: float = 1.0
    ema: float = 0.999


def is_dense(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes a parameter: dense matrices inside blocks, 1x1 convolutions included."""
    dense = parameter.ndim >= 2 and parameter.shape[1] > 1 and parameter.shape[0] >= 16
    other = "scale_shift" in name or is_gate(name)
    return name.startswith("blocks.") and dense and not other


def is_gate(name: str) -> bool:
    """Whether a parameter makes write gates or decays."""
    return any(part in name for part in (".beta_proj.", ".gate_proj.", ".A_log", ".dt_bias"))


class Optimizer:
    """Both optimizers behind one `step`.

    Args:
        model: What to train.
        config: Learning rates and schedule.
        is_matrix: Whether Muon takes a parameter of this name.
        other_decay: Weight decay of what Muon does not take.
    """

    def __init__(
        self,
        model: nn.Module,
        config: OptimizerConfig,
        is_matrix: Callable[[str, Tensor], bool] = is_dense,
        other_decay: float = 0.0,
    ) -> None:
        self.config = config
        named = list(model.named_parameters())
        self.parameters = [p for _, p in named]
        self.matrices = [p for name, p in named if is_matrix(name, p)]
        # Muon works on matrices: views of the same storage, kernels flattened.
        self.views = [nn.Parameter(p.detach().flatten(1)) for p in self.matrices]
        self.muon = torch.optim.Muon(
            self.views,
            lr=config.matrix_rate,
            weight_decay=config.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
        others = [(name, p) for name, p in named if not is_matrix(name, p)]
        self.adamw = torch.optim.AdamW(
            [
                {"params": [p for name, p in others if not is_gate(name)]},
                {"params": [p for name, p in others if is_gate(name)]},
            ],
            lr=config.other_rate,
            betas=(0.9, 0.98),
            weight_decay=other_decay,
        )

    def rate(self, step: int, total: int) -> float:
        """Fraction of the peak rates at a step of a run of `total` steps."""
        config = self.config
        rise = min(1.0, (step + 1) / config.warmup)
        return rise * (min(1.0, (total - step) / config.decay) if config.decay else 1.0)

    def step(self, step: int, total: int) -> float:
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
        rate = self.rate(step, total)
        groups = [*self.muon.param_groups, *self.adamw.param_groups]
        peaks = (self.config.matrix_rate, self.config.other_rate, self.config.gate_rate)
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = peak * rate
        for group in self.muon.param_groups:
            group["weight_decay"] = self.config.weight_decay
        self.muon.step()
        self.adamw.step()
        for parameter in self.parameters:
            parameter.grad = None
        return float(norm)
