"""Which weights are quantised, by a stand-in for Transformer Engine that needs no GPU.

The stand-in keeps its weights whole and records its calls; the accuracy of the real engine is not
tested here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from camera_paths import ahead
from stepping import advance, latents_of
from tiny_generators import network, one_pass
from torch import Tensor, nn

from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.weights.names import RELEASED, expected_shapes, quantised
from sana_wm_gym.weights.plan import Precision, weight_bytes
from sana_wm_gym.world.learned.precision import (
    ROWS,
    QuantisedLinear,
    engine_for,
    quantise,
    quantise_network,
    require_gpu,
)
from sana_wm_gym.world.released.offload import ON_CPU
from sana_wm_gym.world.world_model import Start

CPU = torch.device("cpu")
WIDER = {"attention_head_dim": 16, "cross_attention_dim": 32}
SMALLER = {"depth": 2, "text_tokens": 6, "position_entries": 0}


@dataclass
class Stage:
    """Calls of the stand-in."""

    log: list[str] = field(default_factory=list)
    layers: list[nn.Module] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


@pytest.fixture(params=["new names", "old names"])
def stage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """Transformer Engine as of 2.9 and later, or before."""
    made = Stage()

    class Linear(nn.Linear):
        def __init__(
            self, inputs: int, outputs: int, bias: bool, params_dtype: Any, device: Any
        ) -> None:
            assert "storing" in made.log[-1] and not torch.is_grad_enabled()
            super().__init__(inputs, outputs, bias, device, params_dtype)
            made.layers.append(self)

        def forward(self, x: Tensor) -> Tensor:
            assert "computing" in made.log[-1] and x.ndim == 2 and len(x) % ROWS == 0
            made.rows.append(len(x))
            return super().forward(x)

    def context(kind: str, named: str) -> Any:
        @contextmanager
        def enter(*, enabled: bool, **recipe: str) -> Iterator[None]:
            assert enabled
            made.log.append(f"{kind} {recipe[named]}")
            yield
            made.log.append("left")

        return enter

    storing, computing, argument = "quantized_model_init", "autocast", "recipe"
    if request.param == "old names":
        storing, computing, argument = "fp8_model_init", "fp8_autocast", "fp8_recipe"
    contexts = {
        storing: context("storing", "recipe"),
        computing: context("computing", argument),
    }
    te = SimpleNamespace(Linear=Linear, **contexts)
    recipes = SimpleNamespace(
        Float8BlockScaling=lambda: "fp8",
        NVFP4BlockScaling=lambda disable_rht, disable_stochastic_rounding: (
            f"NVFP4 {disable_rht} {disable_stochastic_rounding}"
        ),
    )
    install(monkeypatch, te, recipes)
    return made


def install(monkeypatch: pytest.MonkeyPatch, te: Any, recipes: Any) -> None:
    modules = {"": ModuleType("te"), ".common": ModuleType("common"), ".pytorch": te}
    for name, module in (modules | {".common.recipe": recipes}).items():
        monkeypatch.setitem(sys.modules, f"transformer_engine{name}", module)


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.NVFP4])
def test_the_forward_pass_goes_through_the_quantised_layers(
    stage: Stage, precision: Precision
) -> None:
    """With weights kept whole the result is the plain one, so every layer is where it was."""
    model = network(**SMALLER)
    quantise_network(model, precision, CPU)
    assert torch.allclose(one_pass(model), one_pass(network(**SMALLER)), atol=1e-5)
    found = [m for m in model.modules() if isinstance(m, QuantisedLinear)]
    assert len(found) == len(stage.layers) == len(stage.rows) == 2 * 8
    assert set(stage.rows) == {32}  # 24 tokens, or 6 of text, filled up
    recipe = {Precision.FP8: "fp8", Precision.NVFP4: "NVFP4 False False"}[precision]
    assert {line for line in stage.log if line != "left"} == {
        f"storing {recipe}",
        f"computing {recipe}",
    }


def test_what_reads_cameras_or_writes_latents_is_left_alone(stage: Stage) -> None:
    model = network(**SMALLER)
    kept = {name: id(tensor) for name, tensor in model.named_parameters()}
    quantise(model, quantised, engine_for(Precision.FP8, smoothing=True), CPU)
    same = {name for name, tensor in model.named_parameters() if kept.get(name) == id(tensor)}
    for part in ("cam", "plucker", "embedder", "t_block", "final_layer", "norm", "beta_proj"):
        named = {name for name in kept if part in name}
        assert named and named <= same, part
    gone = {name.removesuffix(".weight") for name in kept.keys() - same if "weight" in name}
    assert {name.split(".", 2)[2] for name in gone} == {
        *("attn.qkv", "attn.proj", "attn.output_gate"),
        *("cross_attn.q_linear", "cross_attn.kv_linear", "cross_attn.proj"),
        *("mlp.inverted_conv.conv", "mlp.point_conv.conv"),
    }


@pytest.mark.parametrize("precision", [Precision.FP8, Precision.NVFP4])
def test_memory_as_planned(stage: Stage, precision: Precision) -> None:
    """At full size, without storage: the layers replaced are those that `plan` counts smaller."""
    with torch.device("meta"):
        model = SanaWM(RELEASED).to(torch.bfloat16)
    engine = engine_for(precision, smoothing=True)
    names = quantise(model, quantised, engine, torch.device("meta"))
    shapes = expected_shapes(RELEASED)
    assert len(names) == 160
    assert set(names) == {name for name, shape in shapes.items() if quantised(name, shape)}
    layers = [m for m in model.modules() if isinstance(m, QuantisedLinear)]
    small = {id(m.linear.weight) for m in layers}
    native = sum(
        2 * tensor.numel()
        for tensor in (*model.parameters(), *model.buffers())
        if id(tensor) not in small
    )
    replaced = weight_bytes({name: shapes[name] for name in names}, precision, quantised)
    assert native + replaced == weight_bytes(shapes, precision, quantised)
    assert sum(prod(shapes[name]) for name in names) == sum(m.linear.weight.numel() for m in layers)


def test_the_refiner_is_not_smoothed(stage: Stage) -> None:
    engine = engine_for(Precision.NVFP4, smoothing=False)
    with engine.computing():
        assert stage.log[-1] == "computing NVFP4 True True"


def test_a_refiner_goes_through_its_quantised_layers(stage: Stage) -> None:
    diffusers = pytest.importorskip("diffusers", minversion="0.42")
    pytest.importorskip("transformers")
    from tiny_release import LTX

    from sana_wm_gym.models.refiner import BIDIRECTIONAL, Refiner, video_only
    from sana_wm_gym.models.text import PromptEmbedding

    def refiner() -> Refiner:
        torch.manual_seed(2)
        network = diffusers.LTX2VideoTransformer3DModel(**LTX | WIDER)
        return Refiner(video_only(network), BIDIRECTIONAL).eval().requires_grad_(False)

    random = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 8, 3, 2, 3, generator=random)
    noise = torch.randn(1, 8, 2, 2, 3, generator=random)
    text = PromptEmbedding(torch.randn(1, 5, 16, generator=random), torch.ones(1, 5).long())
    with torch.inference_mode():
        plain = refiner().refine(latents, noise, text)
        model = refiner()
        quantise_network(model, Precision.NVFP4, CPU)
        assert torch.allclose(model.refine(latents, noise, text), plain, atol=1e-5)
    layers = [name for name, m in model.named_modules() if isinstance(m, QuantisedLinear)]
    # Queries, keys, values and output of two attentions, and both layers of the feed-forward.
    assert len(layers) == 2 * 10 and all("transformer_blocks" in name for name in layers)
    assert set(stage.log) == {"storing NVFP4 True True", "computing NVFP4 True True", "left"}


def test_a_world_in_fp8(
    stage: Stage, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From files to frames, with the check for a GPU switched off."""
    stack: Any = request.getfixturevalue("stack")
    monkeypatch.setattr("sana_wm_gym.world.released.loading.require_gpu", lambda *given: None)
    world = stack.load(precision=Precision.FP8, dtype=torch.float32)
    assert sum(isinstance(m, QuantisedLinear) for m in world.model.modules()) == 4 * 8
    plain = stack.load(dtype=torch.float32)
    assert np.allclose(one_chunk(world), one_chunk(plain), atol=1e-4)
    with pytest.raises(ValueError, match="refiner in fp8 that rests on cpu; a quantised one stays"):
        stack.load(refined=True, precision=Precision.FP8, offload=ON_CPU)


