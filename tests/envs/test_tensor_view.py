"""Tensor observations: the arrays' numbers, made on the device, and nobody else's memory."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from env_values import same
from hypothesis import given, settings
from hypothesis import strategies as st

from sana_wm_gym.envs import SanaWMVectorEnv, tensor_view
from sana_wm_gym.envs.tasks import Follow, ImageGoal
from sana_wm_gym.world.catalogue import load_world
from sana_wm_gym.world.tensors import resized, to_tensors

SEEN: list[tuple[tuple[str, ...], Any]] = [
    (("frame",), "free_roam"),
    (("frames",), "free_roam"),
    (("latent",), "free_roam"),
    (("pose",), Follow(max_episode_steps=3)),
    (("frames", "frame", "latent"), Follow(max_episode_steps=3)),
    (("frame",), "image_goal_her"),
]


def on_device(kind: type) -> Any:
    """The tests' world as one whose frames and latents never exist on the host."""

    class OnDevice(kind):  # type: ignore[misc]
        device = torch.device("cpu")

        def decode(self, states: Sequence[Any], last: bool = False) -> list[torch.Tensor]:
            return [torch.from_numpy(part.copy()) for part in super().decode(states, last)]

        def latents(self, states: Sequence[Any], last: bool = False) -> list[torch.Tensor]:
            return [torch.from_numpy(part.copy()) for part in super().latents(states, last)]

    return OnDevice()


def equal(arrays: Any, tensors: Any) -> bool:
    """The same numbers of the same type and shape, in tensors that may enter a loss."""
    made = tensors.values() if isinstance(tensors, dict) else [tensors]
    assert all(torch.is_tensor(part) and not part.is_inference() for part in made)
    return same(tensors, arrays)


def drawn(rows: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 5)).astype(np.float32)


@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
@pytest.mark.parametrize(("view", "task"), SEEN, ids=["+".join(view) for view, _ in SEEN])
def test_tensors_are_the_arrays_and_are_made_on_the_device(
    world: Any, mode: str, view: tuple[str, ...], task: Any
) -> None:
    device = on_device(type(world))
    options: dict[str, Any] = {
        "task": task, "observation": view, "autoreset_mode": mode, "max_episode_steps": [2, 3, 1]
    }  # fmt: skip
    arrays = SanaWMVectorEnv(3, world, **options)
    tensors = SanaWMVectorEnv(3, device, as_torch=True, **options)
    assert equal(arrays.reset(seed=5)[0], tensors.reset(seed=5)[0])
    for step in range(4):
        expected, given = arrays.step(drawn(3, step)), tensors.step(drawn(3, step))
        assert equal(expected[0], given[0])
        over = expected[2] | expected[3]
        if mode == "SameStep":
            assert ("final_obs" in given[4]) == over.any()
            for row in np.flatnonzero(over):
                assert equal(expected[4]["final_obs"][row], given[4]["final_obs"][row])
        if mode == "Disabled" and over.any():
            options = {"reset_mask": over}
            assert equal(arrays.reset(options=options)[0], tensors.reset(options=options)[0])
    kept = arrays.snapshot(0), tensors.snapshot(0)
    assert equal(arrays.restore(2, kept[0])[0], tensors.restore(2, kept[1])[0])
    assert equal(arrays.branch(1, [0])[0], tensors.branch(1, [0])[0])


def test_chunks_are_decoded_once_and_together(world: Any) -> None:
    world = on_device(type(world))
    envs = SanaWMVectorEnv(
        3, world, max_episode_steps=[1, 2, 9], autoreset_mode="SameStep", observation=("frames",),
        as_torch=True,
    )  # fmt: skip
    envs.reset(seed=0)
    assert (world.calls["decode"], world.calls["decoded"]) == (1, 3)
    envs.step(drawn(3, 0))
    # Three ends of chunks, and the start of what follows the one that ended.
    assert (world.calls["decode"], world.calls["decoded"]) == (2, 7)
    before = world.calls["decoded"]
    envs.branch(2, [0, 1])
    assert world.calls["decoded"] == before
    envs.reset(options={"reset_mask": np.array([False, True, False])})
    assert world.calls["decoded"] == before + 1


