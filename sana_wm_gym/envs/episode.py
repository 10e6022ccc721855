"""Where a rollout stands, as a value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.keys import KeyState
from sana_wm_gym.camera.trajectory import CameraState


@dataclass(frozen=True, kw_only=True)
class Episode:
    """Where a rollout stands between two steps.

    Attributes:
        world: The world's own state.
        camera: Integrator state: pose relative to the first frame, accumulated angles.
        keys: Inertia of keys.
        intrinsics: (fx, fy, cx, cy) in pixels of the world's frames.
        c2w: Commanded poses of the last chunk, float64 [n, 4, 4]; [1, 4, 4] before any.
            In a world without camera, what the key map makes of the keys.
        chunk: Chunks generated so far.
        task: The task's own state.
        over: The task has ended the episode.
        intrinsics_from: Where the intrinsics come from; see `Start`.
        prompt: Scene text the episode was begun with.
        anchor_confidence: Probability in [0, 1] that the first frame shows a place the world
            covers; 1.0 for worlds that do not localise.
    """

    world: Any = field(default=None, metadata={"packed": False})
    camera: CameraState
    keys: KeyState
    intrinsics: tuple[float, float, float, float]
    c2w: npt.NDArray[np.float64]
    chunk: int
    task: Any = field(default=None, metadata={"packed": False})
    over: bool = False
    intrinsics_from: str = "given"
    prompt: str = ""
    anchor_confidence: float = 1.0
