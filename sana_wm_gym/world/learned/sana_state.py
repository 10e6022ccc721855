"""The state of a rollout of the learned world."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from sana_wm_gym.models.state import GeneratorState
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.world.learned.second_stage import Refinement


@dataclass(frozen=True)
class SanaState:
    """A rollout after some chunks.

    Attributes:
        image: First frame, uint8 [H, W, 3].
        intrinsics: (fx, fy, cx, cy) in pixels of `image`.
        anchor: Pose of the first frame in the frame that the generator is given cameras in,
            float64 [4, 4]; the identity for worlds whose cameras are relative to it.
        anchor_confidence: Probability in [0, 1] that the first frame shows a place the world
            knows; 1 for worlds without a localiser.
        seed: Source of all noise.
        chunk: Chunks generated so far.
        latents: Latent frames of the last chunk as they are shown, refined where there is a second
            stage, [1, c, f, h, w]; the first image's before any.
        generator: The generator's past; None before the first chunk.
        decoder: The decoder's past, a value of the codec's own: after `decoded`, where that is
            there, else before `latents`, or after the first image before any chunk.
        text: The encoded prompt, [1, l, c]; None where the generator reads none.
        refinement: The refiner's past, after `latents`; None without a second stage.
        decoded: Frames of `latents`, uint8 [24, H, W, 3] on the world's device, for a decoder with
            a memory, which makes them at once; None where they are made on demand.
    """

    image: npt.NDArray[np.uint8]
    intrinsics: tuple[float, float, float, float]
    anchor: npt.NDArray[np.float64]
    anchor_confidence: float
    seed: int
    chunk: int
    latents: Tensor
    generator: GeneratorState | None
    decoder: Any
    text: PromptEmbedding | None = None
    refinement: Refinement | None = None
    decoded: Tensor | None = None
