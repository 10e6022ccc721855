"""Training: clips line up, steps lower the loss, a stopped run goes on, weights ship."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sana_wm_gym.models.codec import GROUP, CodecConfig, PatchCodec
from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.state import detach
from sana_wm_gym.models.transformer import SanaWM, SanaWMConfig
from sana_wm_gym.training.config import TrainConfig
from sana_wm_gym.training.dataset import Episode, encode_walks, episodes, render_walk
from sana_wm_gym.training.export import export
from sana_wm_gym.training.fit_codec import encoded_pairs, fit_correction, fit_linear
from sana_wm_gym.training.initialise import initialise
from sana_wm_gym.training.objective import ObjectiveConfig, View, chunk_loss
from sana_wm_gym.training.optimizer import Optimizer, OptimizerConfig
from sana_wm_gym.training.run import WINDOW, Run
from sana_wm_gym.training.train import train
from sana_wm_gym.training.validation import chunk_psnr, held_out_clips, rollout_psnr
from sana_wm_gym.weights.world_file import read_world_file
from sana_wm_gym.world.procedural import ProceduralWorld
from sana_wm_gym.world.sana_world import world_of

SMALL = SanaWMConfig(
    latent_channels=8,
    width=32,
    depth=3,
    heads=2,
    softmax_every=3,
    mlp_ratio=1.0,
    text_channels=None,
    position_entries=0,
    unread_entries=False,
)
VIEW = View((32, 32), (4, 4), (25.6, 25.6, 16.0, 16.0))


@pytest.fixture(scope="module")
def codec() -> PatchCodec:
    return fit_linear(CodecConfig(channels=8, hidden=16, depth=1), (3,), 1, 96, 32)


def test_codec_keeps_what_its_channels_can(codec: PatchCodec) -> None:
    basis = codec.basis
    torch.testing.assert_close(basis.T @ basis, torch.eye(8), atol=1e-4, rtol=0)
    _, images = render_walk(3, 0, 96, 32)
    pixels = torch.from_numpy(images).float() / 255
    latents = codec.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
    decoded, _ = codec.decode(
        latents.movedim(0, 1)[None], codec.begin(codec.encode_image(pixels[:1]))
    )
    error = (decoded[0] - pixels[1:]).pow(2).mean()
    assert error < 0.3 * pixels[1:].var()


def test_correction_lowers_the_error(codec: PatchCodec) -> None:
    trained = PatchCodec(codec.config)
    trained.load_state_dict(codec.state_dict())
    lines: list[str] = []
    pairs = encoded_pairs(trained, (3,), 1, 96, 32)
    fit_correction(trained, pairs, 0.05, 0, lines.append)
    _, images = render_walk(3, 0, 96, 32)
    pixels = torch.from_numpy(images).float() / 255
    errors = []
    for each in (codec, trained):
        latents = each.encode_groups(pixels[1:].unflatten(0, (-1, GROUP)))
        with torch.no_grad():
            decoded, _ = each.decode(
                latents.movedim(0, 1)[None], each.begin(each.encode_image(pixels[:1]))
            )
        errors.append(float((decoded[0] - pixels[1:]).pow(2).mean()))
    assert errors[1] < errors[0]


def test_clips_line_up_with_frames_and_come_back(codec: PatchCodec, tmp_path: Path) -> None:
    data = encode_walks(tmp_path, codec, (3,), 2, range(5, 7), 32, 0.5)
    again = encode_walks(tmp_path, codec, (3,), 2, range(5, 7), 32, 0.5)
    assert torch.equal(data.latents, again.latents)
    assert data.latents.shape == (2, 7, 8, 4, 4)
    assert data.c2w.shape == (2, 49, 4, 4)
    poses, images = render_walk(3, 6, 48, 32, 0.5)
    pixels = torch.from_numpy(images).float() / 255
    np.testing.assert_array_equal(data.c2w[1, 0], np.eye(4))
    np.testing.assert_allclose(poses[0] @ data.c2w[1, 48].numpy(), poses[48], atol=1e-9)
    expected = codec.encode_groups(pixels[41:49][None])[0]
    torch.testing.assert_close(data.latents[1, 6].float(), expected, atol=0.02, rtol=0.01)
    torch.testing.assert_close(
        data.latents[1, 0].float(), codec.encode_image(pixels[:1])[0], atol=0.02, rtol=0.01
    )


def test_steps_lower_the_loss_on_one_episode(codec: PatchCodec, tmp_path: Path) -> None:
    data = encode_walks(tmp_path, codec, (3,), 2, range(2), 32, None)
    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
    episode = next(episodes([data], 4, (1.0,), rng))
    model = SanaWM(SMALL, EXACT)
    initialise(model, 0)
    optimizer = Optimizer(model, replace(OptimizerConfig(), warmup=1))
    plan, weights = ChunkPlan(window=WINDOW), torch.ones(8)
    means = []
    for step in range(30):
        state, losses = None, []
        for index in range(2):
            loss, _, state = chunk_loss(
                model,
                episode,
                index,
                state,
                plan,
                VIEW,
                weights,
                ObjectiveConfig(),
                0.5,
                rng,
                generator,
                False,
                last=index == 1,
            )
            losses.append(loss)
        torch.stack(losses).mean().backward()
        means.append(float(torch.stack(losses).mean().detach()))
        optimizer.step(step, 0.0)
        assert state is not None
        detach(state)
    assert np.mean(means[-5:]) < 0.8 * np.mean(means[:3])


def test_gradients_that_are_not_finite_change_nothing() -> None:
    model = SanaWM(SMALL, EXACT)
    initialise(model, 0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = Optimizer(model, OptimizerConfig())
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, float("nan"))
    optimizer.step(0, 0.0)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_run_stops_resumes_and_ships(tmp_path: Path) -> None:
    config = TrainConfig(
        folder=str(tmp_path),
        scenes=(3,),
        lengths=(4, 6),
        walks=(2, 1),
        length_weights=(0.5, 0.5),
        batch=1,
        streams=1,
        codec_minutes=0.01,
        hours=0.0005,
        save_minutes=0.0,
        validate_minutes=60.0,
        validation_clips=2,
    )
    train(config)
    first = Run(config, print)
    assert first.done > 0
    assert (tmp_path / "validation.csv").read_text().count("\n") == 2
    further = replace(config, hours=first.hours + 0.0003)
    train(further)
    assert Run(further, print).done > first.done

    export(tmp_path, tmp_path / "world.safetensors")
    world = world_of(read_world_file(tmp_path / "world.safetensors"))
    assert world.spec.scenes == (3,)
    assert world.spec.start_radius == config.start_radius
    assert world.frames(world.begin(world.sample_start(np.random.default_rng(0)), 0)).shape == (
        1,
        64,
        64,
        3,
    )

    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"checkpoint\.pt"):
        Run(config, print)


def test_the_true_world_scores_without_error() -> None:
    world = ProceduralWorld(size=(32, 32))
    clips = held_out_clips((3,), 2, 2, world.spec.intrinsics, (32, 32))
    score = rollout_psnr(world, clips, seed=0)
    assert (score.own > 100).all()
    assert (score.own > score.repeat + 50).all()
    assert (score.own > score.shuffled + 50).all()


def test_psnr_averages_errors_before_the_logarithm() -> None:
    truth = np.zeros((2, 25, 2, 2, 3), np.uint8)
    frames = truth.copy()
    frames[0] = 10
    expected = 10 * np.log10(255.0**2 / 50)
    np.testing.assert_allclose(chunk_psnr(frames, truth), [expected])


def test_a_config_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        TrainConfig(size=60)
    with pytest.raises(ValueError, match="lengths"):
        TrainConfig(lengths=(4,), length_weights=(0.5, 0.5))
    with pytest.raises(ValueError, match="walks"):
        TrainConfig(walks=(4, 0, 1))
    with pytest.raises(ValueError, match="batch"):
        TrainConfig(batch=0)


def test_an_episode_is_walked_through_in_chunks() -> None:
    latents = torch.arange(7.0)[None, :, None, None, None].expand(1, 7, 1, 1, 1)
    c2w = np.arange(49.0)[None, :, None, None] * np.ones((1, 1, 4, 4))
    episode = Episode(latents, c2w, 2)
    first, poses = episode.chunk(0)
    assert first.flatten().tolist() == [0, 1, 2, 3]
    assert poses[0, [0, -1], 0, 0].tolist() == [0, 24]
    second, poses = episode.chunk(1)
    assert second.flatten().tolist() == [4, 5, 6]
    assert poses[0, [0, -1], 0, 0].tolist() == [24, 48]
