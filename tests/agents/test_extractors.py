"""Pictures of an observation are seen on top of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecTransposeImage

from sana_wm_gym.agents.extractors import CoarseViews, StackedViews, is_picture, parts_of
from sana_wm_gym.envs import SanaWMVectorEnv
from sana_wm_gym.envs.sb3 import SanaWMVecEnv
from sana_wm_gym.envs.tasks import ImageGoal
from sana_wm_gym.world.procedural.procedural_world import ProceduralWorld

PICTURE = spaces.Box(0, 255, (3, 20, 28), np.uint8)
SQUARE = spaces.Box(0, 255, (3, 20, 20), np.uint8)
VECTOR = spaces.Box(-1, 1, (5,), np.float32)
BOTH = spaces.Dict({"frame": PICTURE, "goal": PICTURE, "pose": VECTOR})


def observation(batch=2, **parts):
    space = {"frame": PICTURE, "goal": PICTURE, "pose": VECTOR}
    made = {name: torch.rand(batch, *box.shape) for name, box in space.items()}
    return {**made, **parts}


def test_the_first_layer_sees_view_and_goal_together():
    torch.manual_seed(0)
    net = StackedViews(BOTH, features_dim=16)
    assert net.pictures == ("frame", "goal") and net.vectors == ("pose",)
    assert net.convolutions[0].in_channels == 6
    seen = observation()
    features = net(seen)
    assert features.shape == (2, 16) and features.min() >= 0
    for name in ("frame", "goal", "pose"):
        changed = net({**seen, name: 1 - seen[name]})
        assert not torch.equal(changed, features), name
    # Rows of a batch do not see each other.
    one = {name: part[:1] for name, part in seen.items()}
    torch.testing.assert_close(net(one), features[:1])


def test_a_lone_picture_is_enough():
    net = StackedViews(PICTURE, features_dim=7, channels=(4, 8))
    assert net(torch.rand(3, 3, 20, 28)).shape == (3, 7)
    assert parts_of(PICTURE) == {"": PICTURE} and is_picture(PICTURE) and not is_picture(VECTOR)


@pytest.mark.parametrize("size", [(8, 8), (9, 15), (64, 64), (37, 50)])
def test_any_size_fits(size):
    space = spaces.Box(0, 255, (3, *size), np.uint8)
    assert StackedViews(space, 5)(torch.rand(2, 3, *size)).shape == (2, 5)


@pytest.mark.parametrize(
    ("kind", "space", "settings", "message"),
    [
        (StackedViews, VECTOR, {}, "at least one"),
        (StackedViews, {"a": PICTURE, "b": SQUARE}, {}, "of one size"),
        (StackedViews, {"a": PICTURE, "b": spaces.Discrete(3)}, {}, "expected boxes alone"),
        (StackedViews, spaces.Box(0, 255, (64, 64, 3), np.uint8), {}, "sides of at least 8"),
        (StackedViews, PICTURE, {"channels": ()}, "at least one"),
        (CoarseViews, VECTOR, {}, "expected at least one image"),
        (CoarseViews, PICTURE, {"cells": 21}, "expected at least one image"),
        (CoarseViews, PICTURE, {"cells": 0}, "expected at least one image"),
        (CoarseViews, PICTURE, {"channels": ()}, "expected at least one image"),
    ],
)
def test_other_observations_and_settings_are_refused(kind, space, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(spaces.Dict(space) if isinstance(space, dict) else space, **settings)


def test_it_fits_a_policy_of_stable_baselines3():
    world = ProceduralWorld(size=(16, 16), scenes=(5,))
    vector = SanaWMVectorEnv(2, world, task=ImageGoal(chunks=(1,)))
    how = {
        "features_extractor_class": StackedViews,
        "features_extractor_kwargs": {"features_dim": 8},
    }
    env = SanaWMVecEnv(vector)
    model = PPO("MultiInputPolicy", env, n_steps=4, batch_size=4, n_epochs=1, policy_kwargs=how)
    assert isinstance(model.get_env(), VecTransposeImage)
    before = [p.clone() for p in model.policy.features_extractor.parameters()]
    model.learn(8)
    after = list(model.policy.features_extractor.parameters())
    assert all(not torch.equal(b, a) for b, a in zip(before, after, strict=True))


def test_coarse_views_see_cell_means_alone():
    torch.manual_seed(0)
    space = spaces.Dict(
        {
            "frame": spaces.Box(0, 255, (3, 16, 24), np.uint8),
            "goal": spaces.Box(0, 255, (3, 8, 8), np.uint8),
            "pose": VECTOR,
        }
    )
    net = CoarseViews(space, features_dim=16, cells=4)
    seen = {name: torch.rand(2, *part.shape) for name, part in space.spaces.items()}
    features = net(seen)
    assert features.shape == (2, 16)
    # Within a cell of 4 x 6 pixels the order does not matter, across cells it does.
    frame = seen["frame"]
    within = frame.unflatten(3, (4, 6)).flip(4).flatten(3)
    torch.testing.assert_close(net({**seen, "frame": within}), features)
    for name in space.spaces:
        changed = net({**seen, name: seen[name].flip(-1)})
        assert not torch.allclose(changed, features), name
