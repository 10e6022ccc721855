"""A world without a scene: poses are states, latents hold them, frames are black or forbidden."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec


@dataclass(frozen=True)
class ToyState:
    c2w: npt.NDArray[np.float64]
    chunk: int


class ToyWorld:
    """Counts generated chunks and batches in `calls`."""

    def __init__(self, spec: WorldSpec, decodes: bool = True) -> None:
        self.spec = spec
        self.calls: Counter[str] = Counter()
        self._decodes = decodes

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        image = np.zeros((self.spec.height, self.spec.width, 3), np.uint8)
        return Start(image, self.spec.intrinsics, scene=0)

    def begin(self, start: Start, seed: int) -> ToyState:
        return ToyState(np.eye(4)[None], 0)

    def advance(self, states: Sequence[ToyState], inputs: Sequence[ChunkInput]) -> list[ToyState]:
        self.calls["chunks"] += len(states)
        self.calls["batches"] += 1
        cameras = [given.camera for given in inputs]
        return [
            replace(state, c2w=camera.c2w[1:], chunk=state.chunk + 1)
            for state, camera in zip(states, cameras, strict=True)
            if camera is not None
        ]

    def decode(self, states: Sequence[ToyState], last: bool = False) -> list[Any]:
        assert self._decodes, "no frame is to be decoded"
        shape = (self.spec.height, self.spec.width, 3)
        frames = [np.zeros((len(state.c2w), *shape), np.uint8) for state in states]
        return [part[-1] for part in frames] if last else frames

    def latents(self, states: Sequence[ToyState], last: bool = False) -> list[Any]:
        """The pose outright, so that a policy has nothing to find out but where to go."""
        assert last
        poses = [state.c2w[-1] for state in states]
        numbers = [np.array([p[0, 3], p[2, 3], p[0, 2], 1], np.float32) for p in poses]
        return [np.tile(four[:, None, None], (1, 2, 2)) for four in numbers]

    def anchor_confidence(self, state: ToyState) -> float:
        return 1.0

    def pack(self, state: ToyState) -> dict[str, npt.NDArray[np.generic]]:
        return {"c2w": state.c2w, "chunk": np.array(state.chunk)}

    def unpack(self, arrays: dict[str, npt.NDArray[Any]]) -> ToyState:
        return ToyState(arrays["c2w"], int(arrays["chunk"]))
