"""A walk is a function of its seed and steering: made again, the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chunk_worlds import ChunkWorld

from sana_wm_gym.envs.config import EnvConfig
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.play.recording import KINDS, save_walk
from sana_wm_gym.play.session import Session
from sana_wm_gym.play.walk import Steering, Walk
from sana_wm_gym.video import read_frames
from sana_wm_gym.world.catalogue import load_world

FORWARD = Steering(frozenset({"forward"}))
TURN = Steering(frozenset({"yaw_left"}))
STICK = Steering(twist=(0.5, 0.0, 0.0, 0.0, 1.0))


def session(world: str = "procedural", seed: int = 3) -> Session:
    return Session(EnvConfig(world, action_mode="keys"), seed)


def walked(world: str = "procedural", chunks: int = 3) -> tuple[Session, list[Any]]:
    mine, shown = session(world), []
    for index in range(chunks):
        chunk = mine.make(mine.here, [FORWARD if index % 2 else TURN] * 24)
        mine.accept(chunk)
        shown.append(chunk.frames)
    return mine, shown


def test_a_walk_is_what_the_environment_does() -> None:
    mine, shown = walked()
    env = SanaWMEnv("procedural", action_mode="keys", render_mode="rgb_array_list")
    env.reset(seed=3)
    for index, frames in enumerate(shown):
        env.step_string("w-24" if index % 2 else "a-24")
        assert np.array_equal(np.stack(env.render()), frames)
    assert np.array_equal(mine.poses()[-24:], mine.here.c2w)


@pytest.mark.parametrize("world", ["procedural", "tiny"])
def test_the_running_chunk_again(world: str) -> None:
    mine = session(world)
    chunk = mine.make(mine.here, [FORWARD] * 24)
    again = mine.remake(chunk, 9, STICK)
    assert again.steering == (FORWARD,) * 9 + (STICK,) * 15
    assert np.allclose(again.poses[:9], chunk.poses[:9])
    assert not np.allclose(again.poses[9:], chunk.poses[9:])
    same = mine.remake(chunk, 24, STICK)
    assert np.array_equal(same.frames, chunk.frames)
    assert len(mine.walk.chunks) == 0  # nothing is accepted by making it


@pytest.mark.parametrize("world", ["procedural", "tiny"])
def test_rewind_and_replay_to_the_same_bytes(world: str, tmp_path: Path) -> None:
    mine, shown = walked(world)
    walk = mine.walk
    here = mine.rewind(2)
    assert np.array_equal(mine.simulation.frames([here])[0], shown[1])
    assert len(mine.walk.chunks) == 2
    walk.save(tmp_path / "walk.json")
    other = session(world, seed=99)
    made = [chunk.frames for chunk in other.replay(Walk.load(tmp_path / "walk.json"))]
    assert all(map(np.array_equal, made, shown)) and other.walk == walk


def test_old_starts_are_made_again_and_memory_is_bounded() -> None:
    world = ChunkWorld(6, driven_by=("keys",))
    mine, shown = Session(EnvConfig(world, action_mode="keys"), 3), []
    for index in range(120):
        chunk = mine.make(mine.here, [FORWARD if index % 2 else TURN] * 6)
        mine.accept(chunk)
        shown.append(chunk.frames)
    assert len(mine._starts) <= 42
    forgotten = next(i for i in range(2, 110) if i not in mine._starts)
    here = mine.rewind(forgotten)
    assert np.array_equal(mine.simulation.frames([here])[0], shown[forgotten - 1])
    assert len({frames.tobytes() for frames in shown}) == 120


def test_prompts_belong_to_the_walk() -> None:
    mine = session("tiny")
    surface = load_world("tiny").spec.surfaces[0]
    before = mine.here.prompt
    mine.accept(mine.make(mine.here, [TURN] * 24))
    prompted = mine.simulation.with_prompt(mine.here, surface.phrase(0))
    shown = mine.make(prompted, [TURN] * 24)
    mine.accept(shown)
    mine.accept(mine.make(mine.here, [TURN] * 24))
    assert before != mine.here.prompt == surface.phrase(0)
    assert mine.walk.prompts == {1: surface.phrase(0)}
    assert np.array_equal([*session("tiny").replay(mine.walk)][1].frames, shown.frames)
    assert np.array_equal(mine.simulation.frames([mine.rewind(2)])[0], shown.frames)
    assert mine.rewind(1).prompt == before and mine.walk.prompts == {}


@pytest.mark.parametrize("world", ["procedural", "tiny"])
def test_four_futures_differ_and_one_is_adopted(world: str) -> None:
    mine, _ = walked(world, chunks=1)
    goal = mine.first_frame()
    futures = mine.futures(mine.here, FORWARD, np.random.default_rng(0), goal=goal)
    ends = [future.chunks[-1].frames[-1] for future in futures]
    assert len({end.tobytes() for end in ends}) == 4
    assert futures[3].name == "toward the goal"
    alone = mine.make(mine.here, [FORWARD] * 24).frames.astype(int)
    assert np.abs(alone - futures[0].chunks[0].frames).max() <= 1  # rounding of a batch
    mine.adopt(futures[2])
    shown = mine.simulation.frames([mine.here])[0]
    assert np.abs(shown.astype(int) - futures[2].chunks[-1].frames).max() <= 1
    assert np.array_equal(list(session(world).replay(mine.walk))[-1].frames, shown)


def test_a_snapshot_continues_in_an_environment(tmp_path: Path) -> None:
    mine, _ = walked("tiny", chunks=1)
    env = SanaWMEnv("tiny", action_mode="keys", render_mode="rgb_array_list")
    env.restore(mine.snapshot())
    env.step_string("w-24")
    assert np.array_equal(np.stack(env.render()), mine.make(mine.here, [FORWARD] * 24).frames)
    other = session("tiny", seed=8)
    other.restore(mine.snapshot())
    assert np.array_equal(other.poses()[0], mine.here.c2w[-1])
    with pytest.raises(ValueError, match="began at a snapshot"):
        list(save_walk(other, "walk", tmp_path))
    with pytest.raises(ValueError, match="snapshot was made in"):
        session("procedural").restore(mine.snapshot())
    assert np.array_equal(other.make(other.here, [TURN] * 24).frames[-1].shape, (64, 64, 3))


def test_everything_can_be_saved(tmp_path: Path) -> None:
    mine, shown = walked(chunks=2)
    names = [list(save_walk(mine, what, tmp_path))[-1].name for what in KINDS]
    assert len(set(names)) == len(KINDS)
    assert len(read_frames(tmp_path / names[0])[0]) == 49
    with pytest.raises(ValueError, match="what is 'film'"):
        list(save_walk(mine, "film", tmp_path))
    assert len(shown) == 2


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"format": "sana-wm-walk-1"}', "[" * 100_000, "null", "\x00",
        Walk("tiny", "free_roam", "k", 0, ((FORWARD,),)).to_text().replace("forward", "fly"),
        Walk("tiny", "free_roam", "k", 0, ((FORWARD,),)).to_text().replace("[1,", "[1e9,"),
        Walk("tiny", "free_roam", "k", 0, ((FORWARD,),)).to_text().replace("[1,", "[1000000000,"),
        Walk("tiny", "free_roam", "k", 0, ((FORWARD,),) * 2).to_text().replace("[1,", "[1000000,"),
        Walk("tiny", "free_roam", "k", 0, ((STICK,),)).to_text().replace("0.5", "NaN"),
    ],
)  # fmt: skip
def test_what_is_no_walk_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "walk.json").write_text(text)
    with pytest.raises(ValueError, match=r"walk\.json: not a walk"):
        Walk.load(tmp_path / "walk.json")


def test_walks_of_other_worlds_and_bad_steering_are_refused() -> None:
    mine, _ = walked(chunks=1)
    with pytest.raises(ValueError, match="the walk is of world"):
        list(session("tiny").replay(mine.walk))
    with pytest.raises(ValueError, match="unknown"):
        Steering(frozenset({"fly"}))
    with pytest.raises(ValueError, match="twist"):
        Steering(twist=(2.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="frames"):
        mine.make(mine.here, [FORWARD] * 23)
