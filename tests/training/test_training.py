"""Training: clips line up, steps lower the loss, a run that was killed resumes, weights ship."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_run import CODEC, FREQUENCIES, NETWORK, SURFACES, small

from sana_wm_gym.models.codec import GROUP, PatchCodec
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import detach, named_tensors
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training import dataset
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.dataset import EncodedWalks, WalkEncoder, episodes
from sana_wm_gym.training.fit_codec import (
    CodecFit,
    encoded_pairs,
    fit_correction,
    fit_linear,
    walk_videos,
)
from sana_wm_gym.training.initialise import initialise
from sana_wm_gym.training.objective import Objective, ObjectiveConfig, View, WalkBatch
from sana_wm_gym.training.optimizer import Optimizer, OptimizerConfig
from sana_wm_gym.training.run import WINDOW
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.sampler import CleanPrediction, self_forcing
from sana_wm_gym.world.learned.schedule import self_forcing as schedule_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.renderer import render
from sana_wm_gym.world.procedural.walks import draw_walk

SMALL = replace(NETWORK, latent_channels=8, plucker_channels=144)
VIEW = View((32, 32), (4, 4), (25.6, 25.6, 16.0, 16.0), FREQUENCIES, SurfaceCaptions(()))


@pytest.fixture(scope="module")
def videos() -> list[torch.Tensor]:
    return walk_videos((3,), 1, 96, 32)


@pytest.fixture(scope="module")
def codec(videos: list[torch.Tensor]) -> PatchCodec:
    return fit_linear(CODEC, videos)


def reconstruction(codec: PatchCodec, pixels: torch.Tensor) -> torch.Tensor:
    """Frames in [0, 1], encoded and decoded, without the first."""
    latents = codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
    first = codec.begin(codec.encode_image(pixels[:1]))
    return codec.decode(latents.movedim(0, 1)[None], first)[0][0]


def encoder(
    folder: Path, codec: PatchCodec, localiser: Localiser | None = None, **options: Any
) -> WalkEncoder:
    return WalkEncoder(small(folder, start_radius=0.5), codec, localiser, **options)


def rendered_walk(index: int, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Poses and frames of a training walk of `small`."""
    scene, poses = draw_walk(3, index, frames, 0.5)
    return poses, render(scene, poses, size=(32, 32))


# The codec


@torch.no_grad()
def test_codec_keeps_what_its_channels_can(codec: PatchCodec, videos: list[torch.Tensor]) -> None:
    torch.testing.assert_close(codec.basis.T @ codec.basis, torch.eye(8), atol=1e-4, rtol=0)
    pixels = videos[0].float() / 255
    error = (reconstruction(codec, pixels) - pixels[1:]).pow(2).mean()
    assert error < 0.3 * pixels[1:].var()


def test_correction_lowers_the_error(codec: PatchCodec, videos: list[torch.Tensor]) -> None:
    trained = PatchCodec(codec.config)
    trained.load_state_dict(codec.state_dict())
    lines: list[str] = []
    fit_correction(
        trained, encoded_pairs(trained, videos), CodecFit(steps=250, batch=8), lines.append
    )
    assert len(lines) == 1
    pixels = videos[0].float() / 255
    with torch.no_grad():
        before, after = (
            (reconstruction(each, pixels) - pixels[1:]).pow(2).mean() for each in (codec, trained)
        )
    assert after < before
    assert torch.equal(trained.basis, codec.basis)


# Clips


def test_clips_line_up_with_frames(codec: PatchCodec, tmp_path: Path) -> None:
    data = encoder(tmp_path, codec)(2, 2)
    assert data.latents.shape == (2, 7, 8, 4, 4)
    assert data.c2w.shape == (2, 49, 4, 4)
    assert data.appearance.shape == (2, 0)
    poses, images = rendered_walk(2_000_001, 48)
    pixels = torch.from_numpy(images).float() / 255
    np.testing.assert_array_equal(data.c2w[1, 0], np.eye(4))
    np.testing.assert_array_equal(data.first[1], poses[0])
    np.testing.assert_allclose(poses[0] @ data.c2w[1, 48].numpy(), poses[48], atol=1e-9)
    assert torch.equal(data.estimated, data.first)
    expected = codec.encode_groups(pixels[41:49][None])[0]
    torch.testing.assert_close(data.latents[1, 6].float(), expected, atol=0.02, rtol=0.01)
    torch.testing.assert_close(
        data.latents[1, 0].float(), codec.encode_image(pixels[:1])[0], atol=0.02, rtol=0.01
    )


