"""`dit_streaming*`: chunk-by-chunk sampling with memories kept between chunks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.parity_checks.attention import tokens
from benchmarks.parity_checks.check import Array, Outcome, Skip, close, compare_named, equal
from benchmarks.parity_checks.files import Tensors, entry, read_json
from benchmarks.parity_checks.forward import read_conditioning
from benchmarks.parity_checks.network import (
    PRECISIONS,
    Network,
    as_array,
    as_tensor,
    compare,
    read_network,
    recording,
)
from benchmarks.parity_checks.rounding import nudge, with_noise
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import BlockMemory, DeltaRuleMemory, GeneratorState, KeyValueMemory
from sana_wm_gym.models.transformer import Conditioning, SanaWM
from sana_wm_gym.world.learned import schedule
from sana_wm_gym.world.learned.sampler import Flow, Guidance, self_forcing

INPUTS = ("latents_init", "y", "mask", "camera_conditions", "chunk_plucker")
SCHEDULE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Case:
    """One streaming run, as the json file describes it.

    Attributes:
        noise: Levels each chunk passes through.
        boundaries: Latent frames at which chunks start and end.
        plan: One chunk per call, and what softmax blocks keep.
        guidance: Scale of classifier-free guidance; 1 for none.
    """

    noise: schedule.NoiseSchedule
    boundaries: tuple[int, ...]
    plan: ChunkPlan
    guidance: float

    @staticmethod
    def read(description: Mapping[str, Any], where: str) -> Case:
        """From one entry of `cases`.

        Raises:
            GoldenError: An entry is missing or of the wrong kind.
        """
        frames = entry(description, "latent_frames", int, where)
        chunk = entry(description, "base_chunk_frames", int, where)
        blocks = entry(description, "num_cached_blocks", int, where)
        window = MemoryWindow(
            chunks=None if blocks < 0 else blocks,
            sink=entry(description, "sink_token", bool, where),
        )
        return Case(
            noise=schedule.self_forcing(entry(description, "denoising_step_list", list, where)),
            boundaries=schedule.first_takes_remainder(frames, chunk),
            plan=ChunkPlan(window=window),
            guidance=entry(description, "cfg_scale", float, where),
        )


@dataclass(frozen=True)
class Run:
    """What one streaming run gave: tensors by reference name, and softmax tokens kept."""

    tensors: dict[str, Tensor]
    kept: list[int]


def check(path: Path) -> Iterator[Outcome]:
    """Compare every case of the file.

    Raises:
        GoldenError: The pair of files is not readable or does not fit together.
    """
    tensors = Tensors.open(path)
    network = read_network(path, read_json(path.with_suffix(".json")))
    cases = entry(network.description, "cases", dict, f"{path.stem}.json")
    for name, description in cases.items():
        stored = tensors.under(f"{name}/")
        needed = [f"inputs/{key}" for key in INPUTS]
        case = Case.read(description, f"{path.stem}.json case {name}")
        if case.guidance != 1:
            needed.append("inputs/y_uncond")
        if missing := [key for key in needed if key not in stored]:
            yield Skip(name, f"{', '.join(missing)} absent from the file")
            continue
        yield from _check_case(network, case, name, description, stored)
    for name in tensors.without("weights/", *(f"{case}/" for case in cases)):
        yield Skip(name, "is in no case of the json file")


def _check_case(
    network: Network, case: Case, name: str, description: Mapping[str, Any], stored: Tensors
) -> Iterator[Outcome]:
    if "chunk_boundaries" in description:
        stated = description["chunk_boundaries"]
        yield equal(f"{name}/chunk_boundaries", list(case.boundaries), stated)
    table = {
        "denoising_step_list": (*case.noise.network_timesteps, 0),
        "sigmas": case.noise.sigmas,
        "timesteps": case.noise.timesteps,
    }
    for key, values in table.items():
        if f"schedule/{key}" in stored:
            reference = stored[f"schedule/{key}"]
            ours = np.asarray(values, dtype=np.float64)
            yield close(f"{name}/schedule/{key}", ours, reference, SCHEDULE_TOLERANCE)

    produced: dict[str, Array] = {}
    for precision, rounded in PRECISIONS.items():
        if not stored.under(f"{precision}/"):
            continue
        run = _run(network.build(rounded), case, stored, stored["inputs/latents_init"])
        seen = "softmax_kv_tokens_seen_per_chunk"
        if seen in description and not rounded:
            yield equal(f"{name}/{seen}", run.kept, description[seen])
        produced |= {
            f"{precision}/{key}": as_array(tensor)
            for key, tensor in run.tensors.items()
            if not rounded or key == "latents_final"
        }
    others = stored.without("inputs/", "schedule/")
    outcomes = compare_named(f"{name}/", produced, others, compare)

    def rerun(trial: int) -> dict[str, Array]:
        latents = nudge(stored["inputs/latents_init"], trial)
        moved = _run(network.build(bf16_softmax=True), case, stored, latents)
        return {f"bf16attn/{key}": as_array(tensor) for key, tensor in moved.tensors.items()}

    yield from with_noise(outcomes, produced, rerun, f"{name}/")


@torch.inference_mode()
def _run(model: SanaWM, case: Case, stored: Tensors, latents_init: Array) -> Run:
    """Generate all chunks, recording every call of the network."""
    start = as_tensor(latents_init)
    conditioning = _conditioning(case, stored, start.shape)
    flow: Flow = model if case.guidance == 1 else Guidance(model, case.guidance)
    state: GeneratorState | None = None
    named: dict[str, Tensor] = {}
    kept: list[int] = []
    made = []
    spans = list(pairwise(case.boundaries))
    for chunk, (first, end) in enumerate(spans):
        kept.append(_softmax_tokens(state))
        if chunk == len(spans) - 1 and state is not None:
            named |= _memories_seen(chunk, state)
        with ExitStack() as stack:
            calls = stack.enter_context(recording(model, ["forward"]))["forward"]
            blocks = [
                stack.enter_context(recording(block, ["forward"]))["forward"]
                for block in model.blocks
            ]
            latents, state = self_forcing(
                flow,
                start[:, :, first:end],
                start[:, :, 0] if first == 0 else None,
                _frames(conditioning, first, end),
                case.plan,
                state,
                case.noise,
            )
        made.append(latents)
        named[f"chunk_{chunk:02d}/latents"] = latents
        for step, call in enumerate(calls):
            last = step == case.noise.steps
            folder = f"chunk_{chunk:02d}/{'save_pass' if last else f'step_{step:02d}'}"
            x, timestep = call.arguments[:2]
            named[f"{folder}/model_in"] = x
            named[f"{folder}/timestep"] = timestep if timestep.ndim == 1 else timestep[:, None]
            named[f"{folder}/model_out"] = call.result[0]
            if step == 0 or last:
                for index, block_calls in enumerate(blocks):
                    out = block_calls[step].result[0]
                    named[f"{folder}/block_{index:02d}/out"] = tokens(out)
        named |= _memories_written(chunk, state)
    named["latents_final"] = torch.cat(made, dim=2)
    return Run(named, kept)


def _conditioning(case: Case, stored: Tensors, latent_shape: torch.Size) -> Conditioning:
    """Cameras and caption of the clip; [unconditional, conditional] under guidance."""
    text = stored["inputs/y"]
    if case.guidance != 1:
        text = np.concatenate([stored["inputs/y_uncond"], text])
    return read_conditioning(stored, latent_shape, text)


def _frames(conditioning: Conditioning, first: int, end: int) -> Conditioning:
    rays, plucker = conditioning.ray_from_world, conditioning.plucker
    return replace(
        conditioning,
        ray_from_world=None if rays is None else rays[:, first:end],
        plucker=None if plucker is None else plucker[:, :, first:end],
    )


def _softmax_tokens(state: GeneratorState | None) -> int:
    """Tokens that a softmax block keeps."""
    for memory in () if state is None else state.blocks:
        if isinstance(memory.attention, KeyValueMemory):
            return sum(chunk.key.shape[2] for chunk in memory.attention.chunks)
    return 0


def _memories_seen(chunk: int, state: GeneratorState) -> dict[str, Tensor]:
    """Softmax keys and values passed to a chunk, joined over the chunks in view."""
    named = {}
    for index, block in enumerate(state.blocks):
        if isinstance(block.attention, KeyValueMemory):
            parts = [
                _slots_of_chunk(block.attention, i) for i in range(len(block.attention.chunks))
            ]
            for slot in parts[0]:
                joined = torch.cat([part[slot] for part in parts], dim=2)
                named[f"chunk_{chunk:02d}/cache_in/block_{index:02d}/{slot}"] = joined
    return named


def _memories_written(chunk: int, state: GeneratorState) -> dict[str, Tensor]:
    """What a chunk's clean pass wrote, by the reference's slot names."""
    return {
        f"chunk_{chunk:02d}/cache_after/block_{index:02d}/{slot}": tensor
        for index, block in enumerate(state.blocks)
        for slot, tensor in _slots(block).items()
    }


def _slots(block: BlockMemory) -> dict[str, Tensor]:
    """One block's memory in the reference's numbered slots and layouts."""
    tail = {"slot9_tconv": block.ffn_tail.permute(0, 3, 1, 2)}
    memory = block.attention
    if isinstance(memory, KeyValueMemory):
        return _slots_of_chunk(memory, -1) | tail
    return _delta_rule_slots(memory) | tail


def _delta_rule_slots(memory: DeltaRuleMemory) -> dict[str, Tensor]:
    slots = {
        "slot0": memory.numerator.transpose(-1, -2),
        "slot1": memory.denominator,
        "slot4_shortconv": memory.key_tail.transpose(1, 2).flatten(0, 1),
    }
    if memory.camera is not None:
        slots["slot2"] = memory.camera
    return slots


def _slots_of_chunk(memory: KeyValueMemory, index: int) -> dict[str, Tensor]:
    chunk = memory.chunks[index]
    slots = {"slot0": chunk.key, "slot1": chunk.value}
    if chunk.camera_key is not None and chunk.camera_value is not None:
        slots |= {"slot2": chunk.camera_key, "slot3": chunk.camera_value}
    return slots
