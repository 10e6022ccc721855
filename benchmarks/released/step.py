"""One chunk of the generator, timed pass by pass."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from benchmarks.released.meter import Meter, place
from benchmarks.released.work import (
    chunk_operations,
    filled_state,
    pass_bytes,
    pass_work,
    remembered_frames,
    state_bytes,
)
from sana_wm_gym.camera.controls import MotionLimits, twist_to_controls
from sana_wm_gym.camera.trajectory import CameraState, integrate
from sana_wm_gym.models import kernels
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import GeneratorState, map_tensors
from sana_wm_gym.models.transformer import Conditioning, SanaWM, SanaWMConfig
from sana_wm_gym.weights.generator import generator_bytes, load_generator
from sana_wm_gym.weights.names import RELEASED, Variant
from sana_wm_gym.world.learned.compiled import compile_step
from sana_wm_gym.world.learned.conditioning import chunk_conditioning
from sana_wm_gym.world.learned.sampler import Flow, chunk_noise, remember, self_forcing
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4
from sana_wm_gym.world.released.streaming import GENERATOR, assumed_intrinsics
from sana_wm_gym.world.world_model import CHUNK_FRAMES, LATENTS_PER_CHUNK

Result = dict[str, Any]

CELL = 32
"""Pixels of a latent cell's side."""

TINY = SanaWMConfig(
    latent_channels=8,
    width=32,
    depth=4,
    heads=2,
    text_channels=16,
    text_tokens=12,
    position_entries=0,
)
"""The same network small enough for tests; it tells nothing about the released one."""

SEED = 0


def config_of(tiny: bool) -> SanaWMConfig:
    """The network's size."""
    return TINY if tiny else RELEASED


def load_written(folder: Path, tiny: bool, container: str, dtype: str, device: str) -> SanaWM:
    """The network that a `Write` case left in a folder, through the package's loader."""
    return load_generator(
        folder / container / GENERATOR,
        Variant.STREAMING,
        config=config_of(tiny),
        dtype=place(dtype),
        device=device,
    )


