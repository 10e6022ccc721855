"""What does the released network take on this machine: to load, to step one chunk, to decode it?

The full-size Stage-1 generator and the causal LTX-2 decoder with **random weights**: times and
memory are real, pictures are none.

  roof    what the device reaches in a large matrix product and a large copy
  load    a safetensors file through the package's loader: peak memory over the size of the result
  step    one chunk after ten others: four denoising passes and the clean one, for a memory window
          of two chunks and of all; on CUDA and compiled, after a warm-up
  decode  the frames of one chunk

    python -m benchmarks.released_step                                  # CUDA if there is any
    python -m benchmarks.released_step --device cpu --size 256 320
    python -m benchmarks.released_step --compile inductor --parts step
    python -m benchmarks.released_step --tiny                           # seconds, to try the script

Every result is written to OUT/released_step.json as soon as it is there. Full size needs 8 GB of
memory, and 5.3 GB of disk for the part `load`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch.utils.benchmark import Timer

from benchmarks.released_network import (
    CELL,
    StepCase,
    filled_state,
    random_call,
    random_decoder,
    random_generator,
    run_empty,
)
from benchmarks.report import parser_of
from benchmarks.step_timing import Stopwatch
from sana_wm_gym import memory
from sana_wm_gym.files import write_json
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table
from sana_wm_gym.weights.generator import generator_bytes, load_generator, save_generator
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.world.learned.chunk import LATENTS_PER_CHUNK
from sana_wm_gym.world.learned.compiled import compile_step
from sana_wm_gym.world.learned.sampler import self_forcing
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4

Result = dict[str, Any]
PARTS = ("roof", "load", "step", "decode")


@contextmanager
def measured(device: torch.device) -> Iterator[Result]:
    """Seconds, CPU seconds and peak memory (GB, of the whole process or of all that torch holds
    on CUDA) of the block, in the dict that it gets."""
    into, watch, cuda = Result(), Stopwatch(), device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    with watch.running():
        yield into
        if cuda:
            torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device) if cuda else memory.peak_resident()
    into |= {"s": watch.wall, "cpu_s": watch.cpu, "peak_gb": peak / 1e9}


def roof(case: StepCase) -> Result:
    """Operations and bytes per second of one large product and one large copy, mean of five."""
    side = 256 if case.tiny else 8192 if case.device.type == "cuda" else 2048
    tensors = {name: torch.ones(side, side, device=case.device, dtype=case.dtype) for name in "abc"}
    product, copy = (
        Timer(work, globals=tensors, num_threads=torch.get_num_threads()).timeit(5).mean
        for work in ("a @ b", "c.copy_(a)")
    )
    moved = 2 * tensors["a"].nbytes
    return {"tflop_per_s": 2 * side**3 / product / 1e12, "gb_per_s": moved / copy / 1e9}


def load(case: StepCase, folder: Path) -> Result:
    """Seconds of loading a file with the package's loader, and peak memory beyond what there was
    over the size of the result."""
    with TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "generator.safetensors"
        save_generator(path, random_generator(case), Variant.STREAMING)
        before = 0 if case.device.type == "cuda" else memory.resident()
        to: Result = {"config": case.config, "dtype": case.dtype, "device": case.device}
        with measured(case.device) as found:
            load_generator(path, Variant.STREAMING, **to)
    size = generator_bytes(case.config, case.dtype) / 1e9
    return found | {"result_gb": size, "peak / result": (found["peak_gb"] - before / 1e9) / size}


@torch.inference_mode()
def step(case: StepCase, model: SanaWM, window: MemoryWindow, warm_up: bool) -> Result:
    """Time of one chunk and of its slowest pass, memory, and the operations that it takes."""
    state, (noise, conditioning) = filled_state(case, window), random_call(case)
    passes: list[Result] = []

    def timed(*call: Any) -> Any:
        with measured(case.device) as took:
            result = model(*call)
        passes.append(took)
        return result

    for _ in range(1 + warm_up):
        passes.clear()
        plan = ChunkPlan(window=window)
        self_forcing(timed, noise, None, conditioning, plan, state, SELF_FORCING_4)
    one_pass, _ = run_empty(case, window, case.history + 1)
    return {
        "window": window.chunks or "all",
        "s": sum(one["s"] for one in passes),
        "cpu_s": sum(one["cpu_s"] for one in passes),
        "slowest_pass_s": max(one["s"] for one in passes),
        "tflop": len(passes) * one_pass / 1e12,
        "weights_gb": generator_bytes(case.config, case.dtype) / 1e9,
        "state_gb": sum(part.nbytes for part in named_tensors(state).values()) / 1e9,
        "peak_gb": max(one["peak_gb"] for one in passes),
    }


@torch.inference_mode()
def decode(case: StepCase) -> Result:
    """Time and memory of the latent frames of one chunk of a running stream."""
    vae = random_decoder(case)
    latents = torch.randn(1, vae.channels, 1 + LATENTS_PER_CHUNK, *case.grid)
    latents = latents.to(case.device, case.dtype)
    _, state = vae.decode(latents[:, :, :1], None)
    with measured(case.device) as found:
        frames, _ = vae.decode(latents[:, :, 1:], state)
    weights = sum(weight.nbytes for weight in vae.parameters()) / 1e9
    return found | {"frames": frames.shape[1], "weights_gb": weights}


def run(
    case: StepCase, parts: Sequence[str], compiler: str, out: Path
) -> Iterator[tuple[str, Result]]:
    """Name and result of each part, as it is done."""
    if "roof" in parts:
        yield "roof", roof(case)
    if "load" in parts:
        yield "load", load(case, out)
    if "step" in parts:
        model = random_generator(case)
        if compiler:
            compile_step(model, compiler)
        warm_up = bool(compiler) or case.device.type == "cuda"
        for window in (2, None):
            yield "step", step(case, model, MemoryWindow(window), warm_up)
        del model
    if "decode" in parts:
        try:
            yield "decode", decode(case)
        except ImportError as error:
            print(f"decode left out: {error}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.released_step", __doc__)
    add, cuda = parser.add_argument, torch.cuda.is_available()
    add("--device", default="cuda" if cuda else "cpu", help="where to run")
    add("--tiny", action="store_true", help="tiny networks, to try the script")
    add("--size", nargs=2, type=int, help="height and width, 704 1280 (tiny: 128 192)")
    add("--compile", default="", help="backend of torch.compile for the blocks")
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    add("--out", type=Path, default=Path("outputs/released_step"), help="folder")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    if device.type == "cuda" and not cuda:
        parser.error("no CUDA device; --device cpu")
    size = tuple(options.size or ((128, 192) if options.tiny else (704, 1280)))
    if any(side % CELL or side < 2 * CELL for side in size):
        parser.error(f"--size is {size}, expected multiples of {CELL}, two at least")
    case = StepCase(options.tiny, device, size)
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, list[Result]] = defaultdict(list)
    for part, result in run(case, options.parts, options.compile, options.out):
        results[part].append({"height": size[0], "width": size[1]} | result)
        document = provenance("benchmarks.released_step") | {"results": results}
        write_json(options.out / "released_step.json", document)
    for part, rows in results.items():
        Table.of(f"{part}; random weights, no pictures", rows, 3).print(Console())
    print(f"wrote {options.out / 'released_step.json'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