def test_the_last_frame_known_is_not_taken_for_the_whole_chunk(world: Any) -> None:
    world = on_device(type(world))
    one = SanaWMVectorEnv(1, world, as_torch=True)
    every = SanaWMVectorEnv(1, world, observation=("frames",), as_torch=True)
    one.reset(seed=0)
    every.reset(seed=1)
    last = one.step(drawn(1, 0))[0][0]
    frames, _ = every.restore(0, one.snapshot(0))
    assert frames.shape[0] == 24 and torch.equal(frames[-1], last)
    assert not torch.equal(frames[0], frames[-1])
    # The other way round the last of all is enough.
    decoded = world.calls["decoded"]
    assert torch.equal(one.restore(0, every.snapshot(0))[0], last)
    assert world.calls["decoded"] == decoded


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_a_goal_is_sent_once(mode: str, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = Counter[tuple[int, ...]]()

    def counted(value: Any, device: Any) -> Any:
        sent[np.asarray(value).shape] += 1
        return to_tensors(value, device)

    monkeypatch.setattr(tensor_view, "to_tensors", counted)

    options: dict[str, Any] = {
        "task": ImageGoal(success_distance_m=1e-6), "observation": ("latent",),
        "autoreset_mode": mode, "max_episode_steps": [4, 9, 9],
    }  # fmt: skip
    envs = SanaWMVectorEnv(3, on_device(type(world)), as_torch=True, **options)
    twin = SanaWMVectorEnv(3, world, **options)
    goal = (60,)
    for each in (envs, twin):
        seen = each.reset(seed=0)[0]
    assert sent[goal] == 3
    for step in range(3):
        envs.step(drawn(3, step))
        twin.step(drawn(3, step))
    envs.restore(1, envs.snapshot(1))
    envs.branch(2, [0])
    envs.branch(1, [2])
    assert sent[goal] == 3
    twin.branch(2, [0])
    twin.branch(1, [2])
    mask = {"reset_mask": np.array([True, False, False])}
    seen, expected = envs.reset(options=mask)[0], twin.reset(options=mask)[0]
    assert sent[goal] == 4 and equal(expected, seen)
    for step in range(5):  # row 0 begins again on the way, with another goal
        expected, seen = twin.step(drawn(3, step))[0], envs.step(drawn(3, step))[0]
        assert equal(expected, seen)
    assert sent[goal] == 5


def test_tensors_are_the_callers_own(world: Any) -> None:
    """Writing in them changes nothing later."""
    options: dict[str, Any] = {
        "task": ImageGoal(), "observation": ("frames", "latent", "pose"), "as_torch": True,
        "autoreset_mode": "SameStep", "max_episode_steps": [2, 9],
    }  # fmt: skip
    clean, spoilt = (SanaWMVectorEnv(2, on_device(type(world)), **options) for _ in range(2))

    def check(one: Any, other: Any) -> None:
        """Equal; what came from the second is overwritten."""
        assert one.keys() == other.keys() == {"frames", "latent", "pose", "goal"}
        for name, part in one.items():
            assert torch.equal(part, other[name])
            other[name].zero_()

    check(clean.reset(seed=3)[0], spoilt.reset(seed=3)[0])
    for step in range(3):
        one, other = (env.step(drawn(2, step)) for env in (clean, spoilt))
        check(one[0], other[0])
        for row in np.flatnonzero(one[4].get("_final_obs", [])):
            check(one[4]["final_obs"][row], other[4]["final_obs"][row])
        for _ in range(2):
            check(*(env.restore(0, env.snapshot(0))[0] for env in (clean, spoilt)))
    mask = {"reset_mask": np.array([True, False])}
    check(*(env.reset(options=mask)[0] for env in (clean, spoilt)))


def test_latents_are_clipped_alike(world: Any) -> None:
    class Loud(type(world)):  # type: ignore[misc]
        def latent(self, state: Any) -> npt.NDArray[np.float32]:
            return 300 * super().latent(state)

    arrays = SanaWMVectorEnv(2, Loud(), observation=("latent",)).reset(seed=0)[0]
    tensors = SanaWMVectorEnv(2, on_device(Loud), observation=("latent",), as_torch=True)
    assert np.abs(arrays).max() == 100 and equal(arrays, tensors.reset(seed=0)[0])


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_world("tiny")


@pytest.mark.parametrize(
    ("view", "mode"), [(("frame",), "SameStep"), (("frames", "latent"), "Disabled")]
)
def test_a_learned_world_gives_the_arrays_as_tensors(
    view: tuple[str, ...], mode: str, tiny: Any
) -> None:
    options: dict[str, Any] = {
        "observation": view, "autoreset_mode": mode, "max_episode_steps": [1, 9]
    }  # fmt: skip
    runs = []
    for as_torch in (False, True):
        envs = SanaWMVectorEnv(2, tiny, as_torch=as_torch, **options)
        run = [envs.reset(seed=2)[0]]
        observation, _, _, truncated, infos = envs.step(drawn(2, 0))
        if mode == "SameStep":
            run += [observation, infos["final_obs"][0], envs.step(drawn(2, 1))[0]]
        else:
            run += [observation, envs.reset(options={"reset_mask": truncated})[0]]
        runs.append(run)
    assert all(equal(a, b) for a, b in zip(*runs, strict=True))


def test_nothing_of_a_learned_world_leaves_the_device(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole steps where there is nothing to bring to the host: meta tensors have no numbers."""
    monkeypatch.setattr(torch, "autocast", lambda *args, **kwargs: nullcontext())  # unknown there
    model, codec = (copy.deepcopy(part).to("meta") for part in (tiny.model, tiny.codec))
    # Without its localiser: cameras are made on the host, and so is the anchor.
    world = replace(tiny, model=model, codec=codec, localiser=None)
    for view, steps in ((("latent", "frame", "pose"), 2), (("frames",), 1)):
        options: dict[str, Any] = {
            "task": Follow(), "observation": view, "observation_size": (40, 30),
            "max_episode_steps": steps, "autoreset_mode": "SameStep", "as_torch": True,
        }  # fmt: skip
        envs = SanaWMVectorEnv(1, world, **options)
        observations, _ = envs.reset(seed=0)
        for step in range(steps):
            observations, *_, infos = envs.step(drawn(1, step))
        restored, _ = envs.restore(0, envs.snapshot(0))
        for name, space in envs.single_observation_space.items():  # type: ignore[attr-defined]
            for seen in (
                {n: part[0] for n, part in observations.items()},
                infos["final_obs"][0],
                restored,
            ):
                assert seen[name].is_meta and seen[name].shape == space.shape
    # What does go to the host is found out.
    command = envs.simulation.decode(begun := envs.snapshot(0).episode, drawn(1, 0)[0])
    [played] = envs.simulation.move([begun], [command])
    with pytest.raises(NotImplementedError, match="no data"):
        envs.simulation.observe([played])


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_resizing_is_cv2s_to_one_level(
    height: int, width: int, size: tuple[int, int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    given = resized(torch.from_numpy(image), size)
    assert given.dtype == torch.uint8 and given.shape == (*size, 3)
    assert np.abs(expected.astype(int) - given.numpy()).max() <= 1


def test_resized_frames_are_the_arrays_to_one_level(world: Any) -> None:
    for size in ((20, 24), (13, 50), (80, 96)):
        options: dict[str, Any] = {"observation_size": size}
        arrays = SanaWMVectorEnv(2, world, **options)
        tensors = SanaWMVectorEnv(2, on_device(type(world)), as_torch=True, **options)
        expected, given = arrays.reset(seed=0)[0], tensors.reset(seed=0)[0]
        assert given.shape == expected.shape == (2, *size, 3)
        assert np.abs(expected.astype(int) - given.numpy()).max() <= 1


def test_frames_that_are_made_at_once_are_kept_on_the_device(tiny: Any) -> None:
    state = tiny.begin(tiny.sample_start(np.random.default_rng(0)), 0)
    made = replace(state, chunk=1, decoded=torch.randint(0, 256, (24, 64, 64, 3)).byte())
    assert tiny.decode([made])[0] is made.decoded
    assert torch.equal(tiny.decode([made], last=True)[0], made.decoded[-1])


def test_environments_do_without_torch_until_a_world_or_a_caller_wants_it() -> None:
    code = (
        "import sys, sana_wm_gym, gymnasium as gym\n"
        "envs = gym.make_vec('SanaWM/World-v0', num_envs=2, world='procedural')\n"
        "envs.reset(seed=0)\n"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