def test_clips_come_back_from_files_or_anew(
    codec: PatchCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def track(shards: list[range]) -> Iterable[range]:
        made.append(len(shards))
        return shards

    whole = encoder(tmp_path / "whole", codec, track=track)
    data = whole(2, 3)
    assert torch.equal(whole(2, 3).latents, data.latents)
    monkeypatch.setattr(dataset, "SHARD", 2)
    assert torch.equal(encoder(tmp_path / "cut", codec, track=track)(2, 3).latents, data.latents)
    assert made == [1, 0, 2]
    names = [path.name for path in (tmp_path / "cut" / "walks").iterdir()]
    assert sorted(names) == ["scene_3_2_0_2", "scene_3_2_2_3"]


def test_a_localiser_places_walks_too(codec: PatchCodec, tmp_path: Path) -> None:
    localiser = Localiser(LocaliserConfig(size=32)).eval()
    data = encoder(tmp_path, codec, localiser=localiser)(1, 2)
    for index in range(2):
        poses, images = rendered_walk(1_000_000 + index, 24)
        np.testing.assert_array_equal(data.first[index], poses[0])
        found = localiser(torch.from_numpy(images[:1]).movedim(-1, 1))
        assert torch.equal(data.estimated[index], found.c2w[0])
        assert not torch.equal(data.estimated[index], data.first[index])


def test_walks_draw_appearances_of_their_own() -> None:
    drawn, again = (
        [draw_walk(COURTYARD, index, 1)[0].appearance for index in range(4)] for _ in range(2)
    )
    assert len(set(drawn)) > 1 and drawn == again


def walks(count: int = 64, surfaces: int = 3) -> EncodedWalks:
    """Encoded walks whose anchors say which is which."""
    c2w = torch.eye(4, dtype=torch.float64).expand(count, 25, 4, 4).clone()
    c2w[:, :, 2, 3] = torch.arange(25.0)
    first, estimated = torch.eye(4).double(), torch.eye(4).double()
    first[0, 3], estimated[0, 3] = 1, 2
    return EncodedWalks(
        torch.zeros(count, 4, 1, 1, 1).half(),
        c2w,
        first.expand(count, 4, 4),
        estimated.expand(count, 4, 4),
        torch.ones(count, surfaces, dtype=torch.int64),
    )


def drawing(batch: int, **changes: Any) -> TrainConfig:
    """How episodes of one length are drawn, with exact anchors and whole prompts."""
    exact = {"estimated_anchors": 0.0, "word_dropout": 0.0, "prompt_dropout": 0.0}
    one = {"batch": batch, "lengths": (1,), "walks": (1,), "length_weights": (1.0,)}
    return replace(TrainConfig(), **(one | exact | changes))


@pytest.mark.parametrize(
    ("estimated", "places"), [(0.0, {1.0}), (1.0, {2.0}), (0.5, {1.0, 2.0})], ids=str
)
def test_episodes_are_placed_exactly_or_by_the_localiser(
    estimated: float, places: set[float]
) -> None:
    config = drawing(64, estimated_anchors=estimated)
    episode = next(episodes([walks()], config, np.random.default_rng(0)))
    assert set(episode.c2w[:, :, 0, 3].flatten().tolist()) == places
    assert episode.c2w[0, :, 2, 3].tolist() == list(range(25))
    assert (episode.c2w[:, 0, 0, 3] == episode.c2w[:, -1, 0, 3]).all()


def test_words_and_prompts_are_dropped_at_random() -> None:
    data, config = walks(), drawing(512, word_dropout=0.2, prompt_dropout=0.1)
    given = next(episodes([data], config, np.random.default_rng(0))).appearance
    assert set(given.flatten().tolist()) == {-1, 1}
    silent = (given == -1).all(axis=1)
    assert 0.05 < silent.mean() < 0.16  # a tenth, and those that lose all their words
    assert 0.15 < (given[~silent] == -1).mean() < 0.25
    assert (data.appearance == 1).all()
    for words, prompts in ((1.0, 0.0), (0.0, 1.0)):
        config = drawing(8, word_dropout=words, prompt_dropout=prompts)
        assert (next(episodes([data], config, np.random.default_rng(0))).appearance == -1).all()


def test_an_episode_is_walked_through_in_chunks() -> None:
    latents = torch.arange(7.0)[None, :, None, None, None].expand(1, 7, 1, 1, 1)
    c2w = np.arange(49.0)[None, :, None, None] * np.ones((1, 1, 4, 4))
    episode = WalkBatch(latents, c2w, np.zeros((1, 0), np.int64), 2)
    first, poses = episode.chunk(0)
    assert first.flatten().tolist() == [0, 1, 2, 3]
    assert poses[0, [0, -1], 0, 0].tolist() == [0, 24]
    second, poses = episode.chunk(1)
    assert second.flatten().tolist() == [4, 5, 6]
    assert poses[0, [0, -1], 0, 0].tolist() == [24, 48]


# The objective


def objective(view: View = VIEW, **changes: Any) -> Objective:
    config = ObjectiveConfig(**changes)
    return Objective(config, view, torch.ones(8), ChunkPlan(window=WINDOW), autocast=False)


def test_steps_lower_the_loss_on_one_episode(codec: PatchCodec, tmp_path: Path) -> None:
    data = encoder(tmp_path, codec)(2, 2)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    episode = next(episodes([data], drawing(4), rng))
    model = initial_network()
    optimizer, loss_of = Optimizer(model, OptimizerConfig(warmup=1)), objective()
    means = []
    for step in range(30):
        state, losses = None, []
        for index in range(2):
            loss, _, state = loss_of(model, episode, index, state, rng, generator)
            losses.append(loss)
        torch.stack(losses).mean().backward()
        means.append(float(torch.stack(losses).mean().detach()))
        optimizer.step(step, 30)
        assert state is not None
        detach(state)
    assert np.mean(means[-5:]) < 0.8 * np.mean(means[:3])


def initial_network(**changes: Any) -> SanaWM:
    model = SanaWM(replace(SMALL, **changes), EXACT)
    initialise(model, 0)
    return model


def random_network(**changes: Any) -> SanaWM:
    model = initial_network(**changes)
    with torch.no_grad():
        model.final_layer.linear.weight.normal_(generator=torch.Generator().manual_seed(1))
        for block in model.blocks:
            if block.cross_attn is not None:  # zero at the start of training
                block.cross_attn.proj.weight.normal_(
                    std=0.1, generator=torch.Generator().manual_seed(3)
                )
    return model


def random_episode(surfaces: int = 0) -> WalkBatch:
    random = torch.Generator().manual_seed(2)
    c2w = np.tile(np.eye(4), (2, 49, 1, 1))
    c2w[:, :, 2, 3] = 0.02 * np.arange(49)
    latents = torch.randn(2, 7, 8, 4, 4, generator=random)
    return WalkBatch(latents, c2w, np.ones((2, surfaces), np.int64), 2)


@torch.no_grad()
def test_training_meets_the_states_that_a_rollout_meets() -> None:
    """From pure noise, chunk by chunk: the same calls of the network, the same states."""
    model, episode, loss_of = random_network(), random_episode(), objective()
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    trained, rolled, repeated = None, None, torch.Generator().manual_seed(0)
    for index in range(2):
        _, _, trained = loss_of(model, episode, index, trained, rng, generator)
        latents, c2w = episode.chunk(index)
        intrinsics = np.broadcast_to(np.array(VIEW.intrinsics), (2, 25, 4))
        _, rolled = self_forcing(
            CleanPrediction(model),
            torch.randn(latents.shape, generator=repeated),
            latents[:, :, 0] if index == 0 else None,
            chunk_conditioning(c2w, intrinsics, (32, 32), (4, 4), index == 0, FREQUENCIES),
            ChunkPlan(window=WINDOW),
            rolled,
            schedule_of((1000, 0)),
            clean_pass=False,
        )
        a, b = named_tensors(trained), named_tensors(rolled)
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@torch.no_grad()
def test_the_loss_knows_the_appearance() -> None:
    captions = SurfaceCaptions(SURFACES)
    view = replace(VIEW, captions=captions)
    model = random_network(text_channels=captions.channels, text_tokens=captions.tokens)
    loss_of, episode = objective(view), random_episode(2)

    def loss(appearance: list[int]) -> float:
        given = replace(episode, appearance=np.array([appearance] * 2))
        generator = torch.Generator().manual_seed(0)
        return float(loss_of(model, given, 0, None, np.random.default_rng(0), generator)[0])

    assert len({loss([0, 0]), loss([1, 0]), loss([1, 2]), loss([-1, 2]), loss([-1, -1])}) == 5


@torch.no_grad()
def test_noise_levels_are_drawn_as_configured() -> None:
    model, episode, losses = random_network(), random_episode(), set()
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        loss_of = objective(sigmas=(1.0, 0.5), weights=weights)
        rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
        losses.add(float(loss_of(model, episode, 1, None, rng, generator)[0]))
    assert len(losses) == 2


# Optimizers


def test_gradients_that_are_not_finite_change_nothing() -> None:
    model = initial_network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = Optimizer(model, OptimizerConfig())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.step(0, 1)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_rates_rise_stay_and_fall() -> None:
    model = SanaWM(SMALL, EXACT)
    constant = Optimizer(model, OptimizerConfig(warmup=4))
    assert [constant.rate(step, 10) for step in range(10)] == [0.25, 0.5, 0.75] + 7 * [1.0]
    falling = Optimizer(model, OptimizerConfig(warmup=1, decay=5))
    assert [falling.rate(step, 10) for step in range(4, 11)] == [1.0, 1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
