"""`info["anchor_confidence"]`: whether the world knows the place of the first frame."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sana_wm_gym.envs import SanaWMEnv, SanaWMVectorEnv
from sana_wm_gym.envs.snapshot import Snapshot

FORWARD = np.array([0.0, 0.0, 0.0, 0.0, 1.0])
KEY = "anchor_confidence"


@pytest.fixture
def knowing(world: Any) -> Any:
    """Its confidence is the brightness of the first frame's first pixel."""

    def anchor_confidence(self: Any, state: Any) -> float:
        return float(state.image[0, 0, 0]) / 255

    return type("KnowingWorld", (type(world),), {"anchor_confidence": anchor_confidence})()


def first_pixel(env: SanaWMEnv, seed: int) -> float:
    observation: Any
    observation, _ = env.reset(seed=seed)
    return float(observation[0, 0, 0]) / 255


def test_it_survives_snapshots_and_branches(knowing: Any, tmp_path: Path) -> None:
    env, other = SanaWMEnv(knowing), SanaWMEnv(knowing)
    _, info = env.reset(seed=0)
    env.step(FORWARD)
    env.snapshot().save(tmp_path / "here", knowing)
    _, restored = other.restore(Snapshot.load(tmp_path / "here", other.world))
    [branch] = env.branch(1)
    for given in (restored, other.step(FORWARD)[4], branch.step(FORWARD)[4]):
        assert given[KEY] == info[KEY] and type(given[KEY]) is float


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_each_sub_environment_has_its_own(knowing: Any, mode: Any) -> None:
    envs = SanaWMVectorEnv(3, knowing, max_episode_steps=2, autoreset_mode=mode)
    single = SanaWMEnv(knowing)
    expected = [first_pixel(single, seed) for seed in range(3)]
    _, infos = envs.reset(seed=0)
    given = [infos]
    for _ in range(4):
        given.append(envs.step(np.tile(FORWARD, (3, 1)))[4])
    for one in given:
        assert one[KEY].dtype == np.float64 and one[KEY].shape == (3,)
        assert one[f"_{KEY}"].all()
    assert given[1][KEY].tolist() == expected
    begun = given[3] if mode == "NextStep" else given[2]
    assert not set(begun[KEY]) & set(expected)  # other episodes, other pictures
    if mode == "SameStep":
        assert given[2]["final_info"][KEY].tolist() == expected
