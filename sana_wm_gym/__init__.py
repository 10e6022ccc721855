"""SANA-WM as a Gymnasium environment: an action moves a camera, a world state answers with frames.

Importing this package registers the ids in `ENV_IDS`; `gym.make("sana_wm_gym:SanaWM/World-v0")`
imports it and makes an environment in one line. Torch is imported only when a learned world is
built.
"""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import gymnasium

__all__ = ["ENV_ID", "ENV_IDS", "__version__"]

__version__ = "0.1.0"

# Installed, `agents` and `conf` are inside this package; in a checkout they are next to it.
if not (Path(__file__).parent / "agents").is_dir():
    __path__.append(str(Path(__file__).parents[1]))

ENV_ID = "SanaWM/World-v0"
"""Id of `sana_wm_gym.envs.SanaWMEnv`; keyword arguments of `gymnasium.make` are its own."""

ENV_IDS = MappingProxyType(
    {
        ENV_ID: "free_roam",
        "SanaWM/ImageGoal-v0": "image_goal",
        "SanaWM/Follow-v0": "follow",
        "SanaWM/Explore-v0": "explore",
        "SanaWM/Inspect-v0": "inspect",
        "SanaWM/ImageGoalHER-v0": "image_goal_her",
    }
)
"""Id -> task. Each id makes single environments (`gymnasium.make`) and batches (`make_vec`)."""

for _id, _task in ENV_IDS.items():
    # `compute_reward`, which relabels goals, would be hidden by Gymnasium's checking wrappers. The
    # truncation horizon is the environment's own argument, so no TimeLimit is asked for.
    _bare = _task == "image_goal_her"
    gymnasium.register(
        id=_id,
        entry_point="sana_wm_gym.envs:SanaWMEnv",
        vector_entry_point="sana_wm_gym.envs:SanaWMVectorEnv",
        kwargs={"task": _task},
        order_enforce=not _bare,
        disable_env_checker=_bare,
    )
