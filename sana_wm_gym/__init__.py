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

_REGISTERED = (
    # id, task, max_episode_steps (as the task's own; tasks are imported with the environments)
    (ENV_ID, "free_roam", 40),
    ("SanaWM/ImageGoal-v0", "image_goal", 8),
    ("SanaWM/Follow-v0", "follow", 16),
    ("SanaWM/Explore-v0", "explore", 40),
    ("SanaWM/Inspect-v0", "inspect", 24),
    ("SanaWM/ImageGoalHER-v0", "image_goal_her", 8),
)

ENV_IDS = MappingProxyType({env_id: task for env_id, task, _ in _REGISTERED})
"""Id -> task. Each id makes single environments (`gymnasium.make`) and batches (`make_vec`)."""

for _id, _task, _steps in _REGISTERED:
    gymnasium.register(
        id=_id,
        entry_point="sana_wm_gym.envs:SanaWMEnv",
        vector_entry_point="sana_wm_gym.envs:SanaWMVectorEnv",
        kwargs={"task": _task},
        max_episode_steps=_steps,
    )