@dataclass(frozen=True)
class Step:
    """One chunk after `history` chunks: four denoising passes and the clean one.

    Attributes:
        tiny: The small network.
        container: Weights to load.
        dtype: Type of weights and latents.
        device: Where.
        height: Pixels.
        width: Pixels.
        window: Past chunks that a softmax block sees, the first among them; None for all.
        history: Chunks before this one.
        passes: 5 for a whole chunk; 1 for the clean pass alone.
        compiler: Backend of torch.compile for the blocks, or "".
        fused: Fused kernels of flash-linear-attention; CUDA only.
        repeats: Chunks to time. Of several, the first is a warm-up.
    """

    tiny: bool
    container: str
    dtype: str
    device: str
    height: int
    width: int
    window: int | None
    history: int
    passes: int = 5
    compiler: str = ""
    fused: bool = False
    repeats: int = 1

    def run(self, folder: Path) -> Result:
        """Times, peak memory and the work that was done."""
        if self.fused and (self.device == "cpu" or kernels.fused() is None):
            raise ValueError('fused kernels need a CUDA device and "sana_wm_gym[gpu]"')
        model = load_written(folder, self.tiny, self.container, self.dtype, self.device)
        with torch.inference_mode(), self._kernels():
            return self._measure(model)

    def _kernels(self) -> AbstractContextManager[Any]:
        """torch's own kernels unless the fused ones are asked for."""
        return nullcontext() if self.fused else _plain()

    def _measure(self, model: SanaWM) -> Result:
        config, dtype, where = config_of(self.tiny), place(self.dtype), torch.device(self.device)
        rows, columns = self.height // CELL, self.width // CELL
        cells, plan = rows * columns, ChunkPlan(window=MemoryWindow(self.window))
        torch.manual_seed(SEED)
        state = filled_state(config, cells, plan.window, self.history, dtype, where)
        conditioning, camera_s = self._conditioning(config, where, dtype)
        shape = (1, config.latent_channels, LATENTS_PER_CHUNK, rows, columns)
        noise = chunk_noise(SEED, self.history, shape).to(where, dtype)
        difference = self._difference(model, noise, conditioning, plan, state)
        gc.collect()
        meter, timed = Meter(where), TimedFlow(model, Meter(where))
        chunks, busy, passes = [], [], []
        for _ in range(self.repeats):
            timed.seconds.clear()
            with meter.timing():
                out = self._chunk(timed, noise, conditioning, plan, state)
            chunks.append(meter.seconds)
            busy.append(meter.processor)
            passes.append(list(timed.seconds))
        warm = slice(1 if self.repeats > 1 else 0, None)
        remembered = remembered_frames(plan.window, self.history)
        caption = 0 if conditioning.text is None else conditioning.text.shape[1]
        whole = self.passes == len(SELF_FORCING_4.timesteps) + 1
        operations = (
            chunk_operations(config, cells, remembered, caption, self.passes - 1)
            if whole
            else pass_work(config, LATENTS_PER_CHUNK, cells, remembered, caption, 1).total
        )
        return {
            "first_s": chunks[0],
            "s": median(chunks[warm]),
            "processor_s": median(busy[warm]),
            "pass_s": [median(times) for times in zip(*passes[warm], strict=True)],
            "camera_s": camera_s,
            "peak_bytes": meter.peak(total=True),
            "weight_bytes": generator_bytes(config, dtype),
            "state_bytes": state_bytes(state),
            "working_bytes": meter.peak(),
            "operations": operations,
            "read_bytes": self.passes * pass_bytes(config, state, dtype),
            "difference": difference,
            "finite": bool(torch.isfinite(out).all()),
        }

    def _chunk(
        self,
        flow: Flow,
        noise: Tensor,
        conditioning: Conditioning,
        plan: ChunkPlan,
        state: GeneratorState,
    ) -> Tensor:
        """A chunk, or the latents that its only pass saw."""
        if self.passes == 1:
            remember(flow, noise, conditioning, plan, state)
            return noise
        return self_forcing(flow, noise, None, conditioning, plan, state, SELF_FORCING_4)[0]

    def _conditioning(
        self, config: SanaWMConfig, where: torch.device, dtype: torch.dtype
    ) -> tuple[Conditioning, float]:
        """A walk's cameras and a random caption; seconds that the cameras took."""
        meter, size = Meter(torch.device("cpu")), (self.height, self.width)
        limits = MotionLimits()
        with meter.timing():
            controls = twist_to_controls(np.array([0.5, 0.2, 0, 0, 0.4]), limits, CHUNK_FRAMES)
            poses, _ = integrate(CameraState(), controls, limits.pitch_limit)
            c2w = np.concatenate([np.eye(4)[None], poses])[None]
            intrinsics = np.tile(assumed_intrinsics(*size), (1, CHUNK_FRAMES + 1, 1))
            grid = (self.height // CELL, self.width // CELL)
            conditioning = chunk_conditioning(c2w, intrinsics, size, grid, first=False)
        if config.text_channels:
            text = torch.randn(1, config.text_tokens, config.text_channels, dtype=torch.float32)
            mask = torch.ones(1, config.text_tokens)
            conditioning = replace(conditioning, text=text.to(dtype), text_mask=mask)
        return map_tensors(lambda part: part.to(where), conditioning), meter.seconds

    def _difference(
        self,
        model: SanaWM,
        noise: Tensor,
        conditioning: Conditioning,
        plan: ChunkPlan,
        state: GeneratorState,
    ) -> float | None:
        """Compile the blocks if asked to; how far a compiled or fused pass is from a plain one,
        largest over largest. None for the plain one itself."""
        if not self.compiler and not self.fused:
            return None
        timestep = torch.full((1, LATENTS_PER_CHUNK), 960.0, device=noise.device)
        arguments = (noise, timestep, conditioning, plan, state)
        with _plain():
            plain = model(*arguments)[0].float()
        if self.compiler:
            compile_step(model, self.compiler)
        changed = model(*arguments)[0].float()
        return float((changed - plain).abs().max() / plain.abs().max())


class TimedFlow:
    """A flow that notes how long each call takes."""

    def __init__(self, network: Flow, meter: Meter) -> None:
        self.network, self.meter = network, meter
        self.seconds: list[float] = []

    def __call__(
        self,
        latents: Tensor,
        timestep: Tensor,
        conditioning: Conditioning,
        plan: ChunkPlan,
        state: GeneratorState | None,
    ) -> tuple[Tensor, GeneratorState]:
        """As the network."""
        with self.meter.timing():
            result = self.network(latents, timestep, conditioning, plan, state)
        self.seconds.append(self.meter.seconds)
        return result


def _plain() -> AbstractContextManager[Any]:
    return mock.patch.object(kernels, "fused", lambda: None)  # noqa: PT008 - torch traces it
