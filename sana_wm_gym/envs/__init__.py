"""Gymnasium environments around a world model."""

from sana_wm_gym.envs.episode import Episode
from sana_wm_gym.envs.recorder import ChunkVideoRecorder
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.envs.simulation import Simulation
from sana_wm_gym.envs.snapshot import Snapshot
from sana_wm_gym.envs.vector_env import SanaWMVectorEnv

__all__ = [
    "ChunkVideoRecorder",
    "Episode",
    "SanaWMEnv",
    "SanaWMVectorEnv",
    "Simulation",
    "Snapshot",
]
