"""A planned path as a world: the clip in chunks, and nothing off the path."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from camera_paths import ahead, poses_ahead
from hypothesis import given, settings
from hypothesis import strategies as st
from stepping import advance, frames_of, latents_of

from sana_wm_gym.camera import MotionLimits
from sana_wm_gym.camera.action_string import rollout_action_string
from sana_wm_gym.camera.keys import SANA_WM_2026_06
from sana_wm_gym.camera.se3 import rotation_y
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.world.released.replay import TOLERANCE, GeneratedClip, ReplayState, ReplayWorld
from sana_wm_gym.world.world_model import Start, WorldSpec

INTRINSICS = (30.0, 30.0, 24.0, 20.0)
SPEC = WorldSpec("planned", 40, 48, 16.0, 24, (2, 5, 6), INTRINSICS, MotionLimits(), scenes=())
IMAGE = np.full((SPEC.height, SPEC.width, 3), 7, dtype=np.uint8)
START = Start(IMAGE, SPEC.intrinsics, prompt="a room")


class Numbered:
    """Frame i is grey level i; records its calls."""

    def __init__(self, lacking: int = 0) -> None:
        self.calls: list[tuple[CameraTrajectory, str, int]] = []
        self.lacking = lacking

    def clip(
        self, image: np.ndarray, trajectory: CameraTrajectory, prompt: str, *, seed: int
    ) -> GeneratedClip:
        self.calls.append((trajectory, prompt, seed))
        count = len(trajectory) - self.lacking
        frames = np.ones((count, *image.shape), np.uint8)
        frames *= np.arange(count, dtype=np.uint8)[:, None, None, None]
        latents = np.ones(((count - 1) // 8 + 1, *SPEC.latent_shape), np.float32)
        return GeneratedClip(frames, latents * np.arange(len(latents))[:, None, None, None])


def plan(chunks: int = 3) -> np.ndarray:
    return poses_ahead(range(24 * chunks + 1), 0.02, 0.01)


def world(chunks: int = 3) -> ReplayWorld:
    return ReplayWorld(Numbered(), SPEC, plan(chunks))


def camera(chunk: int) -> CameraTrajectory:
    return ahead(SPEC, chunk, 0.02, 0.01)


def after(model: ReplayWorld, chunks: int) -> ReplayState:
    state = model.begin(START, seed=5)
    for chunk in range(chunks):
        [state] = advance(model, [state], [camera(chunk)])
    return state


def test_chunks_show_the_clip_in_order() -> None:
    model = world()
    state = model.begin(START, seed=5)
    [(trajectory, prompt, seed)] = model.generator.calls  # type: ignore[attr-defined]
    assert np.array_equal(trajectory.c2w, plan()) and (prompt, seed) == ("a room", 5)
    assert np.array_equal(frames_of(model, state), IMAGE[None])
    assert latents_of(model, state).shape == (1, 2, 5, 6)
    for chunk in range(model.chunks):
        [state] = advance(model, [state], [camera(chunk)])
        numbers = frames_of(model, state)[:, 0, 0, 0]
        assert numbers.tolist() == list(range(24 * chunk + 1, 24 * chunk + 25))
        assert latents_of(model, state)[:, 0, 0, 0].tolist() == [3 * chunk + i for i in (1, 2, 3)]
    assert len(model.generator.calls) == 1  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="after the end of the plan; expected at most 3 chunks"):
        advance(model, [state], [camera(2)])


@settings(max_examples=30)
@given(
    frame=st.integers(0, 24), entry=st.integers(0, 11), size=st.floats(1e-6, 1.0), up=st.booleans()
)
def test_a_camera_counts_as_planned_within_the_tolerance_alone(
    frame: int, entry: int, size: float, up: bool
) -> None:
    model, poses = world(1), plan(1)
    row, column = divmod(entry, 4)
    if column < 3:
        turn = rotation_y(size if up else -size)
        poses[frame, :3, :3] = poses[frame, :3, :3] @ turn
    else:
        poses[frame, row, 3] += size if up else -size
    far = np.abs(poses[frame] - plan(1)[frame]).max() > TOLERANCE
    state, given_camera = model.begin(START, seed=0), replace(camera(0), c2w=poses)
    if far:
        with pytest.raises(ValueError, match=f"leaves the plan at frame {frame}, "):
            advance(model, [state], [given_camera])
    else:
        assert advance(model, [state], [given_camera])[0].chunk == 1


@pytest.mark.parametrize(
    ("given_camera", "message"),
    [
        (
            replace(camera(0), intrinsics=np.array([33.0, 30, 24, 20])),
            r"given intrinsics \[33. 30. 24. 20.\]; the plan's clip was made with \[30. 30.",
        ),
        (camera(1), r"frame 0, 0.48 m and 13.8 degrees away"),
    ],
)
def test_cameras_that_are_not_the_plans(given_camera: CameraTrajectory, message: str) -> None:
    model = world()
    with pytest.raises(ValueError, match=message):
        advance(model, [model.begin(START, seed=0)], [given_camera])


def test_a_state_keeps_its_plan_and_clip() -> None:
    """A world with another plan shows the rest of an unpacked state without a call."""
    model, other = world(), world(1)
    state = after(model, 2)
    copied = other.unpack(model.pack(state))
    [last], [expected] = (
        advance(w, [s], [camera(2)]) for w, s in ((other, copied), (model, state))
    )
    assert last.chunk == 3 and not other.generator.calls  # type: ignore[attr-defined]
    assert np.array_equal(frames_of(other, last), frames_of(model, expected))
    assert np.array_equal(latents_of(other, last), latents_of(model, expected))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("clip.latents"), "no array 'clip.latents'"),
        (lambda a: a.update(more=a["chunk"]), "'more'"),
        (lambda a: a.update(chunk=np.array(4)), "after 4 chunks of 73 planned"),
        (lambda a: a.update({"clip.frames": a["clip.frames"][1:]}), r"frames \(72, 40, 48, 3\)"),
        (lambda a: a.update(image=a["image"][1:]), r"image.* \(39, 48, 3\)"),
    ],
)
def test_damaged_arrays(change: Any, message: str) -> None:
    model = world()
    arrays = dict(model.pack(after(model, 1)))
    change(arrays)
    with pytest.raises(ValueError, match=message):
        model.unpack(arrays)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        (plan()[:-1], r"given 72 poses; expected 24 k \+ 1"),
        (plan()[:1], "given 1 poses; .* k >= 1"),
        (plan()[24:], "relative to the first"),
        (2 * plan(), "rigid"),
    ],
)
def test_plans_that_are_none(poses: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ReplayWorld(Numbered(), SPEC, poses)


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="no first frames of its own"):
        world().sample_start(np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"expected uint8 \(40, 48, 3\)"):
        world().begin(replace(START, image=IMAGE[1:]), seed=0)
    with pytest.raises(ValueError, match="without latent_shape"):
        ReplayWorld(Numbered(), replace(SPEC, latent_shape=None), plan())
    with pytest.raises(ValueError, match=r"frames \(72, 40, 48, 3\) .* expected \(73, 40, 48, 3\)"):
        ReplayWorld(Numbered(lacking=1), SPEC, plan()).begin(START, seed=0)
    assert replace(world(), plan=plan(2)).chunks == 2


def test_nobody_can_write_into_the_clip() -> None:
    model = world()
    for chunks in (0, 1):
        state = after(model, chunks)
        for shown in (frames_of(model, state), latents_of(model, state)):
            with pytest.raises(ValueError, match="read-only"):
                shown[:] = 0


def test_the_prompt_of_a_finished_clip_stays() -> None:
    model = world()
    with pytest.raises(ValueError, match="already generated: given prompt 'a hall'"):
        model.with_prompt(model.begin(START, 0), "a hall")


def test_keys_that_were_planned_can_be_pressed() -> None:
    """The environment integrates chunk by chunk, with the keys' inertia, what was planned whole."""
    text = "w-20,dw-13,none-15"
    model = ReplayWorld(Numbered(), SPEC, rollout_action_string(text, SANA_WM_2026_06))
    env = SanaWMEnv(model, image=IMAGE, observation=("frames",), max_episode_steps=model.chunks)
    env.reset(seed=0)
    env.step_string("w-20,dw-4")
    with pytest.raises(ValueError, match="leaves the plan at frame 25"):
        env.step_string("w-24")
    observation, _, _, truncated, info = env.step_string("dw-9,none-15")
    assert truncated and observation[:, 0, 0, 0].tolist() == list(range(25, 49))
    np.testing.assert_allclose(info["c2w"], model.plan[25:], atol=1e-12)
