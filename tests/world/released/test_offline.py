"""Whole clips of the two generators that need the path in advance, refined or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils.seeding import np_random

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from tiny_release import SIZE, Stack, picture, write_offline_release

from sana_wm_gym.camera.controls import Controls
from sana_wm_gym.camera.trajectory import CameraTrajectory, rollout
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.models.vae import to_uint8
from sana_wm_gym.world import catalogue
from sana_wm_gym.world.learned.sampler import chunk_noise
from sana_wm_gym.world.released.files import BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING, Layout
from sana_wm_gym.world.released.loading import Loading
from sana_wm_gym.world.released.offline import load_offline
from sana_wm_gym.world.released.streaming import assumed_intrinsics

BOTH = [BIDIRECTIONAL, CHUNK_CAUSAL]
Stacks = dict[Layout, Stack]
both = pytest.mark.parametrize("layout", BOTH, ids=lambda layout: layout.release)


@pytest.fixture(scope="module")
def stacks(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stacks:
    found = {}
    for layout in BOTH:
        folder = tmp_path_factory.mktemp("offline")
        write_offline_release(folder, layout, stack.folder)
        found[layout] = Stack(folder, stack.prompts, layout)
    return found


def forward(frames: int, step: float = 0.02) -> Controls:
    return replace(Controls.still(frames), forward=np.full(frames, step))


def path(poses: int, step: float = 0.02) -> CameraTrajectory:
    c2w = rollout(forward(poses - 1, step))
    return CameraTrajectory(c2w, np.array(assumed_intrinsics(*SIZE)), *SIZE[::-1])


@both
def test_whole_clips_along_a_trajectory(stacks: Stacks, layout: Layout) -> None:
    generator = stacks[layout].load()
    assert generator.group == (8 if layout is BIDIRECTIONAL else 24)
    image = picture(*SIZE)

    def frames(step: float = 0.02, prompt: str = "a room", **changes: Any) -> np.ndarray:
        return generator.clip(image, path(49, step), prompt, **changes).frames

    clip = frames()
    assert clip.shape == (49, *SIZE, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, frames())
    for change in (
        {"step": 0.05},
        {"prompt": "two doors"},
        {"negative_prompt": "two"},
        {"seed": 1},
    ):
        assert not np.array_equal(clip, frames(**change))
    with pytest.raises(ValueError, match=f"given 26 poses; expected {generator.group} k"):
        generator.clip(image, path(26), "a room")
    with pytest.raises(ValueError, match="expected uint8"):
        generator.clip(image[1:], path(49), "a room")


def test_the_streaming_generator_makes_no_whole_clips(stack: Stack) -> None:
    with pytest.raises(ValueError, match="given the streaming variant; the other two make whole"):
        load_offline(STREAMING.within(stack.folder))


def test_a_refined_clip_is_the_refiner_over_all_latents(stacks: Stacks) -> None:
    """The stage in the pipeline is `Refiner.refine` of the plain latents, and leaves frame 0."""
    plain, refined = (
        stacks[BIDIRECTIONAL].load(refined=value, dtype=torch.float32) for value in (False, True)
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


def test_no_second_stage(stacks: Stacks, tmp_path: Path) -> None:
    one = stacks[BIDIRECTIONAL]
    for name in ("dit", "vae", "config.yaml", "gemma-2-2b-it"):
        (tmp_path / name).symlink_to(one.folder / name)
    with pytest.raises(FileNotFoundError, match="expected the refiner and its text encoder"):
        Stack(tmp_path, one.prompts, one.layout).load(refined=True)


@both
def test_a_replayed_clip_in_an_environment(stacks: Stacks, layout: Layout, tmp_path: Path) -> None:
    """Two chunks through the environment are the clip, also across a snapshot file."""
    generator = stacks[layout].load()
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
    """The seed that the environment passes to `begin`: its first draw after a reset's seed."""
    return int(np_random(seed)[0].integers(2**31))


def test_generators_by_name(
    stacks: Stacks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sana_wm_gym.weights.fetch.default_cache", lambda: tmp_path)
    for layout in BOTH:
        monkeypatch.delenv(layout.variable, raising=False)
        with pytest.raises(FileNotFoundError, match=f"weights fetch {layout.release}`, or set"):
            catalogue.load_clip_generator(layout.release)
        monkeypatch.setenv(layout.variable, str(stacks[layout].folder))
        assert layout.here() == layout.within(stacks[layout].folder)
    with pytest.raises(ValueError, match=r"load_clip_generator\('sana-wm-chunk-causal'\)\.replay"):
        catalogue.load_world("sana-wm-chunk-causal")
    with pytest.raises(ValueError, match="expected one of sana-wm-bidirectional, sana-wm-bidir"):
        catalogue.load_clip_generator("tiny")

    def small(files: object, loading: Loading) -> object:
        return files, loading.refined

    monkeypatch.setattr("sana_wm_gym.world.released.offline.load_offline", small)
    monkeypatch.setattr(catalogue, "_LOADED", {})
    for name in catalogue.CLIP_GENERATORS:
        found: object = catalogue.load_clip_generator(name)
        assert found == catalogue.load_clip_generator(name)
        layout = CHUNK_CAUSAL if "chunk-causal" in name else BIDIRECTIONAL
        assert found == (layout.here(), name.endswith("-refined"))
