"""The compiled step against the plain one."""

from __future__ import annotations

import shutil

import pytest
import torch
from tiny_generators import network, one_pass
from torch import Tensor, nn
from torch import _dynamo as dynamo
from torch._inductor import config as inductor

from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.world.learned.compiled import SHAPES, compile_step
from sana_wm_gym.world.learned.sampler import self_forcing
from sana_wm_gym.world.learned.schedule import self_forcing as schedule_of

STEPS = schedule_of((1000, 500, 0))
PLAN = ChunkPlan(window=MemoryWindow(2, sink=True))
SMALLER = {
    "latent_channels": 4,
    "width": 16,
    "text_channels": 8,
    "text_tokens": 5,
    "position_entries": 0,
}


def chunks(model: SanaWM, count: int) -> Tensor:
    random, state, shown = torch.Generator().manual_seed(1), None, []
    for index in range(count):
        frames = 4 if index == 0 else 3
        conditioning = Conditioning(
            torch.eye(4).expand(1, frames, 2, 3, 4, 4).contiguous(),
            torch.randn(1, 48, frames, 2, 3, generator=random),
            torch.randn(1, 5, 8, generator=random),
            torch.ones(1, 5).long(),
        )
        noise = torch.randn(1, 4, frames, 2, 3, generator=random)
        anchor = torch.zeros(1, 4, 2, 3) if index == 0 else None
        with torch.inference_mode():
            latents, state = self_forcing(model, noise, anchor, conditioning, PLAN, state, STEPS)
        shown.append(latents)
    return torch.cat(shown, dim=2)


@pytest.fixture(autouse=True)
def _fresh() -> None:
    dynamo.reset()
    dynamo.utils.counters.clear()


def test_blocks_of_a_kind_share_what_is_compiled_and_nothing_breaks() -> None:
    """Whole graphs, two per kind of block and length of memory, however many blocks there are."""
    model, plain = network(**SMALLER), network(**SMALLER)
    names = list(model.state_dict())
    compile_step(model, backend="eager")
    assert torch.equal(chunks(model, 3), chunks(plain, 3))
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 12 <= SHAPES
    assert not dynamo.utils.counters["graph_break"]
    chunks(model, 4)  # another rollout, a longer one: nothing new
    assert dynamo.utils.counters["stats"]["unique_graphs"] == 12
    assert list(model.state_dict()) == names


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor builds with g++")
def test_compiled_code_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass of one softmax block, without cameras, through the default backend: building more
    takes minutes."""
    monkeypatch.setattr(inductor.cpp, "simdlen", 0)  # plain loops build in half the time
    model, plain = (network(**SMALLER, depth=1, softmax_every=1) for _ in range(2))
    expected = one_pass(plain, cameras=False)
    found = one_pass(compile_step(model), cameras=False)
    assert dynamo.utils.counters["inductor"]
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1


def test_the_decoder_is_refused() -> None:
    with pytest.raises(ValueError, match="given a Linear; expected the generator: the causal dec"):
        compile_step(nn.Linear(1, 1))  # type: ignore[arg-type]
