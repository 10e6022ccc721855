"""The environment's contract: determinism, refusals, what is returned, what is not computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from env_values import EVERYTHING, same, started

from sana_wm_gym.camera import Controls, rollout_action_string
from sana_wm_gym.camera.keys import (
    CONTROL_NAMES,
    DISCRETE_ACTIONS,
    KEY_MAPS,
    SANA_WM_2026_06,
)
from sana_wm_gym.envs import SanaWMEnv
from sana_wm_gym.world.world_model import Start


def run(env: SanaWMEnv, seed: int, steps: int = 3) -> list[Any]:
    """Every byte of a short rollout with seeded actions."""
    env.action_space.seed(seed)
    results: list[Any] = [env.reset(seed=seed)]
    results += [env.step(env.action_space.sample()) for _ in range(steps)]
    return results


def test_same_seed_same_bytes(world: Any) -> None:
    first = run(SanaWMEnv(world, observation=EVERYTHING), seed=5)
    assert same(first, run(SanaWMEnv(world, observation=EVERYTHING), seed=5))
    assert not same(first, run(SanaWMEnv(world, observation=EVERYTHING), seed=6))


def test_interleaved_environments_do_not_touch_each_other(world: Any) -> None:
    a, b = SanaWMEnv(world), SanaWMEnv(world)
    alone = run(SanaWMEnv(world), seed=1)
    a.action_space.seed(1)
    together = [a.reset(seed=1)]
    b.reset(seed=2)
    for _ in range(3):
        together.append(a.step(a.action_space.sample()))
        b.step(b.action_space.sample())
    assert same(alone, together)


def test_noise_of_a_seed_is_the_same_for_a_drawn_and_a_given_start(world: Any) -> None:
    env = SanaWMEnv(world)
    image, _ = env.reset(seed=3)
    drawn = env.step(np.zeros(5))[0]
    env.reset(seed=3, options={"image": image})
    assert same(env.step(np.zeros(5))[0], drawn)


def test_info_is_the_commanded_camera(world: Any) -> None:
    env = SanaWMEnv(world)
    _, info = env.reset(seed=0)
    assert np.array_equal(info["c2w"], np.tile(np.eye(4), (24, 1, 1)))
    assert info["intrinsics"].tolist() == list(world.spec.intrinsics)
    poses = [info["c2w"][:1]]
    for index, text in enumerate(["w-24", "dw-12,none-12", "i-24"], start=1):
        info = env.step_string(text)[4]
        assert info["chunk_index"] == index
        poses.append(info["c2w"])
    expected = rollout_action_string("w-24,dw-12,none-12,i-24", SANA_WM_2026_06)
    assert np.array_equal(np.concatenate(poses), expected)


@pytest.mark.parametrize("parts", [1, 3])
def test_action_kinds_agree_on_the_motion_they_stand_for(world: Any, parts: int) -> None:
    held = frozenset({"forward", "yaw_right"})
    index = DISCRETE_ACTIONS.index(held)
    pressed = np.array([name in held for name in CONTROL_NAMES], dtype=np.int8)
    discrete = SanaWMEnv(world, action_mode="discrete", actions_per_chunk=parts)
    keys = SanaWMEnv(world, action_mode="keys", actions_per_chunk=parts)
    for env in (discrete, keys):
        env.reset(seed=0)
    for _ in range(2):
        a = discrete.step(index if parts == 1 else np.full(3, index))
        b = keys.step(pressed if parts == 1 else np.tile(pressed, (3, 1)))
        assert same(a, b)
    text = started(SanaWMEnv(world))
    text.step_string("dw-24")
    assert same(text.step_string("dw-24"), a)


def test_a_planar_action_is_a_twist_without_the_rest(world: Any) -> None:
    planar, whole = SanaWMEnv(world, action_mode="planar"), SanaWMEnv(world)
    for env in (planar, whole):
        env.reset(seed=0)
    assert same(planar.step(np.array([0.5, -1, 1])), whole.step(np.array([0.5, 0, -1, 0, 1])))


def test_one_action_per_latent_frame_is_held_for_eight_frames(world: Any) -> None:
    env = started(SanaWMEnv(world, actions_per_chunk=3))
    rows = np.zeros((3, 5))
    rows[1, 4] = 1.0
    z = env.step(rows)[4]["c2w"][:, 2, 3]
    moved = np.diff(np.concatenate([[0.0], z])) > 0
    assert moved.tolist() == [False] * 8 + [True] * 8 + [False] * 8


def test_motion_stops_at_the_limits_of_the_world(world: Any) -> None:
    env, limits = SanaWMEnv(world), world.spec.limits
    env.reset(seed=0)
    c2w = env.step(np.array([0, 0, 0, 1, 1], np.float32))[4]["c2w"]
    assert c2w[-1, :3, 3] == pytest.approx([0, 24 * limits.down, 24 * limits.forward], rel=1e-5)
    for _ in range(6):
        c2w = env.step(np.array([0, 1, 0, 0, 0], np.float32))[4]["c2w"]
    # Looking up: the optical axis has y = -sin(pitch).
    assert -c2w[-1, 1, 2] == pytest.approx(np.sin(limits.pitch_limit))


@pytest.mark.parametrize("mode", ["continuous", "keys"])
def test_motion_by_keys_keeps_its_inertia_between_chunks(world: Any, mode: str) -> None:
    env = started(SanaWMEnv(world, action_mode=mode))
    env.step_string("w-24")
    still = np.zeros(env.action_space.shape)
    start, end = env.step(still)[4]["c2w"][[0, -1], 2, 3]
    assert (end > start) == (mode == "keys")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "cooking"}, "task is 'cooking', expected one of free_roam"),
        ({"world": "moon"}, "unknown world 'moon', expected one of procedural, tiny"),
        ({"action_mode": "telepathy"}, "expected one of continuous, planar, discrete"),
        ({"actions_per_chunk": 5}, "actions_per_chunk is 5, expected a divisor of 24"),
        ({"key_map": "qwerty"}, "key_map is 'qwerty', expected one of " + ", ".join(KEY_MAPS)),
        ({"observation": ()}, "expected different names"),
        ({"observation": ("frame", "frame")}, "expected different names"),
        ({"observation": ("smell",)}, r"\['smell'\], expected names of \['frame', 'frames',"),
        ({"observation_size": (0, 64)}, "observation_size is"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0, expected an integer >= 1"),
        ({"world": "procedural", "observation": ("latent",)}, "'procedural' cannot be observed as"),
        ({"render_mode": "ascii"}, "render_mode is 'ascii', expected one of"),
    ],
)
def test_bad_constructor_arguments(options: dict[str, Any], message: str, world: Any) -> None:
    with pytest.raises(ValueError, match=message):
        SanaWMEnv(**({"world": world} | options))


IMAGE = np.zeros((40, 48, 3), np.uint8)
START = Start(IMAGE, (30.0, 30.0, 24.0, 20.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"secne": 3}, r"unknown reset options \['secne'\], expected keys of \['image'"),
        ({"scene": 3.5}, "scene is 3.5, expected an integer"),
        ({"scene": 99}, "no scene 99"),
        ({"prompt": 7}, "prompt is a int, expected a string"),
        ({"image": IMAGE[:-1]}, r"\(39, 48, 3\), expected uint8 \(40, 48, 3\)"),
        ({"image": IMAGE + 300.0}, r"first frame is float64 .* outside \[0, 1\]"),
        ({"image": IMAGE, "intrinsics": [1, 2, 3]}, r"expected \(fx, fy, cx, cy\)"),
        ({"image": IMAGE, "intrinsics": [np.nan, 1, 1, 1]}, "positive focal lengths"),
        ({"image": IMAGE, "scene_c2w": np.eye(3)}, r"scene_c2w has shape \(3, 3\)"),
        ({"image": IMAGE, "scene_c2w": 2 * np.eye(4)}, "scene_c2w frame 0"),
        ({"intrinsics": [1, 1, 1, 1]}, "expected 'image' with them"),
        ({"start": START, "scene": 3}, "expected a Start and no other option"),
        ({"start": IMAGE}, "'start' is a ndarray"),
    ],
)
def test_bad_reset_options_leave_the_running_rollout(
    world: Any, options: dict[str, Any], message: str
) -> None:
    env = started(SanaWMEnv(world))
    before = env.snapshot()
    for seed in (None, 8):
        with pytest.raises(ValueError, match=message):
            env.reset(seed=seed, options=options)
    assert env.snapshot() == before and env.np_random_seed == 0


def test_reset_options_reach_the_world(world: Any) -> None:
    env = SanaWMEnv(world)
    env.reset(seed=0, options={"scene": 4})
    assert env.snapshot().episode.world.prompt == "scene 4"
    env.reset(seed=0, options={"scene": 4, "prompt": "a hall"})
    assert env.snapshot().episode.world.prompt == "a hall"
    image = IMAGE.copy()
    observation, info = env.reset(options={"image": image, "intrinsics": (9, 8, 7, 6)})
    image[:] = 255
    assert not observation.any() and not env.snapshot().episode.world.image.any()
    assert info["intrinsics"].tolist() == [9, 8, 7, 6]
    assert env.intrinsics_from == "given"
    env.reset(options={"start": START})
    assert env.snapshot().episode.intrinsics == START.intrinsics


BAD_ACTIONS = [
    ("continuous", 1, np.full(5, np.nan), "yaw is nan"),
    ("continuous", 1, np.array([0, np.inf, 0, 0, 0]), "pitch is inf"),
    ("continuous", 1, np.full(5, 1.5), "expected a finite number in"),
    ("continuous", 1, np.zeros(4), "expected"),
    ("continuous", 3, np.zeros(5), r"expected \(3, 5\)"),
    ("discrete", 1, 13, r"expected an integer in \[0, 12\]"),
    ("discrete", 1, 1.0, "expected an integer"),
    ("discrete", 3, np.array([0, -1, 0]), "expected an integer"),
    ("planar", 1, np.zeros(5), r"expected \(3,\)"),
    ("planar", 3, np.full((3, 3), np.nan), "yaw is nan"),
    ("keys", 1, np.full(8, 2), "expected only 0 and 1"),
    ("keys", 3, np.zeros(8), r"expected \(3, 8\)"),
]


@pytest.mark.parametrize(("mode", "parts", "action", "message"), BAD_ACTIONS)
def test_bad_actions_are_refused_before_any_work(
    world: Any, mode: str, parts: int, action: Any, message: str
) -> None:
    env = started(SanaWMEnv(world, action_mode=mode, actions_per_chunk=parts))
    env.action_space.seed(0)
    env.step(env.action_space.sample())
    before, advances = env.snapshot(), world.calls["advance"]
    with pytest.raises(ValueError, match=message):
        env.step(action)
    assert env.snapshot() == before
    assert world.calls["advance"] == advances


def test_bad_strings_and_controls_are_refused(world: Any) -> None:
    env = started(SanaWMEnv(world))
    for call, given, message in (
        (env.step_string, "w-12,x-12", "segment 2 .* unknown key 'x'"),
        (env.step_string, "w-23", "23 frames long, expected 24"),
        (env.step_controls, Controls.still(8), "controls have 8 frames, expected 24"),
    ):
        with pytest.raises(ValueError, match=message):
            call(given)  # type: ignore[operator]
    assert world.calls["advance"] == 0


def test_a_step_that_fails_inside_the_world_changes_nothing(world: Any) -> None:
    env, twin = SanaWMEnv(world), SanaWMEnv(world)
    for each in (env, twin):
        each.reset(seed=0)
        each.step(np.ones(5))
    world.broken = True
    with pytest.raises(RuntimeError, match="broke down"):
        env.step(np.ones(5))
    world.broken = False
    assert same(env.step(-np.ones(5)), twin.step(-np.ones(5)))
