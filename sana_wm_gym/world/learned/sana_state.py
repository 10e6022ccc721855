"""Where a rollout of the learned world stands, as a value and as named arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sana_wm_gym.camera.trajectory import check_rigid
from sana_wm_gym.models.codec import LatentCodec
from sana_wm_gym.models.state import GeneratorState, from_named_tensors, named_tensors
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.world.learned.packing import Arrays, arrays_of, taken, tensors_of
from sana_wm_gym.world.learned.second_stage import Refinement, named_refinement, refinement_of
from sana_wm_gym.world.world_model import WorldSpec

_PLAIN = ("image", "intrinsics", "anchor", "anchor_confidence", "seed", "chunk")
_FRAMES = "frames"


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


def pack_state(state: SanaState, codec: LatentCodec) -> Arrays:
    """The state as named arrays; see `WorldModel.pack`."""
    named = {"latents": state.latents}
    named |= {f"decoder.{n}": t for n, t in codec.named_state(state.decoder).items()}
    if state.text is not None:
        named |= {"text.features": state.text.features, "text.mask": state.text.mask}
    if state.refinement is not None:
        named |= {f"refiner.{n}": t for n, t in named_refinement(state.refinement).items()}
    if state.generator is not None:
        named |= {f"generator.{n}": t for n, t in named_tensors(state.generator).items()}
    if state.decoded is not None:
        named[_FRAMES] = state.decoded
    return {
        "image": state.image,
        "intrinsics": np.array(state.intrinsics, dtype=np.float64),
        "anchor": state.anchor,
        "anchor_confidence": np.array(state.anchor_confidence, dtype=np.float64),
        "seed": np.array(state.seed, dtype=np.int64),
        "chunk": np.array(state.chunk, dtype=np.int64),
        **arrays_of(named),
    }


def unpack_state(
    arrays: Arrays,
    spec: WorldSpec,
    codec: LatentCodec,
    device: torch.device,
    *,
    depth: int,
    captioned: bool,
    refined: bool,
) -> SanaState:
    """Inverse of `pack_state`, for a world to resume from.

    Args:
        arrays: The state.
        spec: What the world makes.
        codec: Knows its decoder's past.
        device: Where tensors go.
        depth: Blocks of the generator.
        captioned: Whether the generator reads prompts.
        refined: Whether there is a second stage.

    Raises:
        ValueError: An array is missing, unknown or of the wrong shape.
    """
    tensors = tensors_of({n: a for n, a in arrays.items() if n not in _PLAIN}, device)
    missing = [name for name in _PLAIN if name not in arrays]
    missing += [name for name in ("latents",) if name not in tensors]
    if missing:
        raise ValueError(f"given a state without {missing}")
    latents, shown = tensors.pop("latents"), tensors.pop(_FRAMES, None)
    if latents.ndim != 5 or (latents.shape[1], *latents.shape[3:]) != spec.latent_shape:
        raise ValueError(
            f"given a state with latents {tuple(latents.shape)}; expected "
            f"channels, rows and columns {spec.latent_shape}"
        )
    if arrays["image"].shape != (spec.height, spec.width, 3):
        raise ValueError(f"given a state with an image {arrays['image'].shape}")
    anchor = np.array(arrays["anchor"], dtype=np.float64)
    if anchor.shape != (4, 4):
        raise ValueError(f"given a state with an anchor {anchor.shape}; expected (4, 4)")
    check_rigid(anchor[None], "anchor")
    confidence = arrays["anchor_confidence"]
    if confidence.shape != () or not 0 <= float(confidence) <= 1:
        raise ValueError(
            f"given a state with an anchor_confidence {confidence.tolist()}; expected 0 to 1"
        )
    decoder, text = taken(tensors, "decoder."), taken(tensors, "text.")
    memories, refiner = taken(tensors, "generator."), taken(tensors, "refiner.")
    expected = {"features", "mask"} if captioned else set()
    if tensors or text.keys() != expected:
        raise ValueError(
            f"given a state with unknown arrays {sorted(tensors)} and text "
            f"{sorted(text)}; expected text {sorted(expected)}"
        )
    if refined != bool(refiner):
        raise ValueError(
            f"given a state with {len(refiner)} arrays of a refiner; expected "
            f"{'its past' if refined else 'none'}"
        )
    chunk = int(arrays["chunk"])
    if (chunk > 0) != bool(memories):
        raise ValueError(f"given a state after {chunk} chunks with {len(memories)} memories")
    free_skip, wanted = codec.free_skip, (spec.frames_per_chunk, *spec.size, 3)
    if (shown is not None) != (chunk > 0 and not free_skip) or (
        shown is not None and shown.shape != wanted
    ):
        raise ValueError(
            f"given a state after {chunk} chunks with frames "
            f"{None if shown is None else tuple(shown.shape)}; expected "
            f"{None if free_skip or chunk == 0 else wanted}"
        )
    generator = from_named_tensors(memories) if memories else None
    if generator is not None and len(generator.blocks) != depth:
        raise ValueError(f"given a state of {len(generator.blocks)} blocks; expected {depth}")
    fx, fy, cx, cy = (float(value) for value in arrays["intrinsics"])
    return SanaState(
        image=np.array(arrays["image"], dtype=np.uint8),
        intrinsics=(fx, fy, cx, cy),
        anchor=anchor,
        anchor_confidence=float(confidence),
        seed=int(arrays["seed"]),
        chunk=chunk,
        latents=latents,
        generator=generator,
        decoder=codec.state_from_named(decoder),
        text=PromptEmbedding(text["features"], text["mask"]) if text else None,
        refinement=refinement_of(refiner) if refiner else None,
        decoded=None if shown is None else shown.to(torch.uint8),
    )
