"""The learned world: SANA-WM's streaming generator and a codec behind the world contract."""

from __future__ import annotations

import os
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, Generic

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from typing_extensions import TypeVar

from sana_wm_gym.camera.controls import MotionLimits
from sana_wm_gym.camera.trajectory import CameraTrajectory, check_intrinsics
from sana_wm_gym.models.codec import LatentCodec, PatchCodec
from sana_wm_gym.models.localiser import Localiser
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, map_tensors, row, shapes, stack
from sana_wm_gym.models.text import PromptEmbedding
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.weights.world_file import EMBEDDED, WorldFile, read_world_file
from sana_wm_gym.world.learned.captions import SurfaceCaptions
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.packing import Arrays
from sana_wm_gym.world.learned.sampler import CleanPrediction, Flow, chunk_noise, self_forcing
from sana_wm_gym.world.learned.sana_state import SanaState, pack_state, unpack_state
from sana_wm_gym.world.learned.schedule import NoiseSchedule
from sana_wm_gym.world.learned.schedule import self_forcing as schedule_of
from sana_wm_gym.world.learned.second_stage import SecondStage
from sana_wm_gym.world.procedural.appearance import Surface
from sana_wm_gym.world.procedural.procedural_world import draw_start
from sana_wm_gym.world.world_model import CHUNK_FRAMES, LATENTS_PER_CHUNK, Start, WorldSpec

CodecT = TypeVar("CodecT", bound=LatentCodec, default=PatchCodec)


