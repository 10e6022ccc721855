"""The released streaming world, of real library classes at tiny size with random weights.

Text to first frame to six chunks to pixels to mp4, by the files and the environment alone.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("transformers")
pytest.importorskip("diffusers", minversion="0.42")

from stepping import frames_of, latents_of
from tiny_release import CONFIG, SIZE, Stack, picture

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMEnv
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.models.text import Prompt, PromptEmbedding
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.video import probe
from sana_wm_gym.weights.prompt_cache import PromptKey, write_embedding
from sana_wm_gym.world import catalogue
from sana_wm_gym.world.released.files import STREAMING
from sana_wm_gym.world.released.streaming import StreamingWorld, assumed_intrinsics
from sana_wm_gym.world.world_model import Start


@pytest.fixture(scope="module")
def world(stack: Stack) -> StreamingWorld:
    return stack.load()


def environment(world: StreamingWorld, **changes: Any) -> SanaWMEnv:
    arguments = {"image": picture(), "prompt": "a room", "observation": ("frames", "latent")}
    return SanaWMEnv(world, **{**arguments, **changes})


def drive(env: SanaWMEnv, chunks: range) -> list[np.ndarray]:
    """Step with actions that depend on the chunk; the observations, one after another."""
    seen = []
    for chunk in chunks:
        action = np.random.default_rng(chunk).uniform(-1, 1, 5).astype(np.float32)
        observation = env.step(action)[0]
        seen += [observation["frames"], observation["latent"]]
    return seen


@pytest.mark.parametrize("refined", [False, True], ids=["generator", "refined"])
def test_text_to_video_and_a_restored_half_of_it(
    stack: Stack, tmp_path: Path, refined: bool
) -> None:
    Image.fromarray(picture()).save(tmp_path / "room.png")
    env = environment(
        stack.load(refined=refined),
        image=tmp_path / "room.png",
        max_episode_steps=6,
        render_mode="rgb_array_list",
    )
    recorder: Any = ChunkVideoRecorder(env, tmp_path / "video")
    recorder.reset(seed=1)
    whole = drive(recorder, range(3))
    env.snapshot().save(tmp_path / "half.safetensors", env.world)
    whole += drive(recorder, range(3, 6))
    assert whole[0].shape == (24, *SIZE, 3)
    assert all(array.std() > 0 and np.isfinite(array).all() for array in whole)
    assert len({array.tobytes() for array in whole}) == len(whole)

    [mp4] = (tmp_path / "video").iterdir()
    video = probe(mp4)
    assert video.frames == 1 + 6 * 24 and video.rate == 16

    again = environment(stack.load(refined=refined))  # other copies of the weights
    again.restore(Snapshot.load(tmp_path / "half.safetensors", again.world))
    rest = drive(again, range(3, 6))
    assert all(np.array_equal(a, b) for a, b in zip(rest, whole[6:], strict=True))


def test_the_second_stage_changes_what_is_shown_alone(stack: Stack) -> None:
    states = []
    for refined in (False, True):
        env = environment(stack.load(refined=refined))
        env.reset(seed=1)
        drive(env, range(2))
        states.append((env.world, env.snapshot().episode.world))
    (plain, bare), (both, refined_state) = states
    assert not np.array_equal(latents_of(plain, bare), latents_of(both, refined_state))
    assert not np.array_equal(frames_of(plain, bare), frames_of(both, refined_state))
    memories = [named_tensors(state.generator) for _, state in states]
    assert all(torch.equal(tensor, memories[1][name]) for name, tensor in memories[0].items())
    with pytest.raises(ValueError, match="without a refiner's past"):
        both.unpack(plain.pack(bare))
    with pytest.raises(ValueError, match="with a refiner's past"):
        plain.unpack(both.pack(refined_state))


def test_prompt_image_and_seed_matter(world: StreamingWorld) -> None:
    def first(seed: int = 1, **changes: Any) -> np.ndarray:
        env = environment(world, **changes)
        env.reset(seed=seed)
        return drive(env, range(1))[1]

    base = first()
    assert np.array_equal(base, first())
    assert not np.array_equal(base, first(prompt="two doors"))
    assert not np.array_equal(base, first(image=picture()[:, ::-1]))
    assert not np.array_equal(base, first(seed=2))


def test_chunks_are_one_decoded_clip(world: StreamingWorld) -> None:
    env = environment(world)
    env.reset(seed=1)
    states = [env.snapshot().episode.world]
    streamed = []
    for chunk in range(3):
        streamed.append(drive(env, range(chunk, chunk + 1))[0])
        states.append(env.snapshot().episode.world)
    with torch.inference_mode():
        clip = world.codec.decode_clip(torch.cat([state.latents for state in states], dim=2))
        whole = world.codec.to_bytes(clip)[0].numpy()
    assert np.array_equal(np.concatenate(streamed), whole[1:])


def test_the_encoder_is_loaded_once_per_prompt(stack: Stack, tmp_path: Path) -> None:
    world = stack.load(prompts=tmp_path)
    environment(world).reset(seed=1)
    assert len(list(tmp_path.iterdir())) == 1
    caption = world.caption
    assert caption is not None
    kept = caption("a room")
    assert kept.features.shape == (1, 300, 16) and kept.mask.sum() == 4  # BOS, chi, two words
    for file in tmp_path.iterdir():
        file.unlink()
    assert torch.equal(caption("a room").features, kept.features)


def test_a_prompt_that_is_encoded_already(world: StreamingWorld, tmp_path: Path) -> None:
    file = tmp_path / "room.safetensors"
    random = torch.Generator().manual_seed(0)
    given = PromptEmbedding(torch.randn(1, 7, 16, generator=random), torch.ones(1, 7).long())
    write_embedding(file, PromptKey("somewhere", Prompt("a room")), given)
    env = environment(world, prompt=str(file))
    env.reset(seed=1)
    state = env.snapshot().episode.world
    assert torch.equal(state.text.features, given.features.bfloat16())
    narrow = PromptEmbedding(given.features[..., :5], given.mask)
    write_embedding(file, PromptKey("x", Prompt("")), narrow)
    with pytest.raises(ValueError, match="features of width 5; expected 16"):
        env.reset(seed=1)


def test_intrinsics_follow_the_crop_and_reset_options_come_first(world: StreamingWorld) -> None:
    _, info = environment(world).reset()
    assert info["intrinsics"].tolist() == list(assumed_intrinsics(*SIZE))
    assert 2 * np.degrees(np.arctan(48 / info["intrinsics"][0])) == pytest.approx(70)
    # 80 x 200 shrinks by 0.8 to 64 x 160, of which columns 32 to 128 stay.
    env = environment(world, intrinsics=(100, 110, 100, 40))
    np.testing.assert_allclose(env.reset()[1]["intrinsics"], [80, 88, 48, 32])
    other = picture(*SIZE)
    _, info = env.reset(options={"image": other})
    assert np.array_equal(env.snapshot().episode.world.image, other)
    assert info["intrinsics"].tolist() == list(assumed_intrinsics(*SIZE))
    start = Start(other, (60.0, 60.0, 48.0, 32.0), prompt="two doors")
    _, info = env.reset(options={"start": start})
    assert info["intrinsics"].tolist() == [60, 60, 48, 32]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": None, "intrinsics": (1, 1, 1, 1)}, "intrinsics describe an image"),
        ({"image": picture()[:, :, 0]}, r"uint8 \(80, 200\), expected uint8 \[H, W, 3\]"),
        ({"image": picture().astype(float)}, "float64"),
        ({"prompt": 3}, "prompt is a int"),
    ],
)
def test_arguments_that_do_not_fit(
    world: StreamingWorld, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        environment(world, **changes)


def test_no_picture(world: StreamingWorld, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no first frames of its own: give an image"):
        environment(world, image=None).reset()
    (tmp_path / "room.png").write_text("not a picture")
    with pytest.raises(ValueError, match="room.png is not a picture"):
        environment(world, image=tmp_path / "room.png")


def test_parts_that_do_not_fit(stack: Stack) -> None:
    with pytest.raises(ValueError, match=r"\(64, 100\); expected multiples of 32"):
        stack.load(size=(64, 100))
    with pytest.raises(ValueError, match="VAE of 8 channels"):
        stack.load(config=SanaWMConfig(latent_channels=16))


def test_a_prompt_without_an_encoder(stack: Stack, tmp_path: Path) -> None:
    for name in ("sana_dit", "ltx2_causal_vae", "config.yaml"):
        (tmp_path / name).symlink_to(stack.folder / name)
    world = Stack(tmp_path, tmp_path / "prompts").load()
    with pytest.raises(FileNotFoundError, match="put gemma-2-2b-it/ next to the generator"):
        environment(world).reset()
    with pytest.raises(FileNotFoundError, match="refiner_diffusers/ and gemma3_12b/"):
        Stack(tmp_path, tmp_path / "prompts").load(refined=True)


def test_a_world_that_is_not_here(
    stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sana_wm_gym.weights.fetch.default_cache", lambda: tmp_path)
    monkeypatch.delenv(STREAMING.variable, raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"run `sana-wm weights fetch sana-wm-streaming`, or set SANA_WM_STREAM",
    ):
        catalogue.load_world("sana-wm-streaming")
    monkeypatch.setenv(STREAMING.variable, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="lacks sana_dit/ and ltx2_causal_vae/"):
        catalogue.load_world("sana-wm-streaming")
    monkeypatch.setenv(STREAMING.variable, str(stack.folder))
    files = STREAMING.here()
    assert files == STREAMING.within(stack.folder)
    assert files.encoder.startswith("gemma-2-2b-it@")


def test_a_world_by_its_name(stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user would, but for the size of the networks; loaders take JSON values."""
    Image.fromarray(picture()).save(tmp_path / "room.png")
    monkeypatch.setenv(STREAMING.variable, str(stack.folder))
    small = {"config": asdict(CONFIG), "size": SIZE, "device": "cpu"}
    small |= {"prompts": str(stack.prompts), "offload": {"vae": "cpu"}, "dtype": "bfloat16"}
    for name, wrong in (("dtype", "int7"), ("offload", {"wings": "cpu"}), ("precision", "fp7")):
        with pytest.raises(ValueError, match=name if name != "precision" else "fp7"):
            catalogue.load_world("sana-wm-streaming", {**small, name: wrong})
    for name in catalogue.RELEASED_WORLDS:
        env = gym.make(
            "SanaWM/World-v0",
            world=name,
            world_kwargs=small,
            image=str(tmp_path / "room.png"),
            prompt="a room",
        )
        env.reset(seed=0)
        observation, reward, terminated, truncated, info = env.step(np.zeros(5, np.float32))
        assert observation.shape == (*SIZE, 3) and info["chunk_index"] == 1
        assert env.unwrapped.world.spec.name == name
        assert (reward, terminated, truncated) == (0, False, False)
