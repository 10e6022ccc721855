"""Worlds of other chunk lengths and other drivers go through everything that 24 frames do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from chunk_worlds import ChunkWorld
from env_values import started
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO

from sana_wm_gym.envs import ChunkVideoRecorder, SanaWMEnv, SanaWMVectorEnv, Snapshot
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.tasks import TASKS
from sana_wm_gym.evaluation.online_metrics import OnlineCameraMetrics
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.video import read_video
from sana_wm_gym.world.rollout import camera_path, rollout

CAMERA, KEYS, BOTH = ("camera",), ("keys",), ("camera", "keys")
WORLDS = [
    ChunkWorld(frames, driven_by)
    for frames, driven_by in ((1, CAMERA), (1, KEYS), (12, CAMERA), (12, KEYS), (12, BOTH))
]
by_name: dict[str, Any] = {"ids": lambda world: world.spec.name}


def mode_of(world: ChunkWorld) -> str:
    return "continuous" if world.driven_by == CAMERA else "keys"


def ahead(world: ChunkWorld) -> Any:
    if world.driven_by == CAMERA:
        return np.array([0, 0, 0, 0, 1], np.float32)
    return np.array([1, 0, 0, 0, 0, 0, 0, 0], np.int8)


@pytest.fixture(params=WORLDS, **by_name)
def world(request: pytest.FixtureRequest) -> ChunkWorld:
    found: ChunkWorld = request.param
    return found


def test_single_environments(world: ChunkWorld, tmp_path: Path) -> None:
    parts = ("frames", "frame", "pose") if world.spec.has_camera else ("frames", "frame")
    options: dict[str, Any] = {
        "observation": parts,
        "action_mode": mode_of(world),
        "max_episode_steps": 3,
    }
    env = gym.make("SanaWM/World-v0", world=world, render_mode="rgb_array_list", **options)
    check_env(env.unwrapped, skip_render_check=True)
    recorded = ChunkVideoRecorder(env, tmp_path)
    recorded.reset(seed=0)
    observation, *_, info = recorded.step(ahead(world))
    grey = observation["frames"][:, 5, 7, 0].tolist()
    assert grey == list(range(1, world.frames + 1))
    assert observation["frame"][0, 0, 0] > 100
    assert ("c2w" in info) == world.spec.has_camera
    if world.spec.has_camera:
        assert info["c2w"].shape == (world.frames, 4, 4)
    path = tmp_path / "here.safetensors"
    base: Any = env.unwrapped
    base.snapshot().save(path, world)
    [branch] = base.branch(1)
    expected = branch.step(ahead(world))
    again = SanaWMEnv(world, render_mode="rgb_array", **options)
    again.restore(Snapshot.load(path, world))
    result = again.step(ahead(world))
    for name, part in expected[0].items():
        assert np.array_equal(part, result[0][name])
    assert again.metadata["render_fps"] == max(1, round(10 / world.frames))
    recorded.close()
    assert len(list(read_video(tmp_path / "episode-0000.mp4"))) == 1 + world.frames


def test_batches(world: ChunkWorld) -> None:
    options = {"action_mode": mode_of(world), "max_episode_steps": 2, "observation": ("frames",)}
    envs = gym.make_vec("SanaWM/World-v0", num_envs=3, world=world, **options)
    tensors = SanaWMVectorEnv(3, world, as_torch=True, **options)
    envs.reset(seed=0)
    tensors.reset(seed=0)
    actions = np.stack([ahead(world)] * 3)
    for step in range(4):
        seen, *_, infos = envs.step(actions)
        assert np.array_equal(seen, tensors.step(actions)[0].numpy())
        assert seen.shape == (3, world.frames, 6, 8, 3)
        if world.spec.has_camera:
            assert infos["c2w"].shape == (3, world.frames, 4, 4)
        assert seen[0, -1, 5, 7, 0] == (0 if step == 2 else world.frames * (step % 3 + 1))


def test_a_learner(world: ChunkWorld) -> None:
    envs = SanaWMVectorEnv(2, world, action_mode=mode_of(world), max_episode_steps=4)
    learner = PPO("MlpPolicy", SanaWMVecEnv(envs), n_steps=4, batch_size=8, n_epochs=1)
    learner.learn(16)


def test_keys_reach_the_world_frame_by_frame() -> None:
    env = started(SanaWMEnv(ChunkWorld(12, KEYS), action_mode="discrete", actions_per_chunk=3))
    env.step(np.array([1, 0, 5]))
    assert env.snapshot().episode.world.place == pytest.approx(8 / 12)
    env.step_string("w-3,none-9")
    assert env.snapshot().episode.world.place == pytest.approx(11 / 12)


def test_what_needs_a_camera_refuses_a_world_without_one() -> None:
    world = ChunkWorld(12, KEYS)
    keys: dict[str, Any] = {"action_mode": "keys"}
    name = "world 'toy-12-keys' is driven by keys"
    for task in sorted(TASKS.keys() - {"free_roam"}):
        with pytest.raises(ValueError, match=f"task .* needs a camera, and {name}"):
            SanaWMEnv(world, task=task, **keys)
    for mode in ("continuous", "planar"):
        with pytest.raises(ValueError, match=f"action_mode '{mode}' needs a camera, and {name}"):
            SanaWMEnv(world, action_mode=mode)
    with pytest.raises(ValueError, match=r"cannot be observed as \['pose'\]"):
        SanaWMEnv(world, observation=("pose",), **keys)
    env = SanaWMEnv(world, **keys)
    with pytest.raises(ValueError, match=name):
        OnlineCameraMetrics(env, LKBundleAdjustment())
    start = world.sample_start(np.random.default_rng(0))
    with pytest.raises(ValueError, match=name):
        rollout(world, [start], [0], [camera_path(start, np.eye(4)[None])])


@pytest.mark.parametrize(
    ("world", "part", "message"),
    [
        (ChunkWorld(dtype="float32"), "frame", r"makes frames float32 \(6, 8, 3\), expected"),
        (ChunkWorld(lie=1), "frames", r"uint8 \(13, 6, 8, 3\), expected uint8 \(12 \(or 1\), 6"),
    ],
)
def test_a_world_that_breaks_its_spec_is_refused(
    world: ChunkWorld, part: str, message: str
) -> None:
    env = SanaWMEnv(world, observation=part)
    with pytest.raises(ValueError, match=message):  # noqa: PT012 (the first shows at reset)
        env.reset(seed=0)
        env.step(np.zeros(5, np.float32))
