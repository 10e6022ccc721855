"""Whole clips of the two generators that need the path in advance, refined or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from tiny_release import SIZE, OfflineStack, Stack, picture, write_offline_release

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.trajectory import CameraTrajectory, rollout
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.models.vae import to_uint8
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.world import catalogue
from sana_wm_gym.world.learned.sampler import chunk_noise
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offline import LAYOUTS, load_offline
from sana_wm_gym.world.released.streaming import assumed_intrinsics

BOTH = [Variant.BIDIRECTIONAL, Variant.CHUNK_CAUSAL]


@pytest.fixture(scope="module")
def stacks(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[Variant, OfflineStack]:
    found = {}
    for variant in BOTH:
        folder = tmp_path_factory.mktemp("offline")
        write_offline_release(folder, variant, stack.folder)
        found[variant] = OfflineStack(folder, stack.prompts, variant)
    return found


def forward(frames: int, step: float = 0.02) -> Controls:
    return replace(Controls.still(frames), forward=np.full(frames, step))


def path(poses: int, step: float = 0.02) -> CameraTrajectory:
    c2w = rollout(forward(poses - 1, step))
    return CameraTrajectory(c2w, np.array(assumed_intrinsics(*SIZE)), *SIZE[::-1])


@pytest.mark.parametrize("variant", BOTH)
def test_whole_clips_along_a_trajectory(
    stacks: dict[Variant, OfflineStack], variant: Variant
) -> None:
    generator = stacks[variant].load()
    assert generator.group == (8 if variant is Variant.BIDIRECTIONAL else 24)
    image = picture(*SIZE)
    clip = generator.generate(image, path(49), "a room")
    assert clip.shape == (49, *SIZE, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, generator.generate(image, path(49), "a room"))
    for other in (
        generator.generate(image, path(49, 0.05), "a room"),
        generator.generate(image, path(49), "two doors"),
        generator.generate(image, path(49), "a room", negative_prompt="two doors"),
        generator.generate(image, path(49), "a room", seed=1),
    ):
        assert not np.array_equal(clip, other)
    with pytest.raises(ValueError, match=f"given 26 poses; expected {generator.group} k"):
        generator.generate(image, path(26), "a room")
    with pytest.raises(ValueError, match="expected uint8"):
        generator.generate(image[1:], path(49), "a room")


def test_the_streaming_generator_makes_no_whole_clips(
    stacks: dict[Variant, OfflineStack],
) -> None:
    files = LAYOUTS[Variant.BIDIRECTIONAL].within(stacks[Variant.BIDIRECTIONAL].folder)
    with pytest.raises(ValueError, match=r"whole clips are made by the other two"):
        load_offline(files, Variant.STREAMING)


def test_a_refined_clip_is_the_refiner_over_all_latents(
    stacks: dict[Variant, OfflineStack],
) -> None:
    """The stage in the pipeline is `Refiner.refine` of the plain latents, and leaves frame 0."""
    plain, refined = (
        stacks[Variant.BIDIRECTIONAL].load(refined=value, dtype=torch.float32)
        for value in (False, True)
    )
    arguments = (picture(*SIZE), path(25), "a room")
    bare, full = plain.clip(*arguments, seed=3), refined.clip(*arguments, seed=3)
    assert plain.name == "sana-wm-bidirectional" and refined.name == f"{plain.name}-refined"
    assert bare.latents.shape == full.latents.shape == (4, 8, 2, 3)
    assert np.array_equal(bare.latents[0], full.latents[0])
    assert not np.allclose(bare.latents[1:], full.latents[1:], atol=0.05)

    stage = refined.second_stage
    assert stage is not None and stage.refiner.plan.block is None
    latents = torch.from_numpy(bare.latents).movedim(0, 1)[None]
    noise = chunk_noise(3, -1, (8, 3, 2, 3))[None]
    with torch.inference_mode():
        expected = stage.refiner.refine(latents, noise, stage.caption("a room"))
        frames = to_uint8(refined.vae.decode_clip(expected))[0].numpy()
    assert np.allclose(full.latents, expected[0].movedim(1, 0).numpy(), atol=1e-5)
    assert np.abs(frames.astype(int) - full.frames).max() <= 1


def test_no_second_stage(stacks: dict[Variant, OfflineStack], tmp_path: Path) -> None:
    one = stacks[Variant.BIDIRECTIONAL]
    for name in ("dit", "vae", "config.yaml", "gemma-2-2b-it"):
        (tmp_path / name).symlink_to(one.folder / name)
    with pytest.raises(FileNotFoundError, match="expected the refiner and its text encoder"):
        OfflineStack(tmp_path, one.prompts, one.variant).load(refined=True)


@pytest.mark.parametrize("variant", BOTH)
def test_a_replayed_clip_in_an_environment(
    stacks: dict[Variant, OfflineStack], variant: Variant, tmp_path: Path
) -> None:
    """Two chunks through the environment are the clip, also across a snapshot file."""
    generator = stacks[variant].load()
    world = generator.replay(rollout(forward(48)), SIZE)
    env = SanaWMEnv(
        world,
        image=picture(),
        prompt="a room",
        observation=("frames", "latent"),
        max_episode_steps=world.chunks,
    )
    env.reset(seed=1)
    first, *_ = env.step_controls(forward(24))
    env.snapshot().save(tmp_path / "half.safetensors", world)
    second, _, _, truncated, _ = env.step_controls(forward(24))
    assert truncated
    state = env.snapshot().episode.world
    clip = generator.clip(state.image, state.cameras, "a room", seed=noise_seed(1))
    shown = np.concatenate([first["frames"], second["frames"]])
    assert np.array_equal(shown, clip.frames[1:])
    assert np.array_equal(second["latent"], clip.latents[-1].ravel())

    again = SanaWMEnv(world, observation=("frames", "latent"), max_episode_steps=world.chunks)
    again.restore(Snapshot.load(tmp_path / "half.safetensors", world))
    with pytest.raises(ValueError, match=r"leaves the plan at frame 25, 0.04 m"):
        again.step_controls(forward(24, 0.06))
    repeated, *_ = again.step_controls(forward(24))  # the refused step changed nothing
    assert np.array_equal(repeated["frames"], second["frames"])


def noise_seed(seed: int) -> int:
    """What the environment hands to `begin` as the first draw after a seed."""
    import gymnasium as gym

    return int(gym.utils.seeding.np_random(seed)[0].integers(2**31))


def test_generators_by_name(
    stacks: dict[Variant, OfflineStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sana_wm_gym.weights.fetch.default_cache", lambda: tmp_path)
    for variant, layout in LAYOUTS.items():
        monkeypatch.delenv(layout.variable, raising=False)
        with pytest.raises(FileNotFoundError, match=f"weights fetch {layout.release}`, or set"):
            catalogue.load_clip_generator(layout.release)
        monkeypatch.setenv(layout.variable, str(stacks[variant].folder))
        assert layout.here() == layout.within(stacks[variant].folder)
    with pytest.raises(ValueError, match=r"load_clip_generator\('sana-wm-chunk-causal'\)\.replay"):
        catalogue.load_world("sana-wm-chunk-causal")
    with pytest.raises(ValueError, match="expected one of sana-wm-bidirectional, sana-wm-bidir"):
        catalogue.load_clip_generator("tiny")

    def small(files: object, variant: Variant, loading: Loading) -> object:
        return (files, variant, loading.refined)

    monkeypatch.setattr("sana_wm_gym.world.released.offline.load_offline", small)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    for name in catalogue.CLIP_GENERATORS:
        found: object = catalogue.load_clip_generator(name)
        assert found == catalogue.load_clip_generator(name)
        variant = Variant.CHUNK_CAUSAL if "chunk-causal" in name else Variant.BIDIRECTIONAL
        assert found == (LAYOUTS[variant].here(), variant, name.endswith("-refined"))
