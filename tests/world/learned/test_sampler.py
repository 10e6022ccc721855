"""Samplers on flows whose result is known."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import Conditioning
from sana_wm_gym.world.learned import sampler, schedule
from sana_wm_gym.world.learned.sampler import CleanPrediction, Guidance, chunk_noise

SHAPE = (2, 3, 4, 2, 2)  # b, c, f, h, w
NOTHING = Conditioning(None, None)
SCHEDULES = {
    "released four steps": schedule.SELF_FORCING_4,
    "shifted twelve steps": schedule.flow_euler_ltx(12, 9.8),
    "one step": schedule.self_forcing((1000, 0)),
}
schedules = pytest.mark.parametrize("noise_levels", SCHEDULES.values(), ids=SCHEDULES)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@dataclass
class Toy:
    """A flow towards `target`, or a constant one; records its calls, and its state counts them."""

    target: Tensor | None = None
    constant: Tensor | None = None
    calls: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, latents, timestep, conditioning, plan, state):
        frames = latents.shape[2]
        read = {"latents": latents.clone(), "timestep": timestep.clone()}
        self.calls.append(read | {"conditioning": conditioning, "plan": plan, "state": state})
        after = f"{state} then {len(self.calls)}"
        if self.constant is not None:
            return self.constant[:, :, :frames].expand_as(latents), after
        sigma = (timestep if timestep.ndim == 2 else timestep[:, None])[:, None, :, None, None]
        sigma = sigma / schedule.TRAIN_STEPS
        velocity = (latents - self.target[:, :, :frames]) / sigma.clamp(min=1e-9)
        return torch.where(sigma == 0, 123.0, velocity), after  # read nowhere


@schedules
def test_a_later_chunk_reaches_the_target_in_all_its_frames(noise_levels):
    toy = Toy(target=normal(*SHAPE, seed=1))
    made, _ = sampler.self_forcing(
        toy, normal(*SHAPE), None, NOTHING, ChunkPlan(), "past", noise_levels
    )
    torch.testing.assert_close(made, toy.target, rtol=1e-4, atol=1e-4)
    times = [call["timestep"].unique().tolist() for call in toy.calls]
    assert times == [[timestep] for timestep in (*noise_levels.timesteps, 0)]


@schedules
def test_flow_euler_ltx_reaches_the_target_and_holds_frame_zero(noise_levels):
    toy, image = Toy(target=normal(*SHAPE, seed=1)), normal(2, 3, 2, 2, seed=2)
    made = sampler.denoise(toy, normal(*SHAPE), image, NOTHING, ChunkPlan(), None, noise_levels)[0]
    torch.testing.assert_close(made[:, :, 1:], toy.target[:, :, 1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(made[:, :, 0], image)
    for call, timestep in zip(toy.calls, noise_levels.timesteps, strict=True):
        assert torch.equal(call["latents"][:, :, 0], image)
        assert call["timestep"][:, 0].tolist() == [0, 0]
        assert torch.equal(call["timestep"][:, 1:], torch.full((2, 3), timestep))


@schedules
def test_a_constant_flow_is_integrated_over_the_whole_range(noise_levels):
    """The steps add up to the first noise level, whatever lies between."""
    toy, noise = Toy(constant=normal(*SHAPE, seed=1)), normal(*SHAPE)
    made, state = sampler.denoise(toy, noise, None, NOTHING, ChunkPlan(), "past", noise_levels)
    assert state == f"past then {noise_levels.steps}"
    expected = noise - noise_levels.sigmas[0] * toy.constant
    torch.testing.assert_close(made, expected, rtol=1e-5, atol=1e-5)


def test_self_forcing_keeps_the_state_of_the_clean_pass_only():
    toy, plan, image = Toy(constant=torch.zeros(SHAPE)), ChunkPlan(), normal(2, 3, 2, 2)
    made, state = sampler.self_forcing(
        toy, normal(*SHAPE), image, NOTHING, plan, "past", schedule.SELF_FORCING_4
    )
    assert len(toy.calls) == 5
    assert {call["state"] for call in toy.calls} == {"past"} and state == "past then 5"
    clean = toy.calls[-1]
    assert torch.equal(clean["timestep"], torch.zeros(2))
    assert torch.equal(clean["latents"], made)
    assert torch.equal(made[:, :, 0], image)
    assert all(call["plan"] is plan for call in toy.calls)


@schedules
def test_without_a_clean_pass_the_state_is_that_of_the_last_step(noise_levels):
    """One call per noise level, all from the same past; the latents are the same."""
    image = normal(2, 3, 2, 2)
    with_pass, without = (Toy(target=normal(*SHAPE, seed=1)) for _ in range(2))
    given = (normal(*SHAPE), image, NOTHING, ChunkPlan(), "past", noise_levels)
    expected, _ = sampler.self_forcing(with_pass, *given)
    made, state = sampler.self_forcing(without, *given, clean_pass=False)
    assert torch.equal(made, expected)
    assert len(without.calls) == noise_levels.steps == len(with_pass.calls) - 1
    assert state == f"past then {noise_levels.steps}"
    assert {call["state"] for call in without.calls} == {"past"}
    last = without.calls[-1]["latents"]
    assert torch.equal(last, with_pass.calls[-2]["latents"])


@pytest.mark.parametrize("frames", [4, 8, 11])
def test_chunk_flow_euler_reaches_the_target(frames):
    plan = schedule.chunk_flow_euler(frames, chunk=3, steps=8, shift=9.8)
    shape = (2, 3, frames, 2, 2)
    toy, image = Toy(target=normal(*shape, seed=1)), normal(2, 3, 2, 2, seed=2)
    maps = replace(NOTHING, plucker=normal(2, 48, frames, 2, 2))
    made = sampler.chunk_flow_euler(
        toy, normal(*shape), image, maps, ChunkPlan(plan.plan[:-1]), plan
    )
    torch.testing.assert_close(made[:, :, 1:], toy.target[:, :, 1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(made[:, :, 0], image)

    assert len(toy.calls) == plan.global_steps
    chunks = list(pairwise(plan.plan))
    for step, call in enumerate(toy.calls):
        active = plan.active_frames(step)
        assert call["latents"].shape[2] == active
        assert torch.equal(call["conditioning"].plucker, maps.plucker[:, :, :active])
        assert call["plan"].starts == tuple(start for start, _ in chunks if start < active)
        assert call["state"] is None
        # Finished chunks stand still, clean.
        for start, end in chunks:
            if end <= active and plan.sigmas(step)[end - 1] == 0:
                moving = max(start, 1)
                finished = call["latents"][:, :, moving:end]
                torch.testing.assert_close(
                    finished, toy.target[:, :, moving:end], rtol=1e-4, atol=1e-4
                )
                assert not call["timestep"][:, start:end].any()


def test_prefix_plan_cuts_both_kinds_of_starts():
    plan = sampler.prefix_plan(ChunkPlan((0, 4, 7), (0, 3, 6, 9)), 7)
    assert plan.starts == (0, 4) and plan.key_conv_starts == (0, 3, 6)


# Wrappers


@pytest.mark.parametrize("scale", [0.0, 1.0, 3.0])
def test_guidance_is_its_formula(scale):
    without, with_text = normal(*SHAPE, seed=1), normal(*SHAPE, seed=2)
    toy = Toy(constant=torch.cat([without, with_text]))
    latents, timestep = normal(*SHAPE), torch.full((2, 4), 500.0)
    velocity, after = Guidance(toy, scale)(latents, timestep, NOTHING, ChunkPlan(), "past")
    expected = (1 - scale) * without + scale * with_text
    torch.testing.assert_close(velocity, expected, rtol=1e-5, atol=1e-5)
    assert after == "past then 1"
    (call,) = toy.calls
    assert torch.equal(call["latents"], torch.cat([latents, latents]))
    assert torch.equal(call["timestep"], torch.cat([timestep, timestep]))


@schedules
def test_a_clean_prediction_is_a_flow_to_it(noise_levels):
    image, clean = normal(2, 3, 2, 2, seed=2), Toy(constant=normal(*SHAPE, seed=1))
    flow = CleanPrediction(clean)
    made, state = sampler.self_forcing(
        flow, normal(*SHAPE), image, NOTHING, ChunkPlan(), "past", noise_levels
    )
    torch.testing.assert_close(made[:, :, 1:], clean.constant[:, :, 1:], rtol=1e-4, atol=1e-4)
    assert torch.equal(made[:, :, 0], image)
    assert state == f"past then {noise_levels.steps + 1}"
    still, _ = flow(made, torch.zeros(2), NOTHING, ChunkPlan(), None)
    assert not still.any()


# Noise

seeds, chunks = st.integers(0, 2**63 - 1), st.integers(0, 10**6)


@settings(deadline=None)
@given(seeds, chunks, seeds, chunks)
def test_noise_is_a_function_of_seed_and_chunk_alone(seed, chunk, other_seed, other_chunk):
    shape = (3, 4, 2, 2)
    before = torch.get_rng_state()
    noise = chunk_noise(seed, chunk, shape)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    same = (seed, chunk) == (other_seed, other_chunk)
    assert torch.equal(noise, chunk_noise(other_seed, other_chunk, shape)) == same
    assert torch.equal(noise, chunk_noise(seed, chunk, shape))


def test_noise_is_standard_normal():
    noise = torch.stack(
        [chunk_noise(seed, chunk, (500,)) for seed in range(20) for chunk in (0, 1)]
    )
    assert noise.dtype == torch.float32
    assert noise.mean().abs() < 0.03 and (noise.std() - 1).abs() < 0.03
    assert torch.corrcoef(noise).fill_diagonal_(0).abs().max() < 0.25
