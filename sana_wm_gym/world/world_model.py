"""The contract every world keeps: a start image, then one latent chunk per camera segment.

A world is a function of values. `begin` turns a start into a state, `advance` turns a state and
24 camera poses into the next state, `frames` shows what the last chunk looks like. Nothing is
remembered inside the world, so snapshot, branch and reset are assignments, and any set of states
can share a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.world.procedural.appearance import Surface

FRAMES_PER_LATENT = 8
LATENTS_PER_CHUNK = 3
CHUNK_FRAMES = FRAMES_PER_LATENT * LATENTS_PER_CHUNK


@dataclass(frozen=True)
class WorldSpec:
    """What a world promises about its frames and cameras.

    Attributes:
        name: Short name, as in `gym.make(..., world=name)`.
        height: Frame height in pixels.
        width: Frame width in pixels.
        fps: Frames per second of every chunk; 16 for SANA-WM.
        latent_shape: (channels, rows, columns) of one latent frame, or None for a world
            without latents.
        intrinsics: Default (fx, fy, cx, cy) in pixels of the height x width frame.
        limits: Motion per frame that the world was made for; normalised actions of +-1 map to it.
        scenes: Seeds of the scenes that `sample_start` draws from.
        start_radius: Starts are drawn at most this far, in metres, from a scene's most open
            spot; None for anywhere.
        surfaces: What varies from episode to episode and can be named in a prompt.
    """

    name: str
    height: int
    width: int
    fps: float
    latent_shape: tuple[int, int, int] | None
    intrinsics: tuple[float, float, float, float]
    limits: MotionLimits
    scenes: tuple[int, ...]
    start_radius: float | None = None
    surfaces: tuple[Surface, ...] = ()


@dataclass(frozen=True)
class Start:
    """Where a rollout begins.

    Attributes:
        image: First frame, uint8 [height, width, 3] RGB.
        intrinsics: (fx, fy, cx, cy) in pixels of `image`.
        prompt: Scene text; a drawn start's names the variants that it shows. Empty where there is
            nothing to say.
        scene: Seed of the procedural scene the image was taken in, or None for a user's image.
        scene_c2w: Camera-to-world pose of the first frame in that scene, float64 [4, 4], or None.
            Only the ground-truth world reads it; a learned world sees `image` alone.
        appearance: Variant of each varying surface of the scene, as an index; empty where none
            vary. Only the ground-truth world reads it.
        intrinsics_from: Where the intrinsics come from: "given", "assumed" (nobody said, so the
            world's own), or the name of what estimated them.
    """

    image: npt.NDArray[np.uint8]
    intrinsics: tuple[float, float, float, float]
    prompt: str = ""
    scene: int | None = None
    scene_c2w: npt.NDArray[np.float64] | None = None
    appearance: tuple[int, ...] = ()
    intrinsics_from: str = "given"


StateT = TypeVar("StateT")


class WorldModel(Protocol[StateT]):
    """A camera-controlled video world. `StateT` is its own frozen state dataclass."""

    @property
    def spec(self) -> WorldSpec:
        """Frame size, rate, motion limits and scenes."""
        ...

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        """Draw a start in `scene`, or in one of `spec.scenes`.

        Raises:
            ValueError: The world has no such scene, or cannot make its own first frames.
        """
        ...

    def begin(self, start: Start, seed: int) -> StateT:
        """State before the first chunk. All later noise is a function of (seed, chunk index).

        Raises:
            ValueError: The start image or intrinsics do not fit the world.
        """
        ...

    def advance(
        self, states: Sequence[StateT], cameras: Sequence[CameraTrajectory]
    ) -> list[StateT]:
        """Generate one chunk for each state, all in one batch.

        Args:
            states: Independent worlds, possibly at different chunk indices.
            cameras: One per state: 25 poses relative to the rollout's first frame, the last pose
                of the previous chunk (frame 0 at the start) and the 24 commanded ones.

        Returns:
            New states in the same order; the given ones stay valid.
        """
        ...

    def frames(self, state: StateT) -> npt.NDArray[np.uint8]:
        """The last chunk's frames, uint8 [24, height, width, 3]; [1, ...] before any chunk."""
        ...

    def latents(self, state: StateT) -> npt.NDArray[np.float32]:
        """The last chunk's latent frames, float32 [3, channels, rows, columns]; [1, ...] before
        any chunk.

        Raises:
            ValueError: The world has no latents.
        """
        ...

    def pack(self, state: StateT) -> dict[str, npt.NDArray[np.generic]]:
        """The state as named arrays, enough for `unpack` to continue bit for bit."""
        ...

    def unpack(self, arrays: dict[str, npt.NDArray[np.generic]]) -> StateT:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        ...


@runtime_checkable
class ShowsTogether(Protocol):
    """What a world may offer besides: decoding the last chunks of several states in one batch."""

    def show(self, states: Sequence[Any]) -> list[npt.NDArray[np.uint8]]:
        """`frames` of each state."""
        ...


@runtime_checkable
class ShowsLast(Protocol):
    """What a world may offer besides: last frames of chunks for less than all of their frames."""

    def last_frames(self, states: Sequence[Any]) -> list[npt.NDArray[np.uint8]]:
        """The last of each state's `frames`, uint8 [height, width, 3]."""
        ...


@runtime_checkable
class Localises(Protocol):
    """What a world may offer besides: whether it knows the place that a first frame shows."""

    def anchor_confidence(self, state: Any) -> float:
        """Probability in [0, 1] that the rollout's first frame shows a place the world knows."""
        ...


def anchor_confidence(world: WorldModel[StateT], state: StateT) -> float:
    """The world's `anchor_confidence`; 1.0 for worlds that do not localise."""
    return world.anchor_confidence(state) if isinstance(world, Localises) else 1.0
