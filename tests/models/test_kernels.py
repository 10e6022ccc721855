"""The fused kernels of flash-linear-attention against their plain torch."""

from __future__ import annotations

import sys

import pytest
import torch
import torch.nn.functional as F

from sana_wm_gym.models import kernels
from sana_wm_gym.models.kernels import (
    Fused,
    RMSNorm,
    causal_convolution,
    fused_causal_convolution,
    plain_causal_convolution,
)

close = torch.testing.assert_close


@pytest.fixture
def cuda() -> str:
    """A CUDA device with flash-linear-attention installed."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    if kernels.fused() is None:
        pytest.skip("needs flash-linear-attention (the gpu extra)")
    return "cuda"


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def convolution_inputs(frames, with_tail, width):
    tail = draw(2, 3, 6, width, seed=2) if with_tail else None
    return draw(2, frames, 6, width), draw(width, 1, 4, seed=1), tail


@pytest.mark.parametrize("frames", [1, 3, 4, 70])
@pytest.mark.parametrize("with_tail", [False, True])
def test_fused_convolution_equals_plain(cuda, frames, with_tail):
    given = convolution_inputs(frames, with_tail, 16)
    x, weight, tail = (part if part is None else part.to(cuda) for part in given)
    x.requires_grad_()
    weight.requires_grad_()
    results = [run(x, weight, tail) for run in (plain_causal_convolution, causal_convolution)]
    close(*results, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(y.square().sum(), (x, weight)) for y in results]
    for plain, fused in zip(*gradients, strict=True):
        close(plain, fused, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [16, 192, 2240])
def test_fused_norm_equals_plain(cuda, width, dtype):
    norm = RMSNorm(width, eps=1e-5).to(cuda, dtype)
    torch.nn.init.normal_(norm.weight)
    x = draw(3, 7, width).to(cuda, dtype)
    expected = F.rms_norm(x.float(), (width,), norm.weight.float(), 1e-5)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    close(norm(x).float(), expected, rtol=tolerance, atol=tolerance)


# The shapes handed to the kernel, without it


def definition(x, weight):
    """What flash-linear-attention documents: x [n, t, d], weight [d, w] to (y, state)."""
    assert x.is_contiguous() and weight.is_contiguous()
    padded = F.pad(x.transpose(1, 2), (weight.shape[-1] - 1, 0))
    return F.conv1d(padded, weight[:, None], groups=x.shape[2]).transpose(1, 2), None


@pytest.mark.parametrize("frames", [1, 3, 5])
@pytest.mark.parametrize("with_tail", [False, True])
def test_layouts_of_the_fused_convolution(frames, with_tail):
    inputs = convolution_inputs(frames, with_tail, 8)
    fused = fused_causal_convolution(Fused(definition, None), *inputs)
    close(fused, plain_causal_convolution(*inputs))


def test_tensors_on_the_cpu_take_the_plain_way(monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("a fused kernel on the CPU")

    monkeypatch.setattr(kernels, "fused", lambda: Fused(never, never))
    x, weight = draw(1, 3, 2, 8), draw(8, 1, 4)
    assert torch.equal(
        causal_convolution(x, weight, None), plain_causal_convolution(x, weight, None)
    )
    assert torch.equal(RMSNorm(8)(x), torch.nn.RMSNorm(8)(x))


def test_without_the_library_there_are_no_fused_functions(monkeypatch):
    monkeypatch.setitem(sys.modules, "fla.modules.convolution", None)
    kernels.fused.cache_clear()
    try:
        assert kernels.fused() is None
    finally:
        kernels.fused.cache_clear()
