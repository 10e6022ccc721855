"""What tests ask of any world, one state or a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.world.world_model import ChunkInput, WorldModel, as_arrays


def frames_of(world: WorldModel[Any], state: Any, last: bool = False) -> npt.NDArray[np.uint8]:
    """Frames of one state's last chunk."""
    return as_arrays(world.decode([state], last))[0]


def latents_of(world: WorldModel[Any], state: Any) -> npt.NDArray[np.float32]:
    """Latent frames of one state's last chunk."""
    return as_arrays(world.latents([state]))[0]


def advance(
    world: WorldModel[Any], states: Sequence[Any], cameras: Sequence[CameraTrajectory]
) -> list[Any]:
    """One chunk for each state along its camera."""
    return world.advance(states, [ChunkInput(camera) for camera in cameras])
