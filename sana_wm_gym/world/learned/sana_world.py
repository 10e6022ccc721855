"""The learned world: SANA-WM's streaming generator and a codec behind the world contract."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic
from weakref import WeakSet

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import TypeVar

from sana_wm_gym import values
from sana_wm_gym.camera.trajectory import CameraTrajectory, check_intrinsics, check_rigid
from sana_wm_gym.checks import require_number
from sana_wm_gym.models.codec import LatentCodec, PatchCodec
from sana_wm_gym.models.localiser import Localiser
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, map_tensors, row, shapes, stack
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.sampler import CleanPrediction, Flow, chunk_noise, self_forcing
from sana_wm_gym.world.learned.sana_state import SanaState
from sana_wm_gym.world.learned.schedule import NoiseSchedule
from sana_wm_gym.world.learned.second_stage import SecondStage
from sana_wm_gym.world.procedural.procedural_world import draw_start
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec, require_image, require_pairs

CodecT = TypeVar("CodecT", bound=LatentCodec, default=PatchCodec)

_WARNED: WeakSet[Localiser] = WeakSet()
"""Localisers that have warned of a picture that they do not know."""


@dataclass(frozen=True, eq=False)
class SanaWorld(Generic[CodecT]):
    """A camera-controlled world that a network has learned.

    Attributes:
        spec: Frame size, rate, limits, scenes; `latent_shape` must be given.
        model: The generator; its type and place are those of the latents.
        codec: Frames to latents and back, on the same device.
        schedule: Noise levels of the sampler.
        window: Memory of the generator's softmax blocks.
        clean_pass: As of `sampler.self_forcing`.
        frequencies: As of `chunk_conditioning`.
        localiser: Estimates the first frame's pose among the generator's cameras; None where these
            are relative to the first frame, as in the released models.
        flow: The velocity field of the generator; by default of one that predicts clean latents.
        caption: Encodes a prompt for a generator that reads one.
        second_stage: Refines each chunk before it is decoded.
        autocast_dtype: Type that the generator's matrix products are rounded to, such as
            `torch.bfloat16`; None for that of its weights.

    Raises:
        ValueError: The spec has no latents or another chunk than the generator's, or the
            generator reads captions and there is no encoder, or the other way round.
    """

    spec: WorldSpec
    model: SanaWM
    codec: CodecT
    schedule: NoiseSchedule
    window: MemoryWindow
    clean_pass: bool = True
    frequencies: tuple[float, ...] = ()
    localiser: Localiser | None = None
    flow: Callable[[SanaWM], Flow] = CleanPrediction
    caption: Callable[[str], PromptEmbedding] | None = None
    second_stage: SecondStage | None = None
    autocast_dtype: torch.dtype | None = None
    _process: int = field(default_factory=os.getpid, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.spec.latent_shape is None:
            raise ValueError("given a spec without latent_shape; a learned world has latents")
        if self.spec.frames_per_chunk != CHUNK_FRAMES:
            raise ValueError(
                f"given chunks of {self.spec.frames_per_chunk} frames; expected {CHUNK_FRAMES}"
            )
        reads, given = (
            "captions" if part is not None else "no captions"
            for part in (self.model.config.text_channels, self.caption)
        )
        if reads != given:
            raise ValueError(f"given an encoder of {given} for a generator that reads {reads}")
        for network in (self.model, self.codec, self.localiser):
            if network is not None:
                network.eval()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Unpickled worlds belong to the process that loads them; forked ones do not.
        self.__dict__.update(state, _process=os.getpid())

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Type of the latents."""
        return next(self.model.parameters()).dtype

    def sample_start(self, rng: np.random.Generator, scene: int | None = None) -> Start:
        """A first frame rendered in one of the scenes that the network was trained on; nothing else
        of the renderer reaches the generator.

        Raises:
            ValueError: The world does not have the scene, or has none.
        """
        spec = self.spec
        if not spec.scenes:
            raise ValueError(f"world {spec.name!r} makes no first frames of its own: give an image")
        if scene is not None and scene not in spec.scenes:
            raise ValueError(f"given scene {scene}; world {spec.name!r} has {spec.scenes}")
        return draw_start(spec, rng, scene)

    @torch.inference_mode()
    def begin(self, start: Start, seed: int) -> SanaState:
        """As `WorldModel.begin`.

        Raises:
            ValueError: The start or its prompt does not fit the world.
            RuntimeError: This process was forked from the one that made the world.
        """
        self._refuse_a_fork()
        spec, image = self.spec, require_image(start.image, self.spec.size)
        check_intrinsics(np.array([start.intrinsics], dtype=np.float64))
        prompt = None if self.caption is None else self._prepared(self.caption(start.prompt))
        second = self.second_stage
        pixels = torch.from_numpy(image).to(self.device).float()[None] / 255
        latent = self.codec.encode_image(pixels).to(self.device, self.dtype)
        anchor, confidence = self._localise(image)
        # A start that the world drew itself is of its scene, whatever the localiser makes of it.
        if start.scene is None or start.scene not in spec.scenes:
            self._warn_of_a_foreign_picture(confidence)
        return SanaState(
            image=image,
            intrinsics=start.intrinsics,
            anchor=anchor,
            anchor_confidence=confidence,
            seed=seed,
            chunk=0,
            latents=latent[:, :, None],
            generator=None,
            decoder=self.codec.begin(latent),
            text=prompt,
            refinement=None if second is None else second.begin(latent, start.prompt),
        )

    def _prepared(self, text: PromptEmbedding) -> PromptEmbedding:
        return PromptEmbedding(text.features.to(self.device, self.dtype), text.mask.to(self.device))

    def _localise(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], float]:
        """Pose of the first frame among the generator's cameras, and the confidence in it."""
        if self.localiser is None:
            return np.eye(4), 1.0
        found = self.localiser(torch.from_numpy(image).to(self.device).movedim(-1, 0)[None])
        anchor = found.c2w[0].cpu().numpy().astype(np.float64)
        return anchor, float(found.confidence[0])

    def _warn_of_a_foreign_picture(self, confidence: float) -> None:
        localiser = self.localiser
        if localiser is not None and confidence < 0.5 and localiser not in _WARNED:
            _WARNED.add(localiser)
            warnings.warn(
                f"the first frame does not look like a place of world {self.spec.name!r} "
                f"(confidence {confidence:.2f}); its rollouts will not continue the picture. "
                "Later pictures of this kind are only reported by info['anchor_confidence']",
                stacklevel=3,
            )

    def anchor_confidence(self, state: SanaState) -> float:
        """As `WorldModel.anchor_confidence`; 1.0 without a localiser."""
        return state.anchor_confidence

    @torch.inference_mode()
    def with_prompt(self, state: SanaState, prompt: str) -> SanaState:
        """The state, with another prompt from the next chunk on.

        Raises:
            ValueError: The generator reads no prompts, or cannot read this one.
        """
        if self.caption is None:
            raise ValueError(f"world {self.spec.name!r} takes no prompts, given {prompt!r}")
        second, past = self.second_stage, state.refinement
        if second is not None and past is not None:
            past = second.with_prompt(past, prompt)
        return replace(state, text=self._prepared(self.caption(prompt)), refinement=past)

    @torch.inference_mode()
    def advance(self, states: Sequence[SanaState], inputs: Sequence[ChunkInput]) -> list[SanaState]:
        """Generate one chunk for each state; states whose memories have equal shapes share a
        forward pass.

        Raises:
            ValueError: As `WorldModel.advance`.
            RuntimeError: This process was forked from the one that made the world.
        """
        self._refuse_a_fork()
        require_pairs(states, inputs)
        cameras = [given.camera_of(self.spec) for given in inputs]
        groups: dict[object, list[int]] = defaultdict(list)
        for index, state in enumerate(states):
            groups[shapes((state.generator, state.text))].append(index)
        advanced: dict[int, SanaState] = {}
        for members in groups.values():
            alike = [states[i] for i in members], [cameras[i] for i in members]
            advanced |= zip(members, self._advance_alike(*alike), strict=True)
        return [advanced[index] for index in range(len(states))]

    def _advance_alike(
        self, states: list[SanaState], cameras: list[CameraTrajectory]
    ) -> list[SanaState]:
        assert self.spec.latent_shape is not None
        channels, rows, columns = self.spec.latent_shape
        first = states[0].generator is None
        frames = LATENTS_PER_CHUNK + (1 if first else 0)
        conditioning = chunk_conditioning(
            np.stack([s.anchor @ camera.c2w for s, camera in zip(states, cameras, strict=True)]),
            np.stack([camera.intrinsics for camera in cameras]),
            self.spec.size,
            (rows, columns),
            first,
            self.frequencies,
        )
        if states[0].text is not None:
            text = stack([state.text for state in states if state.text is not None])
            conditioning = replace(conditioning, text=text.features, text_mask=text.mask)
        shape = (channels, frames, rows, columns)
        noise = torch.stack([chunk_noise(state.seed, state.chunk, shape) for state in states])
        past = None if first else stack([s.generator for s in states if s.generator is not None])
        still = torch.cat([state.latents[:, :, 0] for state in states]) if first else None
        dtype = self.autocast_dtype
        with torch.autocast(self.device.type, dtype, enabled=dtype is not None):
            latents, after = self_forcing(
                self.flow(self.model),
                noise.to(self.device, self.dtype),
                still,
                map_tensors(lambda part: part.to(self.device), conditioning),
                ChunkPlan(window=self.window),
                past,
                self.schedule,
                self.clean_pass,
            )
        new = latents[:, :, -LATENTS_PER_CHUNK:].split(1)
        return [
            self._after(state, own.clone(), row(after, i))
            for i, (state, own) in enumerate(zip(states, new, strict=True))
        ]

    def _after(self, state: SanaState, latents: Tensor, generator: GeneratorState) -> SanaState:
        """The state one chunk on; a decoder with a memory decodes the chunk on the way."""
        decoder = state.decoder
        if state.chunk > 0 and state.decoded is None:
            decoder = self.codec.skip(state.latents, decoder)
        refinement, decoded = state.refinement, None
        if self.second_stage is not None and refinement is not None:
            latents, refinement = self.second_stage.refine(
                latents, refinement, state.seed, state.chunk
            )
        if not self.codec.free_skip:
            pixels, decoder = self.codec.decode(latents, decoder)
            decoded = self.codec.to_bytes(pixels)[0].to(self.device)
        return replace(
            state,
            chunk=state.chunk + 1,
            latents=latents,
            generator=generator,
            decoder=decoder,
            refinement=refinement,
            decoded=decoded,
        )

    @torch.inference_mode()
    def decode(self, states: Sequence[SanaState], last: bool = False) -> list[Tensor]:
        """As `WorldModel.decode`, on the world's device; RuntimeError after a fork."""
        shown = [self._known_frames(state, last) for state in states]
        hidden = [i for i, frames in enumerate(shown) if frames is None]
        if hidden:
            self._refuse_a_fork()
            latents = torch.cat([states[i].latents for i in hidden])
            past = stack([states[i].decoder for i in hidden])
            if last:
                pixels = self.codec.decode_last(latents, past)
            else:
                pixels = self.codec.decode(latents, past)[0]
            made = self.codec.to_bytes(pixels).to(self.device)
            for i, frames in zip(hidden, made, strict=True):
                # A copy, so that one world's frames do not keep the whole batch alive.
                shown[i] = frames.clone()
        return [frames for frames in shown if frames is not None]

    def _known_frames(self, state: SanaState, last: bool) -> Tensor | None:
        frames = state.decoded
        if state.chunk == 0:
            frames = torch.from_numpy(state.image[None]).to(self.device)
        return frames[-1] if last and frames is not None else frames

    def latents(self, states: Sequence[SanaState], last: bool = False) -> list[Tensor]:
        """As `WorldModel.latents`, on the world's device."""
        if last:
            return [state.latents[0, :, -1].float() for state in states]
        return [state.latents[0].movedim(1, 0).float() for state in states]

    def pack(self, state: SanaState) -> values.Arrays:
        """As `WorldModel.pack`."""
        return values.pack(state)

    def unpack(self, arrays: values.Arrays) -> SanaState:
        """As `WorldModel.unpack`."""
        spec, codec, depth = self.spec, self.codec, self.model.config.depth
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
            device=self.device,
        )
        check_rigid(state.anchor[None], "anchor")
        require_number("anchor_confidence", state.anchor_confidence, 0.0, 1.0)
        codec.check_state(state.decoder)
        begun = state.chunk > 0
        for part, there, expected in (
            ("a prompt", state.text, self.caption is not None),
            ("a refiner's past", state.refinement, self.second_stage is not None),
            ("memories", state.generator, begun),
            ("frames", state.decoded, begun and not codec.free_skip),
        ):
            if (there is not None) != expected:
                given = "without" if there is None else "with"
                raise ValueError(f"given a state after {state.chunk} chunks {given} {part}")
        if state.generator is not None and len(state.generator.blocks) != depth:
            blocks = len(state.generator.blocks)
            raise ValueError(f"given a state of {blocks} blocks; expected {depth}")
        return state

    def _refuse_a_fork(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this process is a forked copy of the one that loaded world {self.spec.name!r}, "
                "and a network's threads and device do not survive a fork: step many worlds in "
                "one process with SanaWMVectorEnv (gymnasium.make_vec), or start workers by "
                "'spawn' or 'forkserver'"
            )
