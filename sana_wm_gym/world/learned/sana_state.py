"""Where a rollout of the learned world stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm_gym import values
from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.checks import require_number
from sana_wm_gym.models.codec import LatentCodec
from sana_wm_gym.models.state import GeneratorState
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.world.learned.second_stage import Refinement
from sana_wm_gym.world.world_model import WorldSpec


@dataclass(frozen=True)
class SanaState:
    """Where a rollout stands.

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
        decoded: Frames of `latents`, uint8 [24, H, W, 3] on the world's device (65 MB at full
            size, little next to the memories), where they are made at once because doing it again
            would be costly; None where on demand.
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


def unpack_state(
    arrays: values.Arrays,
    spec: WorldSpec,
    codec: LatentCodec,
    device: torch.device,
    *,
    depth: int,
    captioned: bool,
    refined: bool,
) -> SanaState:
    """Inverse of `values.pack`, for a world to resume from.

    Args:
        arrays: The state.
        spec: What the world makes.
        codec: Knows its decoder's past.
        device: Where tensors go.
        depth: Blocks of the generator.
        captioned: Whether the generator reads prompts.
        refined: Whether there is a second stage.

    Raises:
        ValueError: An array is missing, unknown or of the wrong shape, or the parts do not fit
            the world or one another.
    """
    channels, rows, columns = spec.latent_shape or (None, None, None)
    state = values.unpack(
        SanaState,
        arrays,
        shapes={
            "image": (*spec.size, 3),
            "anchor": (4, 4),
            "latents": (1, channels, None, rows, columns),
            "decoded": (spec.frames_per_chunk, *spec.size, 3),
        },
        kinds={"decoder": codec.state_type},
        device=device,
    )
    check_rigid(state.anchor[None], "anchor")
    require_number("anchor_confidence", state.anchor_confidence, 0.0, 1.0)
    codec.check_state(state.decoder)
    begun = state.chunk > 0
    for part, there, expected in (
        ("a prompt", state.text, captioned),
        ("a refiner's past", state.refinement, refined),
        ("memories", state.generator, begun),
        ("frames", state.decoded, begun and not codec.free_skip),
    ):
        if (there is not None) != expected:
            given = "without" if there is None else "with"
            raise ValueError(f"given a state after {state.chunk} chunks {given} {part}")
    if state.generator is not None and len(state.generator.blocks) != depth:
        raise ValueError(f"given a state of {len(state.generator.blocks)} blocks; expected {depth}")
    return state