def one_chunk(world: Any) -> np.ndarray:
    image = np.full((*world.spec.size, 3), 90, np.uint8)
    state = world.begin(Start(image, world.spec.intrinsics, prompt="a room"), seed=1)
    [state] = advance(world, [state], [ahead(world.spec, step=0.0)])
    return latents_of(world, state)


def test_bfloat16_changes_nothing() -> None:
    model = network(**SMALLER)
    quantise_network(model, Precision.BF16, CPU)
    assert not any(isinstance(m, QuantisedLinear) for m in model.modules())
    require_gpu(Precision.BF16, torch.float32, CPU)


def test_no_gpu_or_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"given fp8 on cpu; expected a GPU, or Precision\.BF16"):
        require_gpu(Precision.FP8, torch.bfloat16, CPU)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    gpu = torch.device("cuda")
    require_gpu(Precision.FP8, torch.bfloat16, gpu)
    with pytest.raises(ValueError, match=r"NVFP4 on a GPU of compute capability 9\.0; expected 10"):
        require_gpu(Precision.NVFP4, torch.bfloat16, gpu)
    with pytest.raises(ValueError, match=r"fp8 with torch\.float32; expected bfloat16"):
        require_gpu(Precision.FP8, torch.float32, gpu)


@pytest.mark.parametrize("absent", [True, False], ids=["absent", "too old"])
def test_no_transformer_engine(monkeypatch: pytest.MonkeyPatch, absent: bool) -> None:
    empty = None if absent else ModuleType("old")
    install(monkeypatch, empty, empty)
    with pytest.raises(ImportError, match=r'NVFP4; install "sana_wm_gym\[fp8\]"'):
        engine_for(Precision.NVFP4, smoothing=True)
