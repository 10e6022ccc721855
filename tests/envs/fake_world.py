"""A world small enough to test the environment apart from any network or renderer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym import values
from sana_wm_gym.camera import MotionLimits
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec

SPEC = WorldSpec(
    name="fake",
    height=40,
    width=48,
    fps=16.0,
    frames_per_chunk=24,
    latent_shape=(2, 5, 6),
    intrinsics=(30.0, 30.0, 24.0, 20.0),
    limits=MotionLimits(),
    scenes=(3, 4),
)


@dataclass(frozen=True)
class FakeState:
    """What the frames are a function of."""

    image: npt.NDArray[np.uint8]
    prompt: str
    seed: int
    c2w: npt.NDArray[np.float64]
    chunk: int


class FakeWorld:
    """Noise from (seed, chunk), tinted by where the camera is; counts its calls."""

    spec = SPEC

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.broken = False

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        scene = int(rng.choice(SPEC.scenes)) if scene is None else scene
        if scene not in SPEC.scenes:
            raise ValueError(f"no scene {scene}")
        image = rng.integers(0, 256, (SPEC.height, SPEC.width, 3), dtype=np.uint8)
        return Start(image, SPEC.intrinsics, prompt=f"scene {scene}", scene=scene)

    def begin(self, start: Start, seed: int) -> FakeState:
        return FakeState(start.image, start.prompt, seed, np.eye(4)[None], 0)

    def advance(self, states: Sequence[FakeState], inputs: Sequence[ChunkInput]) -> list[FakeState]:
        self.calls["advance"] += 1
        if self.broken:
            raise RuntimeError("the world broke down")
        cameras = [given.camera_of(self.spec) for given in inputs]
        for state, camera in zip(states, cameras, strict=True):
            assert np.array_equal(camera.c2w[0], state.c2w[-1])
        return [
            replace(state, c2w=camera.c2w[1:], chunk=state.chunk + 1)
            for state, camera in zip(states, cameras, strict=True)
        ]

    def decode(self, states: Sequence[FakeState], last: bool = False) -> list[Any]:
        self.calls["decode"] += 1
        self.calls["decoded"] += len(states)
        frames = [self.picture(state) for state in states]
        return [part[-1] for part in frames] if last else frames

    def picture(self, state: FakeState) -> npt.NDArray[np.uint8]:
        if state.chunk == 0:
            return state.image[None]
        noise = np.random.default_rng([state.seed, state.chunk])
        frames = noise.integers(0, 200, (24, SPEC.height, SPEC.width, 3), dtype=np.uint8)
        tint = 40 * np.abs(np.sin(50 * state.c2w[:, :3, :].sum(axis=(1, 2))))
        return (frames + tint[:, None, None, None]).astype(np.uint8)

    def latents(self, states: Sequence[FakeState], last: bool = False) -> list[Any]:
        self.calls["latents"] += 1
        latents = [self.latent(state) for state in states]
        return [part[-1] for part in latents] if last else latents

    def anchor_confidence(self, state: FakeState) -> float:
        return 1.0

    def latent(self, state: FakeState) -> npt.NDArray[np.float32]:
        noise = np.random.default_rng([state.seed, state.chunk, 1])
        shape = (3 if state.chunk else 1, *(SPEC.latent_shape or ()))
        return noise.standard_normal(shape).astype(np.float32) + np.float32(state.c2w[-1, 0, 3])

    def pack(self, state: FakeState) -> dict[str, Any]:
        return values.pack(state)

    def unpack(self, arrays: dict[str, Any]) -> FakeState:
        return values.unpack(FakeState, arrays)
