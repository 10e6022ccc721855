"""A planned trajectory as a world: the clip is made at once, then shown chunk by chunk.

Generators that read later frames need the whole path before the first step: `begin` makes the clip
along the plan, `advance` shows the next 24 frames of it and refuses any other camera.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sana_wm_gym import values
from sana_wm_gym.camera.se3 import geodesic_angle
from sana_wm_gym.camera.trajectory import CameraTrajectory, check_rigid
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec, require_image, require_pairs

Array = npt.NDArray[np.float64]

TOLERANCE = 1e-4
"""Largest difference from the plan of an entry of a pose, and of intrinsics as a fraction of the
frame's width: a float32 plan fits the cameras that an environment integrates in float64."""


@dataclass(frozen=True, eq=False)
class GeneratedClip:
    """What a generator of whole clips makes.

    Attributes:
        frames: uint8 [n, H, W, 3], the first image among them.
        latents: Latent frames as they were decoded, float32 [(n - 1) / 8 + 1, c, h, w].
    """

    frames: npt.NDArray[np.uint8]
    latents: npt.NDArray[np.float32]


class ClipGenerator(Protocol):
    """Makes a whole clip along a camera trajectory; `offline.OfflineGenerator` is one."""

    def clip(
        self,
        image: npt.NDArray[np.uint8],
        trajectory: CameraTrajectory,
        prompt: str,
        *,
        seed: int,
    ) -> GeneratedClip:
        """A clip of one frame per pose, a function of the arguments alone."""
        ...


@dataclass(frozen=True, eq=False)
class ReplayState:
    """The state of a replay. Branches share the clip.

    Attributes:
        image: First frame, uint8 [H, W, 3].
        cameras: The plan, 24 k + 1 poses.
        clip: Generated along it.
        chunk: Chunks shown so far, 0 to k.
    """

    image: npt.NDArray[np.uint8]
    cameras: CameraTrajectory
    clip: GeneratedClip
    chunk: int


