"""Worlds of any chunk length, driven by a camera or by keys; `chunk_worlds:make` names them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sana_wm_gym.camera import MotionLimits
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec, require_pairs


@dataclass(frozen=True)
class ChunkState:
    """Where something stands, and the frame it is at."""

    seed: int
    place: float = 0.0
    frame: int = 0


@dataclass(frozen=True)
class ChunkWorld:
    """Frame k of a rollout is grey k; its first pixel shows where a camera or keys have led."""

    frames: int = 12
    driven_by: tuple[str, ...] = ("camera",)
    dtype: str = "uint8"
    lie: int = 0  # frames by which chunks are longer than the spec has them

    @cached_property
    def spec(self) -> WorldSpec:
        return WorldSpec(
            name=f"toy-{self.frames}-{'-'.join(self.driven_by)}",
            height=6,
            width=8,
            fps=10.0,
            frames_per_chunk=self.frames,
            latent_shape=None,
            intrinsics=(8.0, 8.0, 4.0, 3.0),
            limits=MotionLimits(forward=0.1, right=0.1, yaw=0.05),
            scenes=(0,),
            driven_by=self.driven_by,
        )

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        [image] = self.decode([ChunkState(0)], last=True)
        return Start(image, self.spec.intrinsics, scene=0)

    def begin(self, start: Start, seed: int) -> ChunkState:
        return ChunkState(seed)

    def advance(
        self, states: Sequence[ChunkState], inputs: Sequence[ChunkInput]
    ) -> list[ChunkState]:
        require_pairs(states, inputs)
        moved = []
        for state, given in zip(states, inputs, strict=True):
            place = state.place
            if "keys" in self.driven_by:
                assert len(given.keys) == self.frames
                place += sum("forward" in held for held in given.keys) / self.frames
            if "camera" in self.driven_by:
                place = 10 * given.camera_of(self.spec).c2w[-1, 2, 3]
            else:
                assert given.camera is None
            moved.append(replace(state, place=place, frame=state.frame + self.frames))
        return moved

    def decode(self, states: Sequence[ChunkState], last: bool = False) -> list[Any]:
        shown = []
        for state in states:
            count = self.frames + self.lie if state.frame else 1
            greys = np.arange(state.frame - count + 1, state.frame + 1)
            frames = np.zeros((count, 6, 8, 3), self.dtype)
            frames += greys.astype(self.dtype)[:, None, None, None]
            frames[:, 0, 0] = np.clip(20 * state.place + 100, 0, 255)
            shown.append(frames[-1] if last else frames)
        return shown

    def latents(self, states: Sequence[ChunkState], last: bool = False) -> list[Any]:
        raise ValueError("no latents")

    def anchor_confidence(self, state: ChunkState) -> float:
        return 1.0

    def pack(self, state: ChunkState) -> dict[str, Any]:
        return {name: np.array(value) for name, value in vars(state).items()}

    def unpack(self, arrays: dict[str, Any]) -> ChunkState:
        return ChunkState(int(arrays["seed"]), float(arrays["place"]), int(arrays["frame"]))


def make(frames: int = 12, keys: bool = False) -> ChunkWorld:
    """A toy by its length and what drives it."""
    return ChunkWorld(frames, ("keys",) if keys else ("camera",))


TOY = ChunkWorld()
