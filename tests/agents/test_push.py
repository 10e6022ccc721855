"""Worlds, policies and datasets on a hub: what is pushed is what is read, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import fake_hub
import pytest

pytest.importorskip("huggingface_hub", reason="pip install sana_wm_gym[hub]")
pytest.importorskip("stable_baselines3", reason="pip install sana_wm_gym[agents]")
pytest.importorskip("minari", reason="pip install sana_wm_gym[data]")

from sana_wm_gym.agents.push import dataset_upload, policy_upload, world_upload
from sana_wm_gym.cli import main
from sana_wm_gym.files import write_json
from sana_wm_gym.world.catalogue import load_world

TRAIN = (
    "world=tiny task.max_episode_steps=1 num_envs=1 steps=4 agent.n_steps=4 agent.batch_size=4 "
    "agent.n_epochs=1 eval_episodes=1 evaluation.episodes=2 evaluation.videos=0 folder=run"
)
RECORD = "dataset=image_goal/two-v0 folder=data env.world=procedural episodes=2 videos=false"
PUSHES = """
from sana_wm_gym.cli import main
for line in {lines}:
    assert main(["push", *line.split()]) == 0
"""
READ = """
import os, sys
import numpy as np
import gymnasium as gym
import minari
import sana_wm_gym
from sana_wm_gym.agents.policy import load_policy

world, policy = sys.argv[1:]
env = gym.make("SanaWM/World-v0", world=world)
assert env.unwrapped.world.spec.name == "small"
env.reset(seed=0)
env.step(env.action_space.sample())
acting = load_policy(policy)
print(acting.predict({k: np.zeros(s.shape, s.dtype) for k, s in acting.observation_space.items()}))
minari.download_dataset("image_goal/two-v0")
assert minari.load_dataset("image_goal/two-v0").total_episodes == 2
"""


def run(code: str, *arguments: str, **settings: str) -> str:
    """What a new process prints; huggingface_hub reads its variables when it is imported."""
    environment = {k: v for k, v in os.environ.items() if "proxy" not in k.lower()} | settings
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_is_pushed_is_what_is_read(
    tmp_path: Path, small_world_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", *TRAIN.split()]) == 0 and main(["record", *RECORD.split()]) == 0
    scores = {"command": "sana-wm bench run", "splits": {"simple": {"rot_err": 1.25, "rows": [1]}}}
    write_json(tmp_path / "scores.json", scores)
    lines = [
        f"world {small_world_file} me/small --evaluation scores.json",
        "policy run me/walker",
        "dataset image_goal/two-v0 me --folder data",
    ]
    with fake_hub.serving() as (settings, on_hub):
        settings["HF_HOME"] = str(tmp_path / "cache")
        earlier = {"checkpoints/step-9999999999/learner.safetensors": b"", "LICENSE": b"mine"}
        on_hub["models/me/walker"] = {"0" * 40: earlier}
        found = run(PUSHES.format(lines=lines), **settings).split()
        assert [re.sub(r"@[0-9a-f]{40}$", "", one) for one in found] == [
            "hf://me/small",
            "hf://me/walker",
            "hf://me/image_goal",
        ]
        small, walker, dataset = (
            list(on_hub[place].values())[-1]
            for place in ("models/me/small", "models/me/walker", "datasets/me/image_goal")
        )
        assert small["world.safetensors"] == small_world_file.read_bytes()
        assert sorted(small)[1:] == ["README.md", "evaluation.json", "world.safetensors"]
        assert "| splits.simple.rot_err | 1.250 |" in small["README.md"].decode()
        assert walker["LICENSE"] == b"mine" and not earlier.keys() - {"LICENSE"} & walker.keys()
        assert {Path(name).suffix for name in walker} == {"", ".md", ".json", ".safetensors"}
        assert "| is_success |" in walker["README.md"].decode()
        assert "two-v0/data/main_data.hdf5" in dataset
        # A process with nothing but the addresses.
        settings["MINARI_REMOTE"] = "hf://me"
        settings["MINARI_DATASETS_PATH"] = str(tmp_path / "downloaded")
        run(READ, found[0], found[1], **settings)


def test_what_cannot_be_pushed_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ValueError, match=r"bad\.safetensors is truncated, damaged"):
        world_upload(str(tmp_path / "bad.safetensors"), "me/bad", None)
    with pytest.raises(FileNotFoundError, match="no run at"):
        policy_upload(str(tmp_path), "me/none", None)
    with pytest.raises(FileNotFoundError, match="no dataset 'image_goal/none-v0'"):
        dataset_upload("image_goal/none-v0", "me", str(tmp_path))
    for line in ("world x.safetensors name", "dataset image_goal/a-v0 me/name", "policy x a/b/c"):
        with pytest.raises(SystemExit):
            main(["push", *line.split()])
        assert (
            "a dataset takes an owner" in (text := capsys.readouterr().err)
            or "takes owner/" in text
        )


@pytest.mark.parametrize("name", ["hf://me/small", "hf://me/small@main", "hf://me@" + "0" * 40])
def test_addresses_have_a_commit(name: str) -> None:
    with pytest.raises(ValueError, match="expected hf://owner/name@commit with a commit of 40"):
        load_world(name)


def test_evaluations_of_the_hub_are_written_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", f"checkpoint=hf://me/walker@{'0' * 40}"]) == 2
    assert "is on the hub, expected folder=PLACE" in capsys.readouterr().err


def test_a_repository_without_a_world_is_named(tmp_path: Path) -> None:
    code = "from sana_wm_gym.world.catalogue import load_world\nimport sys\n" + (
        "try:\n    load_world(sys.argv[1])\nexcept FileNotFoundError as error:\n    print(error)"
    )
    with fake_hub.serving() as (settings, on_hub):
        settings["HF_HOME"] = str(tmp_path)
        on_hub["models/me/code"] = {"a" * 40: {"model.py": b"raise SystemExit"}}
        text = run(code, "hf://me/code@" + "a" * 40, **settings)
        assert "has no world.safetensors" in text and not list(tmp_path.rglob("model.py"))
        assert "cannot get me/code at bbbb" in run(code, "hf://me/code@" + "b" * 40, **settings)