class SanaWorld(Generic[CodecT]):
    """A camera-controlled world that a network has learned.

    Args:
        spec: What the world promises; `latent_shape` must be given.
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
        flow: Velocity field of the generator; by default of one that predicts clean latents.
        caption: Encodes a prompt for a generator that reads one.
        second_stage: Refines each chunk before it is decoded.
        products: Type that the generator's matrix products are rounded to, such as
            `torch.bfloat16`; None for that of its weights.

    Raises:
        ValueError: The spec has no latents, or the generator reads captions and there is no
            encoder, or the other way round.
    """

    def __init__(
        self,
        spec: WorldSpec,
        model: SanaWM,
        codec: CodecT,
        schedule: NoiseSchedule,
        window: MemoryWindow,
        *,
        clean_pass: bool = True,
        frequencies: tuple[float, ...] = (),
        localiser: Localiser | None = None,
        flow: Callable[[SanaWM], Flow] = CleanPrediction,
        caption: Callable[[str], PromptEmbedding] | None = None,
        second_stage: SecondStage | None = None,
        products: torch.dtype | None = None,
    ) -> None:
        if spec.latent_shape is None:
            raise ValueError("given a spec without latent_shape; a learned world has latents")
        if (model.config.text_channels is None) != (caption is None):
            raise ValueError(
                "given an encoder of captions for a generator that reads none"
                if caption is not None
                else "given no encoder of captions; this generator reads them"
            )
        self._spec = spec
        self._latent_shape = spec.latent_shape
        self.model = model.eval()
        self.codec: CodecT = codec.eval()
        self.schedule = schedule
        self.clean_pass = clean_pass
        self.frequencies = frequencies
        self.localiser = None if localiser is None else localiser.eval()
        self.flow = flow(self.model)
        self.caption = caption
        self.second_stage = second_stage
        self.products = products
        weight = next(self.model.parameters())
        self._device, self._dtype = weight.device, weight.dtype
        self.plan = ChunkPlan(window=window)
        self._process = os.getpid()
        self._warned = False

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Unpickling makes a world anew, in whatever process; a fork only looks as if it did.
        self.__dict__.update(state)
        self._process = os.getpid()

    @property
    def device(self) -> torch.device:
        """Where the generator is."""
        return self._device

    @property
    def spec(self) -> WorldSpec:
        """Frame size, rate, motion limits and scenes."""
        return self._spec

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
        spec, image = self.spec, np.asarray(start.image)
        if image.dtype != np.uint8 or image.shape != (spec.height, spec.width, 3):
            raise ValueError(
                f"given a first frame {image.dtype} {image.shape}; "
                f"expected uint8 ({spec.height}, {spec.width}, 3)"
            )
        check_intrinsics(np.array([start.intrinsics], dtype=np.float64))
        text = None if self.caption is None else self.caption(start.prompt)
        second = self.second_stage
        pixels = torch.from_numpy(image.copy()).to(self._device).float()[None] / 255
        latent = self.codec.encode_image(pixels).to(self._device, self._dtype)
        anchor, confidence = self._anchor(image)
        # A start that the world drew itself is of its map, whatever the localiser makes of it.
        if start.scene is None or start.scene not in spec.scenes:
            self._warn_of_a_foreign_picture(confidence)
        return SanaState(
            image=image.copy(),
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
        pixels = torch.from_numpy(image.copy()).to(self._device).movedim(-1, 0)[None]
        found = self.localiser(pixels)
        anchor = found.c2w[0].cpu().numpy().astype(np.float64)
        return anchor, float(found.confidence[0])

    def _warn_of_a_foreign_picture(self, confidence: float) -> None:
        if confidence < 0.5 and not self._warned:
            self._warned = True
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
    def advance(
        self, states: Sequence[SanaState], cameras: Sequence[CameraTrajectory]
    ) -> list[SanaState]:
        """Generate one chunk for each state; states whose memories have equal shapes share a
        forward pass.

        Raises:
            ValueError: There is not one camera per state, or a camera does not have 25 poses or is
                meant for another frame size.
            RuntimeError: This process was forked from the one that made the world.
        """
        self._refuse_a_fork()
        if len(states) != len(cameras):
            raise ValueError(f"given {len(states)} states and {len(cameras)} cameras")
        for camera in cameras:
            self._check(camera)
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
        channels, rows, columns = self._latent_shape
        first = states[0].generator is None
        frames = LATENTS_PER_CHUNK + (1 if first else 0)
        conditioning = chunk_conditioning(
            np.stack([s.anchor @ camera.c2w for s, camera in zip(states, cameras, strict=True)]),
            np.stack([camera.intrinsics for camera in cameras]),
            (self.spec.height, self.spec.width),
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
        with torch.autocast(self._device.type, self.products, enabled=self.products is not None):
            latents, after = self_forcing(
                self.flow,
                noise.to(self._device, self._dtype),
                still,
                map_tensors(lambda part: part.to(self._device), conditioning),
                self.plan,
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
            decoded = self.codec.to_bytes(pixels)[0].to(self._device)
        return replace(
            state,
            chunk=state.chunk + 1,
            latents=latents,
            generator=generator,
            decoder=decoder,
            refinement=refinement,
            decoded=decoded,
        )

    def frames(self, state: SanaState) -> npt.NDArray[np.uint8]:
        """The last chunk's frames, uint8 [24, H, W, 3]; the first image before any chunk."""
        return self.show([state])[0]

    def show(self, states: Sequence[SanaState]) -> list[npt.NDArray[np.uint8]]:
        """`frames` of each state; those that are not decoded yet are so in one batch."""
        return [np.array(frames.cpu().numpy()) for frames in self.frame_tensors(states)]

    def frame_tensors(self, states: Sequence[SanaState]) -> list[Tensor]:
        """`show` on the world's device, uint8 [24 or 1, H, W, 3] each. Read only."""
        shown = [self._known_frames(state) for state in states]
        hidden = [i for i, frames in enumerate(shown) if frames is None]
        if hidden:
            for i, frames in zip(hidden, self._decode([states[i] for i in hidden]), strict=True):
                # A copy, so that one world's frames do not keep the whole batch alive.
                shown[i] = frames.clone()
        return [frames for frames in shown if frames is not None]

    def last_frames(self, states: Sequence[SanaState]) -> list[npt.NDArray[np.uint8]]:
        """The last of each state's `frames`, uint8 [H, W, 3], for a tenth of their cost in the
        embedded world."""
        return [np.array(frame.cpu().numpy()) for frame in self.last_frame_tensors(states)]

    @torch.inference_mode()
    def last_frame_tensors(self, states: Sequence[SanaState]) -> list[Tensor]:
        """The last of each state's `frames` on the world's device, uint8 [H, W, 3]. Read only."""
        known = [self._known_frames(state) for state in states]
        shown = [None if frames is None else frames[-1].clone() for frames in known]
        hidden = [i for i, frame in enumerate(shown) if frame is None]
        if hidden:
            latents, decoders = self._undecoded([states[i] for i in hidden])
            made = self.codec.to_bytes(self.codec.decode_last(latents, decoders))
            for i, frame in zip(hidden, made.to(self._device), strict=True):
                shown[i] = frame.clone()
        return [frame for frame in shown if frame is not None]

    def last_latent_tensors(self, states: Sequence[SanaState]) -> list[Tensor]:
        """The last of each state's `latents` on the world's device, float32 [c, h, w]. Read
        only."""
        return [state.latents[0, :, -1].float() for state in states]

    def _known_frames(self, state: SanaState) -> Tensor | None:
        if state.chunk == 0:
            return torch.from_numpy(state.image[None]).to(self._device)
        return state.decoded

    def decode(self, states: Sequence[SanaState]) -> npt.NDArray[np.uint8]:
        """Frames of several worlds' last chunks in one batch, uint8 [b, 24, H, W, 3]."""
        return self._decode(states).cpu().numpy()

    @torch.inference_mode()
    def _decode(self, states: Sequence[SanaState]) -> Tensor:
        pixels, _ = self.codec.decode(*self._undecoded(states))
        return self.codec.to_bytes(pixels).to(self._device)

    def _undecoded(self, states: Sequence[SanaState]) -> tuple[Tensor, Any]:
        """Latents and decoders of states, as a batch for the codec."""
        self._refuse_a_fork()
        return torch.cat([s.latents for s in states]), stack([s.decoder for s in states])

    def _to_generator(self, text: PromptEmbedding) -> PromptEmbedding:
        return PromptEmbedding(
            text.features.to(self._device, self._dtype), text.mask.to(self._device)
        )

    def latents(self, state: SanaState) -> npt.NDArray[np.float32]:
        """The last chunk's latent frames, float32 [3, c, h, w]; [1, c, h, w] before any."""
        return state.latents[0].movedim(1, 0).float().cpu().numpy().copy()

    def pack(self, state: SanaState) -> Arrays:
        """The state as named arrays, enough for `unpack` to continue bit for bit."""
        return pack_state(state, self.codec)

    def unpack(self, arrays: Arrays) -> SanaState:
        """Inverse of `pack`.

        Raises:
            ValueError: An array is missing, unknown or of the wrong shape.
        """
        return unpack_state(arrays, self)

    def _refuse_a_fork(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"this process is a forked copy of the one that loaded world {self.spec.name!r}, "
                "and a network's threads and device do not survive a fork: step many worlds in "
                "one process with SanaWMVectorEnv (gymnasium.make_vec), or start workers by "
                "'spawn' or 'forkserver'"
            )

    def _check(self, camera: CameraTrajectory) -> None:
        if len(camera.c2w) != CHUNK_FRAMES + 1:
            raise ValueError(f"given {len(camera.c2w)} poses; expected {CHUNK_FRAMES + 1}")
        if (camera.height, camera.width) != (self.spec.height, self.spec.width):
            raise ValueError(
                f"given a camera for {camera.height} x {camera.width} frames; "
                f"expected {self.spec.height} x {self.spec.width}"
            )


def world_of(
    file: WorldFile, *, name: str | None = None, products: torch.dtype | None = None
) -> SanaWorld:
    """The world that a world file describes; `name` and `products` replace its own."""
    promise = file.promise
    size, patch = (promise["height"], promise["width"]), file.codec.config.patch
    fx, fy, cx, cy = promise["intrinsics"]
    spec = WorldSpec(
        name=promise["name"] if name is None else name,
        height=size[0],
        width=size[1],
        fps=promise["fps"],
        latent_shape=(file.codec.config.channels, size[0] // patch, size[1] // patch),
        intrinsics=(fx, fy, cx, cy),
        limits=MotionLimits(**promise["limits"]),
        scenes=tuple(promise["scenes"]),
        start_radius=promise["start_radius"],
        surfaces=tuple(Surface(s["name"], tuple(s["variants"])) for s in promise["surfaces"]),
    )
    return SanaWorld(
        spec,
        file.generator,
        file.codec,
        schedule_of(promise["timesteps"]),
        MemoryWindow(**promise["window"]),
        clean_pass=promise["clean_pass"],
        frequencies=tuple(promise["frequencies"]),
        localiser=file.localiser,
        caption=SurfaceCaptions(spec.surfaces) if spec.surfaces else None,
        products=products,
    )


def promise_of(world: SanaWorld) -> dict[str, Any]:
    """What `world_of` needs besides weights, as JSON values."""
    spec = world.spec
    return {
        "name": spec.name,
        "height": spec.height,
        "width": spec.width,
        "fps": spec.fps,
        "intrinsics": list(spec.intrinsics),
        "limits": asdict(spec.limits),
        "scenes": list(spec.scenes),
        "start_radius": spec.start_radius,
        "surfaces": [asdict(surface) for surface in spec.surfaces],
        "frequencies": list(world.frequencies),
        "clean_pass": world.clean_pass,
        "timesteps": [*world.schedule.timesteps, 0],
        "window": asdict(world.plan.window),
    }


def load_tiny() -> SanaWorld:
    """The learned world that ships in the package.

    Raises:
        FileNotFoundError: The package was built without its weights.
        ValueError: The weights are damaged.
    """
    return world_of(read_world_file(EMBEDDED / "tiny.safetensors"))


def load_tiny_bf16() -> SanaWorld:
    """The same world with matrix products in bfloat16, as it was trained: batches are 1.6 times as
    fast on processors that have such products (AVX512-BF16, AMX), slower on others.

    Raises:
        FileNotFoundError: The package was built without its weights.
        ValueError: The weights are damaged.
    """
    file = read_world_file(EMBEDDED / "tiny.safetensors")
    return world_of(file, name="tiny-bf16", products=torch.bfloat16)
