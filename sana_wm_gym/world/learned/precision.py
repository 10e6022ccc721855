"""Weights in fp8 or NVFP4, by NVIDIA's Transformer Engine, to spare memory.

The linears of attention, caption attention and feed-forward store their weights in eight or four
bits and multiply in them; all else stays in bfloat16 (`weights.names` lists what is quantised).

Source: SANA-WM streaming release; spec "Quantisation". Needs a GPU: fp8 compute capability 9.0,
NVFP4 10.0.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sana_wm_gym.models.layers import PointwiseConv
from sana_wm_gym.models.refiner import Refiner
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.weights.names import quantised, quantised_refiner
from sana_wm_gym.weights.plan import CAPABILITY, Chooser, Precision

ROWS = 32
"""Tokens are filled up to a multiple of this: the kernels want whole blocks."""


@dataclass(frozen=True)
class Engine:
    """Transformer Engine, set up for one precision.

    Attributes:
        linear: Its linear layer: (in, out, bias=, params_dtype=, device=).
        storing: Makes a context in which layers are built with quantised weights.
        computing: Makes a context in which they multiply in that precision.
    """

    linear: Callable[..., nn.Module]
    storing: Callable[[], AbstractContextManager[Any]]
    computing: Callable[[], AbstractContextManager[Any]]


def require_gpu(precision: Precision, dtype: torch.dtype, device: torch.device) -> None:
    """Raise ValueError for fewer bits than bfloat16 without a GPU that has them, or with another
    `dtype` for the rest."""
    if precision is Precision.BF16:
        return
    wanted = CAPABILITY[precision]
    if device.type != "cuda":
        raise ValueError(f"given {precision} on {device}; expected a GPU, or Precision.BF16")
    found = torch.cuda.get_device_capability(device)
    if found < wanted:
        raise ValueError(
            f"given {precision} on a GPU of compute capability {found[0]}.{found[1]}; "
            f"expected {wanted[0]}.{wanted[1]} or newer"
        )
    if dtype != torch.bfloat16:
        raise ValueError(f"given {precision} with {dtype}; expected bfloat16 for all else")


def engine_for(precision: Precision, *, smoothing: bool) -> Engine:
    """Transformer Engine with the recipe of the release.

    Args:
        precision: fp8 (128 x 128 blocks) or NVFP4.
        smoothing: For NVFP4, Hadamard rotation and stochastic rounding. The generator loses its
            pose following without them; the refiner runs without.

    Raises:
        ImportError: Transformer Engine is missing, or too old for the precision.
    """
    try:
        te = import_module("transformer_engine.pytorch")
        recipes = import_module("transformer_engine.common.recipe")
        if precision is Precision.FP8:
            recipe = recipes.Float8BlockScaling()
        else:
            recipe = recipes.NVFP4BlockScaling(
                disable_rht=not smoothing, disable_stochastic_rounding=not smoothing
            )
    except (ImportError, AttributeError) as error:
        raise ImportError(
            f'no Transformer Engine for {precision}; install "sana_wm_gym[fp8]" '
            f"(transformer-engine >= 2.0): {error}"
        ) from error
    storing, computing, argument = "quantized_model_init", "autocast", "recipe"
    if not hasattr(te, storing):  # before Transformer Engine 2.9
        storing, computing, argument = "fp8_model_init", "fp8_autocast", "fp8_recipe"
    return Engine(
        te.Linear,
        lambda: getattr(te, storing)(enabled=True, recipe=recipe),
        lambda: getattr(te, computing)(enabled=True, **{argument: recipe}),
    )


class QuantisedLinear(nn.Module):
    """A linear layer with quantised weights, from a weight [out, in] and bias [out] or None on any
    device; tokens [..., in] to [..., out] on `device`."""

    def __init__(
        self, weight: Tensor, bias: Tensor | None, engine: Engine, device: torch.device
    ) -> None:
        super().__init__()
        self._computing = engine.computing
        with torch.no_grad(), engine.storing():  # no gradients: no second, transposed copy
            linear: Any = engine.linear(
                weight.shape[1],
                weight.shape[0],
                bias=bias is not None,
                params_dtype=weight.dtype,
                device=device,
            )
        with torch.no_grad():
            linear.weight.copy_(weight)  # quantises
            if bias is not None:
                linear.bias.copy_(bias)
        self.linear: nn.Module = linear

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        tokens = x.reshape(-1, x.shape[-1])
        count = len(tokens)
        filled = F.pad(tokens, (0, 0, 0, -count % ROWS))
        with self._computing():
            out = self.linear(filled)
        return out[:count].unflatten(0, x.shape[:-1])


def quantise(module: nn.Module, chosen: Chooser, engine: Engine, device: torch.device) -> list[str]:
    """Replace the chosen linear layers, one by one, and bring the rest to the device as it is.

    Args:
        module: Changed in place.
        chosen: By the name and shape of a weight.
        engine: Stores and multiplies.
        device: Where the module will be.

    Returns:
        Names of the weights that were quantised.
    """
    names = []
    for path, layer in list(module.named_modules()):
        if not isinstance(layer, nn.Linear | PointwiseConv):
            continue
        kernel: Any = layer.conv if isinstance(layer, PointwiseConv) else layer
        name = f"{path}.weight" if kernel is layer else f"{path}.conv.weight"
        if not chosen(name, tuple(kernel.weight.shape)):
            continue
        small = QuantisedLinear(kernel.weight.flatten(1), kernel.bias, engine, device)
        parent, _, leaf = path.rpartition(".")
        setattr(module.get_submodule(parent), leaf, small.eval().requires_grad_(False))
        names.append(name)
    module.to(device)
    return names


def quantise_network(network: SanaWM | Refiner, precision: Precision, device: torch.device) -> None:
    """Bring a generator or a refiner to a device, its larger linears in a precision.

    Raises:
        ImportError: Transformer Engine is missing, or too old for the precision.
    """
    if precision is Precision.BF16:
        return
    if isinstance(network, SanaWM):
        quantise(network, quantised, engine_for(precision, smoothing=True), device)
    else:
        engine = engine_for(precision, smoothing=False)
        quantise(network.transformer, quantised_refiner, engine, device)
