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
from sana_wm_gym.camera.trajectory import CameraTrajectory, check_intrinsics
from sana_wm_gym.models.codec import LatentCodec, PatchCodec
from sana_wm_gym.models.localiser import Localiser
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, map_tensors, row, shapes, stack
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.world.learned.chunk import CHUNK_FRAMES, LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.sampler import CleanPrediction, Flow, chunk_noise, self_forcing
from sana_wm_gym.world.learned.sana_state import SanaState, unpack_state
from sana_wm_gym.world.learned.schedule import NoiseSchedule
from sana_wm_gym.world.learned.second_stage import SecondStage
from sana_wm_gym.world.procedural.procedural_world import draw_start
from sana_wm_gym.world.world_model import ChunkInput, Start, WorldSpec, require_image, require_pairs

CodecT = TypeVar("CodecT", bound=LatentCodec, default=PatchCodec)

_WARNED: WeakSet[Localiser] = WeakSet()
"""Localisers of which somebody has been told that they do not know a picture."""


@dataclass(frozen=True, eq=False)
class SanaWorld(Generic[CodecT]):
    """A camera-controlled world that a network has learned.

    Attributes:
        spec: Frame size, rate, limits, scenes; `latent_shape` must be given.
        model: The generator; its type and place are those of the latents.
        codec: Frames to latents and back, on the same device.
        schedule: Noise levels of the sampler.
        window: What the generator's softmax blocks remember.
        clean_pass: Whether the state comes from a clean pass, as in the released models, or from
            the last denoising step; see `sampler.self_forcing`.
        frequencies: Of the sines and cosines of Pluecker coordinates that the generator reads;
            see `conditioning_of`.
        localiser: Finds the first frame in the frame that the generator is given cameras in; None
            where that frame is the first camera itself, as in the released models.
        flow: Makes the velocity field of the generator; by default of one that predicts clean
            latents.
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
    # A variation of a world has its networks, and so its process.
    _process: int = field(default_factory=os.getpid, repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.spec.latent_shape is None:
            raise ValueError("given a spec without latent_shape; a learned world has latents")
        if self.spec.frames_per_chunk != CHUNK_FRAMES:
            raise ValueError(
                f"given chunks of {self.spec.frames_per_chunk} frames; expected {CHUNK_FRAMES}"
            )
        if (self.model.config.text_channels is None) != (self.caption is None):
            raise ValueError(
                "given an encoder of captions for a generator that reads none"
                if self.caption is not None
                else "given no encoder of captions; this generator reads them"
            )
        self.model.eval()
        self.codec.eval()
        if self.localiser is not None:
            self.localiser.eval()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Unpickling makes a world anew, in whatever process; a fork only looks as if it did.
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
        """A first frame: a photograph, so to speak, taken in one of the maps the network knows.

        The renderer makes this one image; nothing it knows reaches the generator afterwards.

        Raises:
            ValueError: The world does not know the scene, or knows none.
        """
        spec = self.spec
        if not spec.scenes:
            raise ValueError(f"world {spec.name!r} makes no first frames of its own: give an image")
        if scene is not None and scene not in spec.scenes:
            raise ValueError(f"given scene {scene}; world {spec.name!r} knows {spec.scenes}")
        return draw_start(spec, rng, scene)

    @torch.inference_mode()
    def begin(self, start: Start, seed: int) -> SanaState:
        """State before the first chunk.

        Raises:
            ValueError: The image is not uint8 of the world's frame size, or the intrinsics are not
                finite with positive focal lengths.
            RuntimeError: This process was forked from the one that made the world.
        """
        self._refuse_a_fork()
        spec, image = self.spec, require_image(start, self.spec)
        check_intrinsics(np.array([start.intrinsics], dtype=np.float64))
        text = None if self.caption is None else self.caption(start.prompt)
        second = self.second_stage
        pixels = torch.from_numpy(image).to(self.device).float()[None] / 255
        latent = self.codec.encode_image(pixels).to(self.device, self.dtype)
        anchor, confidence = self._anchor(image)
        # A start that the world drew itself is of its map, whatever the localiser makes of it.
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
            text=None if text is None else self._to_generator(text),
            refinement=None if second is None else second.begin(latent, start.prompt),
        )

    def _anchor(self, image: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.float64], float]:
        """Pose of the first frame among the generator's cameras, and how sure that is."""
        if self.localiser is None:
            return np.eye(4), 1.0
        pixels = torch.from_numpy(image).to(self.device).movedim(-1, 0)[None]
        found = self.localiser(pixels)
        anchor = found.c2w[0].cpu().numpy().astype(np.float64)
        return anchor, float(found.confidence[0])

    def _warn_of_a_foreign_picture(self, confidence: float) -> None:
        localiser = self.localiser
        if localiser is not None and confidence < 0.5 and localiser not in _WARNED:
            _WARNED.add(localiser)
            warnings.warn(
                f"the first frame does not look like a place that world {self.spec.name!r} knows "
                f"(confidence {confidence:.2f}); its rollouts will not continue the picture. "
                "Later pictures of this kind are only reported by info['anchor_confidence']",
                stacklevel=3,
            )

    def anchor_confidence(self, state: SanaState) -> float:
        """Probability in [0, 1] that the rollout's first frame shows a place the world knows; 1.0
        without a localiser."""
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
        return replace(state, text=self._to_generator(self.caption(prompt)), refinement=past)

    @torch.inference_mode()
    def advance(self, states: Sequence[SanaState], inputs: Sequence[ChunkInput]) -> list[SanaState]:
        """Generate one chunk for each state; states whose memories have equal shapes share a
        forward pass.

        Raises:
            ValueError: There is not one input per state, or a camera does not have 25 poses or is
                meant for another frame size.
            RuntimeError: This process was forked from the one that made the world.
        """
        self._refuse_a_fork()
        require_pairs(states, inputs)
        cameras = [given.camera_of(self.spec) for given in inputs]
        groups: dict[object, list[int]] = defaultdict(list)
        for index, state in enumerate(states):
            groups[shapes((state.generator, state.text))].append(index)
        result: list[SanaState | None] = [None] * len(states)
        for members in groups.values():
            advanced = self._advance_alike(
                [states[i] for i in members], [cameras[i] for i in members]
            )
            for index, state in zip(members, advanced, strict=True):
                result[index] = state
        return [state for state in result if state is not None]

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
        new = latents[:, :, -LATENTS_PER_CHUNK:]
        return [
            self._after(state, new[i : i + 1].clone(), row(after, i))
            for i, state in enumerate(states)
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
        """Frames of each state's last chunk on the world's device, uint8 [24 or 1, H, W, 3]; those
        that are not decoded yet are so in one batch.

        With `last` only the last frame of each, [H, W, 3], for a tenth of the cost in the embedded
        world.

        Raises:
            RuntimeError: This process was forked from the one that made the world.
        """
        shown = [self._known_frames(state, last) for state in states]
        hidden = [i for i, frames in enumerate(shown) if frames is None]
        if hidden:
            self._refuse_a_fork()
            latents = torch.cat([states[i].latents for i in hidden])
            past = stack([states[i].decoder for i in hidden])
            decode = self.codec.decode_last if last else self._decode_all
            made = self.codec.to_bytes(decode(latents, past)).to(self.device)
            for i, frames in zip(hidden, made, strict=True):
                # A copy, so that one world's frames do not keep the whole batch alive.
                shown[i] = frames.clone()
        return [frames for frames in shown if frames is not None]

    def _decode_all(self, latents: Tensor, past: Any) -> Tensor:
        return self.codec.decode(latents, past)[0]

    def _known_frames(self, state: SanaState, last: bool) -> Tensor | None:
        frames = state.decoded
        if state.chunk == 0:
            frames = torch.from_numpy(state.image[None]).to(self.device)
        return frames[-1] if last and frames is not None else frames

    def latents(self, states: Sequence[SanaState], last: bool = False) -> list[Tensor]:
        """Latent frames of each state's last chunk on the world's device, float32 [3 or 1, c, h,
        w]; with `last` [c, h, w]."""
        if last:
            return [state.latents[0, :, -1].float() for state in states]
        return [state.latents[0].movedim(1, 0).float() for state in states]

    def _to_generator(self, text: PromptEmbedding) -> PromptEmbedding:
        return PromptEmbedding(text.features.to(self.device, self.dtype), text.mask.to(self.device))

    def pack(self, state: SanaState) -> values.Arrays:
        """The state as named arrays, enough for `unpack` to continue bit for bit."""
        return values.pack(state)

    def unpack(self, arrays: values.Arrays) -> SanaState:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        model, second = self.model, self.second_stage
        return unpack_state(
            arrays,
            self.spec,
            self.codec,
            self.device,
            depth=model.config.depth,
            captioned=self.caption is not None,
            refined=second is not None,
        )

    def _refuse_a_fork(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this process is a forked copy of the one that loaded world {self.spec.name!r}, "
                "and a network's threads and device do not survive a fork: step many worlds in "
                "one process with SanaWMVectorEnv (gymnasium.make_vec), or start workers by "
                "'spawn' or 'forkserver'"
            )
