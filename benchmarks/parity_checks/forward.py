"""`dit_bidirectional*`, `dit_chunk_causal*`: whole forwards, inside and out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.parity_checks.attention import RECORDED, block_tensors, tokens
from benchmarks.parity_checks.check import Array, Outcome, Skip, compare_named, equal
from benchmarks.parity_checks.files import Tensors, entry, read_json
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
from sana_wm_gym.camera import rays
from sana_wm_gym.models.plan import ChunkPlan
from sana_wm_gym.models.transformer import Block, Conditioning, SanaWM
from sana_wm_gym.world.learned import schedule

INPUTS = ("x", "timestep", "y", "mask", "camera_conditions", "chunk_plucker")
GIVEN = ("inputs/", "scalar_t/timestep")


def check(path: Path) -> Iterator[Outcome]:
    """Compare every case of the file.

    Raises:
        GoldenError: The pair of files is not readable or does not fit together.
    """
    tensors = Tensors.open(path)
    network = read_network(path, read_json(path.with_suffix(".json")))
    cases = dict(_cases(network))
    for prefix, case in cases.items():
        plan, boundaries = _plan(network, prefix, case)
        yield from boundaries
        stored = tensors.under(prefix).without("weights/")
        if missing := [f"inputs/{name}" for name in INPUTS if f"inputs/{name}" not in stored]:
            yield Skip(prefix or path.stem, f"{', '.join(missing)} absent from the file")
            continue
        yield from _check_case(network, plan, prefix, stored)
    for name in tensors.without("weights/", *cases):
        yield Skip(name, "is in no case of the json file")


def _cases(network: Network) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name prefix and description of each case; a file without cases is a single one."""
    if "cases" not in network.description:
        yield "", network.description
        return
    for name, case in entry(network.description, "cases", dict, "json").items():
        yield f"{name}/", case


