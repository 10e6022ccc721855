"""The contract every world keeps: a start image, then chunks of frames that follow a command.

`begin` turns a start into a state, `advance` a state and the command of one chunk into the next
state, `decode` makes the chunk's frames. Nothing is remembered inside the world, so snapshot,
branch and reset are assignments, and any set of states can share a batch. A world is a frozen
dataclass; `dataclasses.replace` makes variations of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory
from sana_wm_gym.checks import require_integer, require_number
from sana_wm_gym.world.procedural.appearance import Surface

DRIVERS = ("camera", "keys")
"""What may drive a world."""


@dataclass(frozen=True)
class WorldSpec:
    """What varies between worlds: frames, cameras, and what a world can do.

    Attributes:
        name: Short name, as in `gym.make(..., world=name)`.
        height: Frame height in pixels.
        width: Frame width in pixels.
        fps: Frames per second of every chunk; 16 for SANA-WM.
        frames_per_chunk: Frames that one `advance` makes; 24 for SANA-WM.
        latent_shape: (channels, rows, columns) of one latent frame, or None for a world
            without latents.
        intrinsics: Default (fx, fy, cx, cy) in pixels of the height x width frame.
        limits: Motion per frame that the world was made for; normalised actions of +-1 map to it.
        scenes: Seeds of the scenes that `sample_start` draws from.
        start_radius: Starts are drawn at most this far, in metres, from a scene's most open
            spot; None for anywhere.
        surfaces: What varies from episode to episode and can be named in a prompt.
        driven_by: What a chunk follows: "camera", "keys", or both. Without a camera, intrinsics
            and limits have no meaning.
        prompts: Whether `Start.prompt` changes what is made.
        snapshots: Whether states can be packed, and so written to a file.
        batches: Whether several states are computed together, or one after the other.

    Raises:
        ValueError: A number is out of its range, or nothing known drives the world.
    """

    name: str
    height: int
    width: int
    fps: float
    frames_per_chunk: int
    latent_shape: tuple[int, int, int] | None
    intrinsics: tuple[float, float, float, float]
    limits: MotionLimits
    scenes: tuple[int, ...]
    start_radius: float | None = None
    surfaces: tuple[Surface, ...] = ()
    driven_by: tuple[str, ...] = ("camera",)
    prompts: bool = False
    snapshots: bool = True
    batches: bool = True

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames_per_chunk"):
            require_integer(f"WorldSpec.{name}", getattr(self, name), 1, 2**14)
        require_number("WorldSpec.fps", self.fps, 0.0, ends="(]")
        if not self.driven_by or not set(self.driven_by) <= set(DRIVERS):
            raise ValueError(f"WorldSpec.driven_by is {self.driven_by}, expected some of {DRIVERS}")

    @property
    def has_camera(self) -> bool:
        """Whether "camera" drives the world."""
        return "camera" in self.driven_by

    @property
    def size(self) -> tuple[int, int]:
        """Frame (height, width) in pixels."""
        return self.height, self.width

    def require_camera(self, what: str) -> None:
        """Raise ValueError, naming `what` needs a camera, unless the world follows one."""
        if not self.has_camera:
            raise ValueError(f"{what} needs a camera, and world {self.name!r} is driven by keys")


@dataclass(frozen=True)
class Start:
    """Where a rollout begins.

    Attributes:
        image: First frame, uint8 [height, width, 3] RGB.
        intrinsics: (fx, fy, cx, cy) in pixels of `image`.
        prompt: Scene text; a drawn start's names the variants that it shows.
        scene: Seed of the procedural scene the image was taken in, or None for a user's image.
        scene_c2w: Camera-to-world pose of the first frame in that scene, float64 [4, 4], or None.
            Only the ground-truth world reads it, and `appearance`; a learned world reads `image`.
        appearance: Variant of each varying surface of the scene, as an index.
        intrinsics_from: Where the intrinsics come from: "given", "assumed" (the world's own), or
            the name of what estimated them.
    """

    image: npt.NDArray[np.uint8]
    intrinsics: tuple[float, float, float, float]
    prompt: str = ""
    scene: int | None = None
    scene_c2w: npt.NDArray[np.float64] | None = None
    appearance: tuple[int, ...] = ()
    intrinsics_from: str = "given"


@dataclass(frozen=True, eq=False)
class ChunkInput:
    """The command of one chunk of n = `spec.frames_per_chunk` frames.

    Attributes:
        camera: n + 1 poses relative to the rollout's first frame: the last pose of the previous
            chunk (frame 0 at the start), then the commanded ones. None for a world without camera.
        keys: Controls held in each frame, names of `camera.CONTROL_NAMES`: n sets, or () where
            the world reads no keys.
    """

    camera: CameraTrajectory | None = None
    keys: tuple[frozenset[str], ...] = ()

    def camera_of(self, spec: WorldSpec) -> CameraTrajectory:
        """The camera, checked for a world that follows one.

        Raises:
            ValueError: There is none, it does not have n + 1 poses, or it is meant for another
                frame size.
        """
        camera, expected = self.camera, spec.frames_per_chunk + 1
        if camera is None:
            raise ValueError(f"given a chunk without a camera; world {spec.name!r} follows one")
        if len(camera) != expected:
            raise ValueError(f"given a camera of {len(camera)} poses; expected {expected}")
        if (camera.height, camera.width) != spec.size:
            raise ValueError(
                f"given a camera for {camera.height} x {camera.width} frames; "
                f"expected {spec.height} x {spec.width}"
            )
        return camera


StateT = TypeVar("StateT")


class WorldModel(Protocol[StateT]):
    """A controllable video world. `StateT` is its own frozen state dataclass.

    Frames and latents are NumPy arrays or torch tensors on the world's device, whichever the
    world makes; `as_arrays` brings them to the host. They are read-only.
    """

    @property
    def spec(self) -> WorldSpec:
        """Frame size, rate, motion limits, scenes, and what the world can do."""
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

    def advance(self, states: Sequence[StateT], inputs: Sequence[ChunkInput]) -> list[StateT]:
        """Generate one chunk for each state, all in one batch.

        Args:
            states: Independent worlds, possibly at different chunk indices.
            inputs: One per state.

        Returns:
            New states in the same order; the given ones stay valid.

        Raises:
            ValueError: There is not one input per state, or one does not fit the world.
        """
        ...

    def decode(self, states: Sequence[StateT], last: bool = False) -> list[Any]:
        """Frames of each state's last chunk, all in one batch.

        Args:
            states: Possibly at different chunk indices.
            last: Only the last frame of each, for less where the world can.

        Returns:
            uint8 [frames_per_chunk, height, width, 3] each, [1, ...] before any chunk; with
            `last`, [height, width, 3]. None keeps another state's alive.
        """
        ...

    def latents(self, states: Sequence[StateT], last: bool = False) -> list[Any]:
        """Latent frames of each state's last chunk, float32 [k, channels, rows, columns], k = 1
        before any chunk; with `last`, [channels, rows, columns].

        Raises:
            ValueError: The world has no latents.
        """
        ...

    def with_prompt(self, state: StateT, prompt: str) -> StateT:
        """The state, with another prompt from the next chunk on. Only asked of worlds whose
        `spec.prompts` is true.

        Raises:
            ValueError: The prompt cannot be read.
        """
        ...

    def anchor_confidence(self, state: StateT) -> float:
        """Probability in [0, 1] that the rollout's first frame is of the world's scene; 1.0 for
        worlds without a localiser."""
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


def as_arrays(values: Iterable[Any]) -> list[npt.NDArray[Any]]:
    """Frames or latents as NumPy arrays on the host; those that are there already as they are."""
    return [v.numpy(force=True) if hasattr(v, "detach") else np.asarray(v) for v in values]


def require_pairs(states: Sequence[Any], inputs: Sequence[Any]) -> None:
    """Raise ValueError unless there is one input per state."""
    if len(states) != len(inputs):
        raise ValueError(f"given {len(states)} states and {len(inputs)} inputs")


def require_image(image: Any, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """A copy of a first frame; ValueError unless it is uint8 [height, width, 3] of this size."""
    image, expected = np.asarray(image), (*size, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise ValueError(
            f"given a first frame {image.dtype} {image.shape}; expected uint8 {expected}"
        )
    return image.copy()
