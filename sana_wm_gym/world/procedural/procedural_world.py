"""The procedural world: exact renderings along any camera, the ground truth of learned worlds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym import values
from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory, check_rigid
from sana_wm_gym.world.procedural import courtyard
from sana_wm_gym.world.procedural.appearance import draw_appearance, parse_prompt, prompt_of
from sana_wm_gym.world.procedural.courtyard import COURTYARD
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import (
    Scene,
    generate_scene,
    sample_pose,
    with_appearance,
)
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec, require_image, require_pairs

WALK_LIMITS = MotionLimits(
    forward=0.05,
    right=0.05,
    down=0.02,
    yaw=math.radians(1.5),
    pitch=math.radians(0.75),
    pitch_limit=math.radians(15.0),
)
"""Walking pace at 16 frames per second: 0.8 m/s and 24 degrees/s."""

SCENES = (0, 1, 2, 3)
"""Seeds that starts are drawn from by default."""

_SAME_POSE = 1e-4


def draw_start(spec: WorldSpec, rng: np.random.Generator, scene: int | None = None) -> Start:
    """Draw a start for a world: a scene of `spec.scenes` unless given, its appearance, which the
    start's prompt names, and an upright camera in free space.

    Raises:
        ValueError: `scene` is negative.
    """
    number = int(rng.choice(spec.scenes)) if scene is None else scene
    place = generate_scene(number)
    place = with_appearance(place, draw_appearance(place.surfaces, rng))
    c2w = sample_pose(place, rng, radius=spec.start_radius)
    return Start(
        image=render(place, c2w[None], spec.intrinsics, (spec.height, spec.width))[0],
        intrinsics=spec.intrinsics,
        prompt=prompt_of(place.surfaces, place.appearance),
        scene=number,
        scene_c2w=c2w,
        appearance=place.appearance,
    )


def with_prompt(start: Start, spec: WorldSpec, prompt: str) -> Start:
    """A start that `draw_start` made for this spec, with another prompt and a first frame to match.

    Surfaces that the prompt names show what it names; the others, and the pose, stay as they
    were drawn. A world without varying surfaces takes the prompt as free text.

    Raises:
        ValueError: The prompt holds an unknown phrase, or contradicts itself.
    """
    named = parse_prompt(spec.surfaces, prompt) if spec.surfaces else ()
    changed = replace(start, prompt=prompt)
    if len(named) != len(start.appearance) or start.scene is None or start.scene_c2w is None:
        return changed
    pairs = zip(start.appearance, named, strict=True)
    appearance = tuple(drawn if variant is None else variant for drawn, variant in pairs)
    if appearance == start.appearance:
        return changed
    place, size = with_appearance(generate_scene(start.scene), appearance), start.image.shape[:2]
    image = render(place, start.scene_c2w[None], start.intrinsics, (size[0], size[1]))[0]
    return replace(changed, image=image, appearance=appearance)


@dataclass(frozen=True)
class ProceduralState:
    """The state of a rollout.

    Attributes:
        start: Where it began; `scene` and `scene_c2w` are set.
        c2w: Poses of the last chunk relative to the first frame, float64 [n, 4, 4] for chunks
            of n frames; [1, 4, 4] before any chunk.
        intrinsics: (fx, fy, cx, cy) of those frames in pixels, float64 [n, 4] or [1, 4].
        chunk: Number of chunks generated so far.
    """

    start: Start
    c2w: npt.NDArray[np.float64]
    intrinsics: npt.NDArray[np.float64]
    chunk: int


@dataclass(frozen=True)
class ProceduralWorld:
    """A `WorldModel` whose frames are exact. Any non-negative seed is a scene.

    Attributes:
        size: Frame (height, width) in pixels.
        scenes: Seeds that `sample_start` draws from.
        limits: Motion per frame that normalised actions map to.
        start_radius: Starts are drawn at most this far, in metres, from a scene's most open
            spot; None for anywhere.
        name: Short name; "twin" for the ground truth of another world.
        frames_per_chunk: Frames that one step shows.
        fps: Frames per second.

    Raises:
        ValueError: A setting is out of its range.
    """

    size: tuple[int, int] = (64, 64)
    scenes: tuple[int, ...] = SCENES
    limits: MotionLimits = field(default=WALK_LIMITS)
    start_radius: float | None = None
    name: str = "procedural"
    frames_per_chunk: int = 24
    fps: float = 16.0

    @staticmethod
    def twin(spec: WorldSpec) -> ProceduralWorld:
        """The ground truth of another world, called "twin": its scenes, frame size and limits, and
        the same starts.

        Raises:
            ValueError: The other world has no procedural scenes.
        """
        if not spec.scenes:
            raise ValueError(f"world {spec.name!r} has no procedural scenes, so it has no twin")
        return ProceduralWorld(
            spec.size,
            spec.scenes,
            spec.limits,
            spec.start_radius,
            "twin",
            spec.frames_per_chunk,
            spec.fps,
        )

    def __post_init__(self) -> None:
        # Settings read from a file come as lists.
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "scenes", tuple(self.scenes))
        if isinstance(self.limits, Mapping):
            object.__setattr__(self, "limits", MotionLimits(**self.limits))
        if min(self.size) < 1 or not self.scenes or min(self.scenes) < 0:
            raise ValueError(
                "expected a positive size and at least one non-negative scene seed, "
                f"given {self.size} and {self.scenes}"
            )
        if self.start_radius is not None and not self.start_radius > 0:
            raise ValueError(f"given start_radius = {self.start_radius}, expected > 0 or None")

    @cached_property
    def spec(self) -> WorldSpec:
        """As `WorldModel.spec`."""
        height, width = self.size
        return WorldSpec(
            name=self.name,
            height=height,
            width=width,
            fps=self.fps,
            frames_per_chunk=self.frames_per_chunk,
            latent_shape=None,
            intrinsics=default_intrinsics(height, width),
            limits=self.limits,
            scenes=self.scenes,
            start_radius=self.start_radius,
            surfaces=courtyard.SURFACES if COURTYARD in self.scenes else (),
            prompts=COURTYARD in self.scenes,
        )

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        """As `draw_start`."""
        return draw_start(self.spec, rng, scene)

    def begin(self, start: Start, seed: int) -> ProceduralState:
        """State before the first chunk; nothing is random, so `seed` has no effect.

        A start without an appearance shows the first variant of every surface.

        Raises:
            ValueError: `start` has no scene or pose in it, or does not fit the scene or world.
        """
        check_rigid(scene_of(start)[1][None], "Start.scene_c2w")
        require_image(start.image, self.size)
        first = CameraTrajectory(np.eye(4)[None], np.array(start.intrinsics), *self.size[::-1])
        return ProceduralState(start, first.c2w, first.intrinsics, chunk=0)

    def with_prompt(self, state: ProceduralState, prompt: str) -> ProceduralState:
        """The state, with surfaces as the prompt names them from the next chunk on.

        Raises:
            ValueError: The prompt holds an unknown phrase, or contradicts itself.
        """
        start = with_prompt(state.start, self.spec, prompt)
        return replace(state, start=replace(start, image=state.start.image))

    def advance(
        self, states: Sequence[ProceduralState], inputs: Sequence[ChunkInput]
    ) -> list[ProceduralState]:
        """Move each camera; `decode` renders the frames.

        Raises:
            ValueError: As `WorldModel.advance`, or a camera starts elsewhere than the state's last
                frame.
        """
        require_pairs(states, inputs)
        moved = []
        for state, given in zip(states, inputs, strict=True):
            camera = given.camera_of(self.spec)
            gap = float(np.abs(camera.c2w[0] - state.c2w[-1]).max())
            if gap > _SAME_POSE:
                raise ValueError(
                    f"camera starts {gap:g} away from the last frame of chunk {state.chunk}, "
                    "expected the same pose"
                )
            poses, intrinsics = camera.c2w[1:], camera.intrinsics[1:]
            moved.append(ProceduralState(state.start, poses, intrinsics, state.chunk + 1))
        return moved

    def decode(
        self, states: Sequence[ProceduralState], last: bool = False
    ) -> list[npt.NDArray[np.uint8]]:
        """As `WorldModel.decode`; `last` costs one frame in place of n."""
        return [self._decode(state, last) for state in states]

    def _decode(self, state: ProceduralState, last: bool) -> npt.NDArray[np.uint8]:
        if state.chunk == 0:
            return state.start.image if last else state.start.image[None]
        scene, first = scene_of(state.start)
        shown = slice(-1, None) if last else slice(None)
        frames = render(scene, first @ state.c2w[shown], state.intrinsics[shown], self.size)
        return frames[0] if last else frames

    def latents(self, states: Sequence[ProceduralState], last: bool = False) -> list[Any]:
        """Raises ValueError: this world has no latents."""
        raise ValueError("the procedural world has no latents, only frames")

    def anchor_confidence(self, state: ProceduralState) -> float:
        """Always 1.0."""
        return 1.0

    def pack(self, state: ProceduralState) -> values.Arrays:
        """As `WorldModel.pack`."""
        return values.pack(state)

    def unpack(self, arrays: values.Arrays) -> ProceduralState:
        """As `WorldModel.unpack`."""
        state = values.unpack(ProceduralState, arrays)
        self.begin(state.start, seed=0)
        camera = CameraTrajectory(state.c2w, state.intrinsics, *self.size[::-1])
        if state.chunk < 0 or len(camera) != (self.frames_per_chunk if state.chunk else 1):
            raise ValueError(f"{len(camera)} poses do not fit chunk {state.chunk}")
        return replace(state, c2w=camera.c2w, intrinsics=camera.intrinsics)


def scene_of(start: Start) -> tuple[Scene, npt.NDArray[np.float64]]:
    """The scene that a first frame was taken in, in its appearance, and the pose there [4, 4].

    Raises:
        ValueError: The start is in no procedural scene, or its appearance does not fit the scene.
    """
    if start.scene is None or start.scene_c2w is None:
        raise ValueError("given a start without scene and scene_c2w; expected a procedural scene")
    scene = generate_scene(start.scene)
    if start.appearance:
        scene = with_appearance(scene, start.appearance)
    return scene, start.scene_c2w
