"""Gymnasium environments around a world model."""

from sana_wm_gym.envs.online_metrics import KnownCamera, OnlineCameraMetrics
from sana_wm_gym.envs.recorder import ChunkVideoRecorder, VideoWriter, write_video
from sana_wm_gym.envs.sana_wm_env import SanaWMEnv
from sana_wm_gym.envs.snapshot import Snapshot

__all__ = [
    "ChunkVideoRecorder",
    "KnownCamera",
    "OnlineCameraMetrics",
    "SanaWMEnv",
    "Snapshot",
    "VideoWriter",
    "write_video",
]