def _plan(
    network: Network, prefix: str, case: Mapping[str, Any]
) -> tuple[ChunkPlan, list[Outcome]]:
    """Chunks of one call, and how they compare with the boundaries the file states."""
    if network.chunk is None or "chunk_index" not in case:
        return ChunkPlan(), []
    frames = entry(case, "latent_frames", int, f"case {prefix}")
    starts = tuple(entry(case, "chunk_index", list, f"case {prefix}"))
    # The released network ignores the given chunks here when uniform ones fit the clip.
    fits = frames % network.chunk == 0
    key_conv = schedule.uniform(frames, network.chunk)[:-1] if fits else starts
    stated = {
        "scan_chunk_boundaries": starts,
        "key_conv_reverse_chunk_boundaries": key_conv,
    }
    outcomes: list[Outcome] = [
        equal(f"{prefix}{key}", [*ours, frames], case[key])
        for key, ours in stated.items()
        if key in case
    ]
    return ChunkPlan(starts, key_conv), outcomes


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call."""

    latents: Tensor
    timestep: Tensor
    conditioning: Conditioning

    @staticmethod
    def read(stored: Mapping[str, Array]) -> Inputs:
        """From the tensors under `inputs/`."""
        latents = as_tensor(stored["inputs/x"])
        return Inputs(
            latents,
            as_tensor(stored["inputs/timestep"]).flatten(1),
            read_conditioning(stored, latents.shape, stored["inputs/y"]),
        )


def read_conditioning(
    stored: Mapping[str, Array], latent_shape: torch.Size, text: Array
) -> Conditioning:
    """Cameras and caption of a clip.

    Args:
        stored: Tensors of a case, `inputs/` included.
        latent_shape: [b, c, f, h, w].
        text: Caption features, [b, 1, l, text_channels].
    """
    vectors = stored["inputs/camera_conditions"]
    poses = vectors[..., :16].reshape(*vectors.shape[:-1], 4, 4)
    matrices = rays.ray_matrices(poses, vectors[..., 16:], *latent_shape[-2:])
    return Conditioning(
        ray_from_world=as_tensor(matrices),
        plucker=as_tensor(stored["inputs/chunk_plucker"]),
        text=as_tensor(text).squeeze(1),
        text_mask=as_tensor(stored["inputs/mask"]),
    )


def _check_case(
    network: Network, plan: ChunkPlan, prefix: str, stored: Tensors
) -> Iterator[Outcome]:
    inputs = Inputs.read(stored)
    ours = _case_tensors(network, plan, stored, inputs)

    def rerun(trial: int) -> dict[str, Array]:
        nudged = as_tensor(nudge(stored["inputs/x"], trial))
        return _case_tensors(network, plan, stored, replace(inputs, latents=nudged))

    outcomes = compare_named(prefix, ours, stored.without(*GIVEN), compare)
    yield from with_noise(outcomes, ours, rerun, prefix)


@torch.inference_mode()
def _case_tensors(
    network: Network, plan: ChunkPlan, stored: Tensors, inputs: Inputs
) -> dict[str, Array]:
    """Everything computed here for one case, by reference name."""
    ours: dict[str, Tensor] = {}
    for precision, rounded in PRECISIONS.items():
        reference = stored.under(f"{precision}/")
        if reference:
            inside = {int(n[6:8]) for n in reference if n[:6] == "block_" and n[8:] != "/out"}
            recorded, derived = _forward(network.build(rounded), inputs, plan, inside)
            if rounded:
                recorded = {n: t for n, t in recorded.items() if not n.startswith("top/")}
            ours |= {f"{precision}/{name}": tensor for name, tensor in recorded.items()}
            ours |= {f"derived/{name}": tensor for name, tensor in derived.items()}

    model = network.build(bf16_softmax=False)
    if "nocam/final" in stored:
        no_camera = replace(inputs.conditioning, ray_from_world=None, plucker=None)
        ours["nocam/final"] = model(inputs.latents, inputs.timestep, no_camera, plan, None)[0]
    if "scalar_t/timestep" in stored:
        timestep = as_tensor(stored["scalar_t/timestep"])
        ours["scalar_t/final"] = model(inputs.latents, timestep, inputs.conditioning, plan, None)[0]
    return {name: as_array(tensor) for name, tensor in ours.items()}


def _forward(
    model: SanaWM, inputs: Inputs, plan: ChunkPlan, inside: set[int]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One recorded call: its tensors by name, and the tables shared by all blocks.

    Args:
        model: Network to call.
        inputs: Its arguments.
        plan: Chunks of the call.
        inside: Blocks whose inner tensors are compared.
    """
    top_names = (
        "x_embedder",
        "plucker_embedder",
        "t_embedder",
        "t_block",
        "y_embedder",
        "attention_y_norm",
    )
    network_blocks = [block for block in model.blocks if isinstance(block, Block)]
    with ExitStack() as stack:
        top = stack.enter_context(recording(model, [f"{name}.forward" for name in top_names]))
        blocks = [
            stack.enter_context(recording(block, ["forward", *RECORDED]))
            for block in network_blocks
        ]
        flow, _ = model(inputs.latents, inputs.timestep, inputs.conditioning, plan, None)

    named = {"final": flow}
    for method, top_calls in top.items():
        name = method.removesuffix(".forward")
        result = top_calls[0].result
        is_text = name in ("y_embedder", "attention_y_norm")
        per_frame = name in ("t_embedder", "t_block")
        named[f"top/{name}"] = (
            result[:, None] if is_text else result.flatten(0, 1) if per_frame else tokens(result)
        )
    for index, (block, calls) in enumerate(zip(network_blocks, blocks, strict=True)):
        named[f"block_{index:02d}/out"] = tokens(calls["forward"][0].result[0])
        if index in inside:
            for name, tensor in block_tensors(block, calls).items():
                named[f"block_{index:02d}/{name}"] = tensor

    _, rope, camera, *_ = blocks[0]["attn.forward"][0].arguments
    rows = inputs.latents.shape[-2]
    derived = {
        "rope_cos": _table(rope.real),
        "rope_sin": _table(rope.imag),
        "cam_rope_cos": _table(camera.rope.real),
        "cam_rope_sin": _table(camera.rope.imag),
        "raymats": camera.ray_from_world.unflatten(2, (rows, -1)),
    }
    return named, derived


def _table(rope: Tensor) -> Tensor:
    """Rotary factors [1, f, s, 1, pairs] as [1, 1, n, pairs]."""
    return tokens(rope[:1]).transpose(1, 2)
