"""Networks whose weights are kept on one device and moved to another for their calls.

The generator works in every step and stays where it computes. The VAE, the refiner and the text
encoders work for a part of a step, or once: their weights can wait in main memory. The copies at
home are never written, so nothing is transferred back.
"""

from __future__ import annotations

from contextlib import ContextDecorator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Offload:
    """Where parts of a world are kept between their calls; None: where the generator computes.

    Attributes:
        text: Device on which the text encoders run while they are loaded; they never stay.
        vae: Device of the VAE, which works for the first image and once per chunk.
        refiner: Device of the refiner, which works once per chunk.
    """

    text: str | None = None
    vae: str | None = None
    refiner: str | None = None


RESIDENT = Offload()
"""Everything stays where the generator is."""
ON_CPU = Offload(text="cpu", vae="cpu", refiner="cpu")
"""Only the generator stays."""


class Visit(ContextDecorator):
    """A stay of a module's weights on a device, as a context or a decorator of calls; nested stays
    are one.

    Args:
        module: Whose parameters and buffers are moved. It is at home now.
        device: Where they are moved to.
    """

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self._tensors = [*module.parameters(), *module.buffers()]
        self._home = [tensor.data for tensor in self._tensors]
        self._device = device
        self._depth = 0

    def __enter__(self) -> None:
        if self._depth == 0:
            try:
                with torch.inference_mode(False):  # such tensors may not become weights
                    for tensor, home in zip(self._tensors, self._home, strict=True):
                        tensor.data = copied(home, self._device)
            except BaseException:
                self._go_home()
                raise
        self._depth += 1

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._go_home()

    def _go_home(self) -> None:
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A weight on a device."""
    return tensor.to(device)


def offloaded(module: ModuleT, device: torch.device, *methods: str) -> ModuleT:
    """The given module, changed so that its weights are on `device` during these methods alone."""
    visit = Visit(module, device)
    for name in methods:
        setattr(module, name, visit(getattr(module, name)))
    return module