@dataclass(frozen=True, eq=False)
class ReplayWorld:
    """A world that follows one plan.

    Attributes:
        generator: Makes the clip, in `begin`.
        spec: Of the frames; `latent_shape` must be given.
        plan: Poses relative to the first frame, float64 [24 k + 1, 4, 4]; the first is the
            identity. `camera.rollout` makes them from controls.

    Raises:
        ValueError: The plan has another number of poses, does not start at the identity or holds
            one that is not rigid, or the spec has no latents.
    """

    generator: ClipGenerator
    spec: WorldSpec
    plan: Array

    def __post_init__(self) -> None:
        plan = np.array(self.plan, dtype=np.float64)
        check_rigid(plan, "plan")
        if len(plan) % CHUNK_FRAMES != 1 or len(plan) == 1:
            raise ValueError(f"given {len(plan)} poses; expected {CHUNK_FRAMES} k + 1, k >= 1")
        if np.abs(plan[0] - np.eye(4)).max() > TOLERANCE:
            raise ValueError(
                f"given a plan that starts at\n{plan[0]}\nexpected poses relative to the first "
                "frame (camera.se3.relative_to_first)"
            )
        if self.spec.latent_shape is None:
            raise ValueError("given a spec without latent_shape; a generated clip has latents")
        plan.setflags(write=False)
        object.__setattr__(self, "plan", plan)

    @property
    def chunks(self) -> int:
        """Steps from the start to the end of the plan: `max_episode_steps` of an environment."""
        return len(self.plan) // CHUNK_FRAMES

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        """Raises ValueError: a generator makes no first frames."""
        raise ValueError(
            f"world {self.spec.name!r} makes no first frames of its own: give an image"
        )

    def begin(self, start: Start, seed: int) -> ReplayState:
        """Make the whole clip along the plan, which takes nearly all of a rollout's time; errors as
        of `WorldModel.begin`."""
        spec, image = self.spec, require_image(start.image, self.spec.size)
        image.setflags(write=False)
        cameras = CameraTrajectory(self.plan, np.array(start.intrinsics), spec.width, spec.height)
        clip = self.generator.clip(image, cameras, start.prompt, seed=seed)
        self._protect(clip, len(self.plan))
        return ReplayState(image, cameras, clip, chunk=0)

    def advance(
        self, states: Sequence[ReplayState], inputs: Sequence[ChunkInput]
    ) -> list[ReplayState]:
        """Show the next chunk of each state.

        Raises:
            ValueError: As `WorldModel.advance`, a plan is over, or a camera is not where the plan
                has it (states from which frame on, and by how much).
        """
        require_pairs(states, inputs)
        for state, given in zip(states, inputs, strict=True):
            _check_camera(state, given.camera_of(self.spec))
        return [replace(state, chunk=state.chunk + 1) for state in states]

    def decode(self, states: Sequence[ReplayState], last: bool = False) -> list[Any]:
        """As `WorldModel.decode`."""
        frames = [
            _of_chunk(s.clip.frames, s.chunk, CHUNK_FRAMES) if s.chunk else s.image[None]
            for s in states
        ]
        return [shown[-1] for shown in frames] if last else frames

    def latents(self, states: Sequence[ReplayState], last: bool = False) -> list[Any]:
        """As `WorldModel.latents`."""
        latents = [_of_chunk(s.clip.latents, s.chunk, LATENTS_PER_CHUNK) for s in states]
        return [shown[-1] for shown in latents] if last else latents

    def with_prompt(self, state: ReplayState, prompt: str) -> ReplayState:
        """Raises ValueError: the clip was generated under the start's prompt."""
        raise ValueError(
            f"world {self.spec.name!r} shows a clip that is already generated: given prompt "
            f"{prompt!r} during the rollout, expected it in the start"
        )

    def anchor_confidence(self, state: ReplayState) -> float:
        """Always 1.0."""
        return 1.0

    def pack(self, state: ReplayState) -> values.Arrays:
        """As `WorldModel.pack`; holds the whole clip and its plan."""
        return values.pack(state)

    def unpack(self, arrays: values.Arrays) -> ReplayState:
        """As `WorldModel.unpack`. The state keeps its own plan, whatever this world's is."""
        state = values.unpack(ReplayState, arrays, shapes={"image": (*self.spec.size, 3)})
        count, chunk = len(state.cameras), state.chunk
        self._protect(state.clip, count)
        if count % CHUNK_FRAMES != 1 or not 0 <= chunk <= count // CHUNK_FRAMES:
            raise ValueError(f"given a state after {chunk} chunks of {count} planned poses")
        return state

    def _protect(self, clip: GeneratedClip, count: int) -> None:
        """Make a clip read-only; refuse one that is not one frame per pose of this world's size."""
        frames = (count, *self.spec.size, 3)
        latents = (count // CHUNK_FRAMES * LATENTS_PER_CHUNK + 1, *(self.spec.latent_shape or ()))
        if clip.frames.shape != frames or clip.latents.shape != latents:
            raise ValueError(
                f"given a clip of frames {clip.frames.shape} and latents {clip.latents.shape}; "
                f"expected {frames} and {latents}"
            )
        clip.frames.setflags(write=False)
        clip.latents.setflags(write=False)


def _of_chunk(values: npt.NDArray[Any], chunk: int, per_chunk: int) -> npt.NDArray[Any]:
    """Frames or latent frames of one chunk; of the first image before any."""
    end = chunk * per_chunk + 1
    return values[max(end - per_chunk, 0) : end]


def _check_camera(state: ReplayState, camera: CameraTrajectory) -> None:
    """Refuse a chunk's camera that is not the plan's."""
    first = state.chunk * CHUNK_FRAMES
    if first + 1 >= len(state.cameras):
        raise ValueError(
            f"given a camera after the end of the plan; expected at most {state.chunk} chunks"
        )
    planned = state.cameras[first : first + CHUNK_FRAMES + 1]
    off = np.abs(camera.intrinsics - planned.intrinsics).max(axis=1)
    if off.max() > TOLERANCE * planned.width:
        raise ValueError(
            f"given intrinsics {camera.intrinsics[off.argmax()]}; the plan's clip was made with "
            f"{planned.intrinsics[0]}"
        )
    away = np.abs(camera.c2w - planned.c2w).max(axis=(1, 2)) > TOLERANCE
    if away.any():
        frame = int(np.flatnonzero(away)[0])
        metres = np.linalg.norm(camera.c2w[frame, :3, 3] - planned.c2w[frame, :3, 3])
        turn = geodesic_angle(camera.c2w[frame, :3, :3], planned.c2w[frame, :3, :3])
        raise ValueError(
            f"given a camera that leaves the plan at frame {first + frame}, {metres:.3g} m and "
            f"{np.degrees(turn):.3g} degrees away; a replay shows the planned path alone"
        )
