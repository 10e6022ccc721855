"""SANA-WM as a Gymnasium environment: an action moves a camera, a world state answers with frames.

Importing this package registers "SanaWM/World-v0"; `gym.make("sana_wm_gym:SanaWM/World-v0")` does
both in one line. Torch is imported only when a learned world is built.
"""

from __future__ import annotations

import gymnasium

__all__ = ["ENV_ID", "__version__"]

__version__ = "0.1.0"

ENV_ID = "SanaWM/World-v0"
"""Id of `sana_wm_gym.envs.SanaWMEnv`; keyword arguments of `gymnasium.make` are its own."""

# The truncation horizon is the environment's own argument, so no TimeLimit wrapper is asked for.
gymnasium.register(id=ENV_ID, entry_point="sana_wm_gym.envs:SanaWMEnv")
