"""Networks that rest on one device and come to another for their calls.

The generator works in every step and stays where it computes. The VAE, the refiner and the text
encoders work for a part of a step, or once: their weights can wait in main memory. The copies at
home are never written, so that leaving costs nothing; coming costs one transfer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True)
class Offload:
    """Where parts of a world rest between their calls; None: where the generator computes.

    Attributes:
        text: Device on which the text encoders run while they are loaded; they never stay.
        vae: Device on which the VAE rests. It is there for the first image and once per chunk.
        refiner: Device on which the refiner rests. It works once per chunk.
    """

    text: str | None = None
    vae: str | None = None
    refiner: str | None = None


RESIDENT = Offload()
"""Everything stays where the generator is."""
ON_CPU = Offload(text="cpu", vae="cpu", refiner="cpu")
"""Only the generator stays."""


class Visit:
    """A stay of a module's weights on a device, as a context; nested stays are one.

    Args:
        module: Whose parameters and buffers travel. It is at home now.
        device: Where they go.
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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._depth -= 1
        if self._depth == 0:
            self._go_home()

    def _go_home(self) -> None:
        for tensor, home in zip(self._tensors, self._home, strict=True):
            tensor.data = home

    def around(self, call: Callable[P, R]) -> Callable[P, R]:
        """The same call with the module's weights on the device while it runs."""

        @wraps(call)
        def visiting(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                return call(*args, **kwargs)

        return visiting


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A weight on a device."""
    return tensor.to(device)


def offloaded(module: ModuleT, device: torch.device, *methods: str) -> ModuleT:
    """The given module, changed so that its weights are on `device` during these methods alone."""
    visit = Visit(module, device)
    for name in methods:
        setattr(module, name, visit.around(getattr(module, name)))
    return module
