"""The localiser: accuracy of a fit, and properties of its estimates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from sana_wm_gym.evaluation.foreign_pictures import TRAINING_SCENES, foreign_frames
from sana_wm_gym.evaluation.localiser_scores import (
    bounds_kept,
    localise,
    localiser_report,
    pose_errors,
)
from sana_wm_gym.models.localiser import Localiser, LocaliserConfig
from sana_wm_gym.training.fit_localiser import (
    LocaliserFit,
    LocaliserProgress,
    fit_localiser,
    localiser_frames,
)
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.scenes import generate_scene

SIZE = 32
NETWORK = LocaliserConfig(size=SIZE, channels=(16, 24, 32, 48), depth=(0, 0, 1, 1), hidden=48)
FIT = LocaliserFit(
    300, 32, 16, warmup=10, ema=0.95, held_out=64, false_alarms=0.05, report_every=150
)


@pytest.fixture(scope="module")
def data():
    frames, poses = localiser_frames(generate_scene(8), 900, np.random.default_rng(0), SIZE)
    return frames, poses, foreign_frames(TRAINING_SCENES[:40], 2, np.random.default_rng(1), SIZE)


@pytest.fixture(scope="module")
def fitted(data):
    frames, poses, foreign = data
    progress: list[LocaliserProgress] = []
    localiser = fit_localiser(
        frames, poses, FIT, network=NETWORK, foreign=foreign, report=progress.append
    )
    return localiser, progress


@pytest.fixture(scope="module")
def held_out():
    return localiser_frames(generate_scene(8), 120, np.random.default_rng(2), SIZE)


def test_a_fit_beats_the_mean_pose_by_far(fitted, held_out):
    frames, poses = held_out
    metres, degrees = pose_errors(localise(fitted[0], frames).c2w.numpy(), poses)
    mean = np.linalg.norm(poses[:, :3, 3] - poses[:, :3, 3].mean(axis=0), axis=1)
    # A heading drawn at random is off by 90 degrees at the median.
    assert np.median(degrees) < 20
    assert np.median(metres) < 0.5 * np.median(mean)


def test_progress_is_reported_and_falls(fitted):
    progress = fitted[1]
    assert [one.step for one in progress] == [150, 300]
    assert progress[1].loss < progress[0].loss
    first, last = (one.errors for one in progress)
    assert last.degrees < first.degrees <= first.degrees_p95


def test_a_fit_is_a_function_of_its_seed_and_leaves_the_global_random_state_alone(data):
    frames, poses, foreign = data
    short, before = LocaliserFit(steps=4, batch=8, negatives=6, seed=3), torch.get_rng_state()
    weights = []
    for _ in range(2):
        fitted = fit_localiser(frames, poses, short, network=NETWORK, foreign=foreign)
        weights.append(fitted.state_dict())
        assert torch.equal(before, torch.get_rng_state())
        torch.rand(1)
        before = torch.get_rng_state()
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())


def test_a_frame_alone_and_in_a_batch_have_the_same_bytes(fitted, held_out):
    localiser, frames = fitted[0], held_out[0][:7]
    batch = localise(localiser, frames)
    for index in range(len(frames)):
        alone = localise(localiser, frames[index : index + 1])
        assert torch.equal(alone.c2w[0], batch.c2w[index])
        assert torch.equal(alone.confidence[0], batch.confidence[index])


def test_bytes_and_floats_mean_the_same(fitted, held_out):
    pixels = torch.from_numpy(held_out[0][:3]).movedim(-1, 1)
    first, second = fitted[0](pixels), fitted[0](pixels.float() / 255)
    assert torch.equal(first.c2w, second.c2w)


def test_poses_are_rigid_whatever_the_picture(fitted):
    noise = torch.randint(0, 256, (5, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    found = fitted[0](noise.to(torch.uint8))
    rotation = found.c2w[:, :3, :3]
    eye = torch.eye(3, dtype=torch.float64).expand_as(rotation)
    torch.testing.assert_close(rotation.mT @ rotation, eye, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(5, dtype=torch.float64))
    assert torch.equal(found.c2w[:, 3], torch.tensor([0.0, 0, 0, 1]).double().expand(5, 4))
    assert ((found.confidence >= 0) & (found.confidence <= 1)).all()


def test_half_precision_weights_change_little(fitted, held_out):
    frames = held_out[0]
    exact = fitted[0]
    halved = Localiser(NETWORK)
    halved.load_state_dict({name: v.half().float() for name, v in exact.state_dict().items()})
    first, second = (localise(one.eval(), frames) for one in (exact, halved))
    metres, degrees = pose_errors(second.c2w.numpy(), first.c2w.numpy())
    assert metres.max() < 0.03 and degrees.max() < 1.0
    assert (first.confidence - second.confidence).abs().max() < 0.05


def test_confidence_separates_the_map_from_other_scenes(fitted, held_out):
    localiser = fitted[0]
    own = localise(localiser, held_out[0]).confidence.numpy()
    scenes = range(20, 60)
    other = foreign_frames(scenes, 1, np.random.default_rng(5), SIZE)
    foreign = localise(localiser, other).confidence.numpy()
    better = (own[:, None] > foreign).mean()  # area under the ROC curve
    assert better > 0.8
    assert (own < 0.5).mean() < 0.15


def test_general_rotations_are_learned(data):
    # Clips need not be upright: the same frames in axes turned any way.
    frames, poses, _ = data
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    turned = poses.copy()
    turned[:, :3] = turn @ poses[:, :3] + np.array([0, 0, 0, 10.0])
    localiser = fit_localiser(frames, turned, replace(FIT, steps=120), network=NETWORK)
    _, degrees = pose_errors(localise(localiser, frames[:200]).c2w.numpy(), turned[:200])
    assert np.median(degrees) < 40


def test_a_report_covers_all_starts_and_200_pictures(fitted):
    report = localiser_report(fitted[0], generate_scene(8), starts=100)
    assert report["overall"]["count"] == 100
    assert sum(row["count"] for row in report["by_distance"]) == 100
    assert sum(row["count"] for row in report["by_heading"]) == 100
    *kinds, everything = report["recognition"]
    assert everything["count"] == sum(row["count"] for row in kinds)
    assert everything["count"] == 200 or report["missing"]
    assert 0.5 < everything["at_false_alarms"] <= 1
    assert bounds_kept(report).keys() >= {"metres", "degrees", "recognised"}


def test_frames_of_a_varying_scene_differ_in_appearance():
    scene = generate_scene(COURTYARD)
    frames, poses = localiser_frames(scene, 6, np.random.default_rng(0), SIZE)
    assert frames.shape == (6, SIZE, SIZE, 3) and frames.dtype == np.uint8
    assert poses.shape == (6, 4, 4)
    again = localiser_frames(scene, 6, np.random.default_rng(0), SIZE)
    assert np.array_equal(frames, again[0]) and np.array_equal(poses, again[1])


@pytest.mark.parametrize("shape", [(3, SIZE, SIZE), (1, SIZE, SIZE, 3), (1, 3, SIZE, SIZE + 1)])
def test_frames_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"given frames .*expected \[b, 3, 32, 32\]"):
        Localiser(NETWORK)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, p: fit_localiser(f.astype(float), p), "given frames float64 .*expected uint8"),
        (
            lambda f, p: fit_localiser(f, p[:-1]),
            r"given poses \[899, 4, 4\]; expected \[900, 4, 4\]",
        ),
        (lambda f, p: fit_localiser(f, p, foreign=f[:, :16, :16]), "given foreign"),
        (
            lambda f, p: fit_localiser(f, p, network=LocaliserConfig(64)),
            "of 32 pixels; expected 64",
        ),
        (lambda f, p: fit_localiser(f[:5], p[:5]), "given 5 frames; expected at least 20"),
        (lambda f, p: LocaliserConfig(40), "given size 40; expected a positive multiple of 16"),
        (lambda f, p: LocaliserConfig(channels=(8, 8, 8)), "expected four of each"),
    ],
)
def test_shapes_that_do_not_fit(data, call, message):
    with pytest.raises(ValueError, match=message):
        call(*data[:2])
