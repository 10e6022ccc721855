"""Datasets: what is read back is what happened, and half a dataset has no name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from rich.console import Console

pytest.importorskip("minari", reason="pip install sana_wm_gym[data]")
pytest.importorskip("h5py", reason="pip install sana_wm_gym[data]")

from sana_wm_gym import ENV_ID
from sana_wm_gym.agents.clone import CloneConfig, clone, make_policy
from sana_wm_gym.agents.planners import RandomActions, ScriptedExpert
from sana_wm_gym.agents.record import RecordConfig, play_planner, record, write_clip
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.envs.dataset import DatasetRecorder, dataset_path, open_dataset, video_path
from sana_wm_gym.video import probe, read_frames

NAME = "image_goal/test-v0"
QUIET = Console(quiet=True)


def environment(**arguments: Any) -> gym.Env[Any, Any]:
    arguments = {
        "world": "procedural",
        "max_episode_steps": 3,
        "observation": ["frame", "pose"],
        **arguments,
    }
    return gym.make("SanaWM/ImageGoal-v0", **arguments)


def recorded(folder: Path, episodes: int = 2, **arguments: Any) -> Any:
    recorder = DatasetRecorder(environment(), NAME, folder, **arguments)
    for seed in range(episodes):
        play_planner(recorder, RandomActions(), seed)
    recorder.close()
    return open_dataset(NAME, folder)


def test_what_is_read_back_is_what_happened(tmp_path: Path) -> None:
    dataset = recorded(tmp_path, jpeg=False, notes={"description": "two walks"})
    assert dataset.total_episodes == 2 and dataset.id == NAME
    assert dataset.storage.metadata["description"] == "two walks"
    # The environment is made again from the dataset alone, and plays the episode again.
    env = dataset.recover_environment()
    seeds = [facts["seed"] for facts in dataset.storage.get_episode_metadata(range(2))]
    assert seeds == [0, 1]
    for episode, seed in zip(dataset.iterate_episodes(), seeds, strict=True):
        observation, info = env.reset(seed=seed)
        assert episode.infos["c2w"].shape == (len(episode) + 1, 24, 4, 4)
        assert np.array_equal(episode.infos["c2w"][0], np.tile(np.eye(4), (24, 1, 1)))
        for step, action in enumerate(episode.actions):
            for name, part in observation.items():
                assert np.array_equal(episode.observations[name][step], part)
            assert episode.infos["chunk_index"][step] == step
            observation, reward, terminated, truncated, info = env.step(action)
            assert episode.rewards[step] == reward
            assert (episode.terminations[step], episode.truncations[step]) == (
                terminated,
                truncated,
            )
            for name in ("c2w", "intrinsics", "goal_distance_m", "is_success"):
                assert np.array_equal(episode.infos[name][step + 1], info[name])
        assert np.array_equal(episode.observations["frame"][-1], observation["frame"])


def test_jpeg_keeps_pictures_nearly_and_everything_else_exactly(tmp_path: Path) -> None:
    exact, jpeg = (recorded(tmp_path / str(kind), 1, jpeg=kind)[0] for kind in (False, True))
    gap = exact.observations["frame"].astype(float) - jpeg.observations["frame"]
    assert 0 < np.sqrt((gap**2).mean()) < 12
    assert np.array_equal(exact.observations["pose"], jpeg.observations["pose"])
    assert np.array_equal(exact.infos["c2w"], jpeg.infos["c2w"])


def test_every_frame_is_recorded(tmp_path: Path) -> None:
    env = environment(render_mode="rgb_array_list")
    recorder = DatasetRecorder(env, NAME, tmp_path)
    seen = []
    for seed in (5, 6):
        recorder.reset(seed=seed)
        frames: list[Any] = list(recorder.render())  # type: ignore[arg-type]
        for _ in range(2):
            recorder.step(recorder.action_space.sample())
            frames += list(recorder.render())  # type: ignore[arg-type]
        seen.append(np.stack(frames))
    recorder.close()
    dataset = open_dataset(NAME, tmp_path)
    for index, frames_of_episode in enumerate(seen):
        path = video_path(dataset, index)
        video, _ = read_frames(path)
        assert probe(path).rate == 16 and video.shape == frames_of_episode.shape == (49, 64, 64, 3)
        gap = video.astype(float) - frames_of_episode
        assert np.sqrt((gap**2).mean()) < 15
    write_clip(dataset, 1, tmp_path / "clip.mp4")
    assert (tmp_path / "clip.mp4").stat().st_size > 1000


def test_an_episode_that_is_left_counts_as_truncated_and_an_empty_one_not_at_all(
    tmp_path: Path,
) -> None:
    recorder = DatasetRecorder(environment(render_mode="rgb_array_list"), NAME, tmp_path)
    still = np.zeros(5, np.float32)
    recorder.reset(seed=0)
    recorder.reset(seed=1)
    recorder.step(still)
    recorder.reset(seed=2)
    recorder.step(still)
    recorder.step(still)
    recorder.close()
    dataset = open_dataset(NAME, tmp_path)
    assert [len(one) for one in dataset] == [1, 2]
    assert [one.truncations.tolist() for one in dataset] == [[True], [False, True]]
    assert probe(video_path(dataset, 1)).frames == 49


def test_a_dataset_bears_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    place = dataset_path(NAME, tmp_path)
    recorder = DatasetRecorder(environment(), NAME, tmp_path)
    play_planner(recorder, RandomActions(), 0)
    assert not place.exists() and list(place.parent.iterdir())
    recorder.discard()
    recorder.close()
    assert not list(place.parent.iterdir())
    DatasetRecorder(environment(), NAME, tmp_path).close()
    assert not list(place.parent.iterdir())


def test_an_error_discards_the_recording(tmp_path: Path) -> None:
    def interrupted() -> None:
        with DatasetRecorder(environment(), NAME, tmp_path) as recorder:
            play_planner(recorder, RandomActions(), 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(dataset_path(NAME, tmp_path).parent.iterdir())


def test_folders_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = environment(render_mode="rgb_array_list")
    with DatasetRecorder(env, NAME, "data") as recorder:
        play_planner(recorder, RandomActions(), 0)
        play_planner(recorder, RandomActions(), 1)
    assert open_dataset(NAME, "data").total_episodes == 2


def test_names_and_places_are_checked_before_work(tmp_path: Path) -> None:
    recorded(tmp_path, 1)
    with pytest.raises(FileExistsError, match="new name or version"):
        DatasetRecorder(environment(), NAME, tmp_path)
    for name in ("no_version", "../away-v0", "a b-v1", "/root-v0"):
        with pytest.raises(ValueError, match="with a version"):
            DatasetRecorder(environment(), name, tmp_path)
    with pytest.raises(FileNotFoundError, match="no dataset"):
        open_dataset("image_goal/other-v0", tmp_path)
    with pytest.raises(FileNotFoundError, match="rgb_array_list"):
        video_path(open_dataset(NAME, tmp_path), 0)


def test_minaris_own_place_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    with DatasetRecorder(environment(), NAME) as recorder:
        play_planner(recorder, RandomActions(), 0)
    assert list(minari.list_local_datasets()) == [NAME]
    assert minari.load_dataset(NAME).total_episodes == 1


def test_lone_observations_and_tasks_without_numbers_are_recorded_too(tmp_path: Path) -> None:
    env = gym.make(ENV_ID, world="procedural", max_episode_steps=2, action_mode="discrete")
    recorder = DatasetRecorder(env, "roam-v0", tmp_path)
    recorder.reset(seed=0)
    for action in (1, 4):
        recorder.step(action)
    recorder.close()
    [episode] = open_dataset("roam-v0", tmp_path)
    assert episode.observations.shape == (3, 64, 64, 3) and episode.actions.tolist() == [1, 4]
    assert episode.truncations.tolist() == [False, True]


def test_without_minari_one_line_names_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ImportError, match=r"pip install sana_wm_gym\[data\]"):
        DatasetRecorder(environment(), NAME, tmp_path)


def recording(folder: Path, **changes: Any) -> RecordConfig:
    env = {"id": "SanaWM/ImageGoal-v0", "world": "procedural", "max_episode_steps": 3}
    values = {"env": env, "planner": ScriptedExpert(), "episodes": 6, **changes}
    return RecordConfig(NAME, str(folder), **values)


def test_recordings_are_functions_of_their_settings(tmp_path: Path) -> None:
    episodes = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        clip = str(folder / "clip.mp4")
        assert record(recording(folder, clip=clip), QUIET) == dataset_path(NAME, folder)
        assert Path(clip).is_file()
        episodes.append(list(open_dataset(NAME, folder)))
    assert len(episodes[0]) == 6
    for a, b in zip(*episodes, strict=True):
        assert np.array_equal(a.actions, b.actions) and np.array_equal(a.rewards, b.rewards)
        assert np.array_equal(a.observations["goal"], b.observations["goal"])
        assert a.infos["is_success"].tolist()[-1] is True


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (lambda folder: recording(folder, videos=False, clip="x.mp4"), "videos=true"),
        (lambda folder: recording(folder, episodes=0), "episodes is 0"),
        (lambda folder: recording(folder, env={"id": "CartPole-v1"}), "CartPole-v1"),
        (lambda folder: CloneConfig(NAME, "x", held_out=1.0), "held_out"),
    ],
)
def test_wrong_settings_are_refused(
    tmp_path: Path, wrong: Callable[[Path], Any], complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        wrong(tmp_path)


def test_a_clone_learns_and_acts(tmp_path: Path) -> None:
    record(recording(tmp_path, episodes=12, videos=False), QUIET)
    runs = []
    for name in ("a", "b"):
        folder = tmp_path / name
        config = CloneConfig(
            NAME, str(folder), str(tmp_path), epochs=8, features=32, episodes=3, videos=1
        )
        losses, evaluation = clone(config, QUIET)
        assert evaluation is not None and len(evaluation.episodes) == 3
        assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
        assert json.loads((folder / "clone.json").read_text())["losses"] == losses
        assert (folder / "losses.csv").is_file()
        assert len(list((folder / "videos").iterdir())) == 1
        runs.append((losses, evaluation))
    assert runs[0] == runs[1]
    env = environment(observation=["frame"]).unwrapped
    assert isinstance(env, SanaWMEnv)
    policies = [make_policy(env.observation_space, env.action_space, 32) for _ in range(2)]
    for policy in policies:
        policy.load_state_dict(torch.load(tmp_path / "a" / "policy.pt", weights_only=True))
    observation, _ = env.reset(seed=0)
    batch = {name: part[None] for name, part in observation.items()}
    first, second = (policy.predict(batch, deterministic=True)[0] for policy in policies)
    assert np.array_equal(first, second) and env.action_space.contains(first[0])
    with pytest.raises(ValueError, match="one axis"):
        make_policy(env.observation_space, gym.spaces.Discrete(3))


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"entry_point": "subprocess:Popen", "kwargs": {"args": ["touch", "MARKER"]}}, "args"),
        ({"id": "CartPole-v1", "entry_point": "subprocess:Popen"}, "recorded in 'CartPole-v1'"),
        ({"kwargs": {"world": "harm:world"}}, "harm:world"),
    ],
)
def test_a_dataset_runs_no_code(
    changes: dict[str, Any], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "harm.py").write_text("open('MARKER', 'w')")
    recorded(tmp_path)
    file = dataset_path(NAME, tmp_path) / "data" / "metadata.json"
    document = json.loads(file.read_text())
    spec = json.loads(document["env_spec"]) | changes
    file.write_text(json.dumps({**document, "env_spec": json.dumps(spec)}))
    with pytest.raises(ValueError, match=complaint):
        clone(CloneConfig(NAME, "out", str(tmp_path), epochs=1), QUIET)
    assert not (tmp_path / "MARKER").exists() and not (tmp_path / "out").exists()


def test_clones_look_at_channels_last_pictures_of_any_batch() -> None:
    torch.manual_seed(0)
    env = environment(observation=["frame"])
    policy = make_policy(env.observation_space, env.action_space, 16)
    views = {
        name: np.stack([space.sample() for _ in range(3)])
        for name, space in env.observation_space.spaces.items()  # type: ignore[attr-defined]
    }
    together = policy.predict(views, deterministic=True)[0]
    rows = [{k: v[i : i + 1] for k, v in views.items()} for i in range(3)]
    alone = [policy.predict(row, deterministic=True)[0][0] for row in rows]
    assert together.shape == (3, 5) and np.allclose(together, alone, atol=1e-5)
