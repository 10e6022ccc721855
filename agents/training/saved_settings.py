"""Settings read from a file, rebuilt as objects without running code that the file names.

hydra would call any `_target_` and resolve any interpolation of a file. Here a string is a string,
and only names of `KNOWN` are called or looked up.
"""

from __future__ import annotations

import pkgutil
import sys
from functools import partial
from typing import Any

KNOWN = frozenset(
    {
        "sana_wm_gym.agents.extractors.CoarseViews",
        "sana_wm_gym.agents.extractors.StackedViews",
        "sana_wm_gym.agents.training.config.EvaluationConfig",
        "sana_wm_gym.agents.training.learner.RandomPolicy",
        "sana_wm_gym.envs.tasks.Explore",
        "sana_wm_gym.envs.tasks.Follow",
        "sana_wm_gym.envs.tasks.ImageGoal",
        "sana_wm_gym.envs.tasks.Inspect",
        "sana_wm_gym.envs.tasks.PoseDistance",
        "sana_wm_gym.envs.tasks.Shaped",
        "sana_wm_gym.envs.tasks.Sparse",
        "sana_wm_gym.envs.tasks.ThumbnailGoal",
        "sana_wm_gym.world.catalogue.load_world",
        "sb3_contrib.RecurrentPPO",
        "stable_baselines3.DQN",
        "stable_baselines3.HerReplayBuffer",
        "stable_baselines3.PPO",
        "stable_baselines3.SAC",
        "stable_baselines3.common.utils.LinearSchedule",
    }
)
"""Everything that the choices of conf/ for training name."""


def rebuild(settings: Any, trust: bool = False) -> Any:
    """JSON values as the objects that their `_target_`s name.

    Args:
        settings: Values, lists and objects, as hydra takes them; `_partial_` as there.
        trust: Import names outside of `KNOWN`, each of which is printed before.

    Raises:
        ValueError: A name is not known and `trust` is false, there is nothing of this name, or it
            does not take these arguments.
    """
    if isinstance(settings, list):
        return [rebuild(value, trust) for value in settings]
    if not isinstance(settings, dict):
        return settings
    values = {name: rebuild(value, trust) for name, value in settings.items()}
    target, deferred = values.pop("_target_", None), values.pop("_partial_", False)
    if target is None:
        return values
    if target == "hydra.utils.get_class":
        return _named(values["path"], trust)
    found = _named(target, trust)
    if target.endswith(".load_world"):
        if trust and ":" in values["name"] and not values["name"].startswith("hf://"):
            _announce(values["name"])
        values["code"] = trust  # "package.module:object" is a world too
    try:
        return partial(found, **values) if deferred else found(**values)
    except TypeError as error:
        raise ValueError(f"{target}: {error}") from error


def _named(name: str, trust: bool) -> Any:
    if name not in KNOWN:
        if not trust:
            raise ValueError(
                f"settings name {name!r}, which is none of this project's; trust=true imports it"
            )
        _announce(name)
    try:
        return pkgutil.resolve_name(name)
    except (AttributeError, ImportError) as error:
        raise ValueError(f"there is no {name}: {error}") from error


def _announce(name: str) -> None:
    print(f"trust=true imports {name}", file=sys.stderr)
