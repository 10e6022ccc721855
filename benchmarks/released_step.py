"""What does the released network take on this machine: to load, to step one chunk, to decode it?

The full-size Stage-1 generator and the causal LTX-2 decoder with **random weights**: times and
memory are real, pictures are none.

  roof    what the device reaches in a large matrix product and a large copy
  load    a safetensors file through the package's loader: peak memory over the size of the result
  step    one chunk after ten others: four denoising passes and the clean one, for a memory window
          of two chunks and of all
  decode  the frames of one chunk

    python -m benchmarks.released_step                                  # CUDA if there is any
    python -m benchmarks.released_step --device cpu --size 256x320
    python -m benchmarks.released_step --device cpu --parts step --passes 1 --windows 2
    python -m benchmarks.released_step --compile inductor --parts step
    python -m benchmarks.released_step --tiny                           # seconds, to try the script

Every result is written to OUT/released_step.json as soon as it is there. Full size needs 8 GB of
memory, and 5.3 GB of disk for the part `load`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from benchmarks.released_network import (
    CELL,
    StepCase,
    filled_state,
    random_call,
    random_decoder,
    random_generator,
    run_empty,
)
from sana_wm_gym import memory
from sana_wm_gym.files import write_json
from sana_wm_gym.models.plan import ChunkPlan, MemoryWindow
from sana_wm_gym.models.state import named_tensors
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table, progress
from sana_wm_gym.weights.generator import generator_bytes, load_generator, save_generator
from sana_wm_gym.weights.names import Variant
from sana_wm_gym.world.learned.compiled import compile_step
from sana_wm_gym.world.learned.sampler import self_forcing, state_after
from sana_wm_gym.world.learned.schedule import SELF_FORCING_4

Result = dict[str, Any]
PARTS = ("roof", "load", "step", "decode")


@contextmanager
def measured(device: torch.device) -> Iterator[Result]:
    """Seconds, CPU seconds and peak memory (bytes, of the whole process or of all that torch holds
    on CUDA) of the block, in the dict that it gets."""
    into: Result = {}
    cuda = device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    began, busy = time.perf_counter(), time.process_time()
    yield into
    if cuda:
        torch.cuda.synchronize(device)
    into |= {
        "s": time.perf_counter() - began,
        "cpu_s": time.process_time() - busy,
        "peak_bytes": torch.cuda.max_memory_allocated(device) if cuda else memory.peak_resident(),
    }


def roof(case: StepCase) -> Result:
    """Operations and bytes per second of one large product and one large copy, best of five."""
    side = 256 if case.tiny else 8192 if case.device.type == "cuda" else 2048
    left, right = (torch.randn(side, side, device=case.device).to(case.dtype) for _ in range(2))
    source = torch.zeros(4 * side**2, device=case.device)
    target = torch.empty_like(source)
    works: dict[str, Callable[[], Tensor]] = {
        "product": lambda: left @ right,
        "copy": lambda: target.copy_(source),
    }
    best = {}
    for name, work in works.items():
        times: list[float] = []
        for _ in range(5):
            with measured(case.device) as took:
                work()
            times.append(took["s"])
        best[name] = min(times)
    return {
        "operations_per_s": 2 * side**3 / best["product"],
        "bytes_per_s": 2 * source.nbytes / best["copy"],
    }


def load(case: StepCase, folder: Path) -> Result:
    """Seconds of loading a file with the package's loader, and peak memory beyond what there was
    over the size of the result."""
    model = random_generator(case)
    with TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "generator.safetensors"
        save_generator(path, model, Variant.STREAMING)
        del model
        before = memory.resident()
        with measured(case.device) as found:
            load_generator(
                path, Variant.STREAMING, config=case.config, dtype=case.dtype, device=case.device
            )
    size = generator_bytes(case.config, case.dtype)
    on_gpu = case.device.type == "cuda"
    beyond = found["peak_bytes"] - (0 if on_gpu else before)
    return found | {"bytes": size, "ratio": beyond / size}


def step(case: StepCase, model: SanaWM, window: MemoryWindow) -> Result:
    """Time of one chunk and of each of its passes, memory, and the operations that it takes."""
    plan, state = ChunkPlan(window=window), filled_state(case, window)
    noise, conditioning = random_call(case)
    passes: list[list[float]] = []

    def now() -> float:
        if case.device.type == "cuda":
            torch.cuda.synchronize(case.device)
        return time.perf_counter()

    def begin(*_: Any) -> None:
        passes[-1].append(-now())

    def end(*_: Any) -> None:
        passes[-1][-1] += now()

    hooks = [model.register_forward_pre_hook(begin), model.register_forward_hook(end)]
    found: list[Result] = []
    for _ in range(case.repeats):
        passes.append([])
        with torch.inference_mode(), measured(case.device) as took:
            if case.passes == 1:
                state_after(model, noise, conditioning, plan, state)
            else:
                self_forcing(model, noise, None, conditioning, plan, state, SELF_FORCING_4)
        found.append(took)
    for hook in hooks:
        hook.remove()
    warm = slice(1 if case.repeats > 1 else 0, None)
    return {
        "window": window.chunks,
        "first_s": found[0]["s"],
        "s": median(one["s"] for one in found[warm]),
        "cpu_s": median(one["cpu_s"] for one in found[warm]),
        "pass_s": [median(times) for times in zip(*passes[warm], strict=True)],
        "peak_bytes": max(one["peak_bytes"] for one in found),
        "weight_bytes": generator_bytes(case.config, case.dtype),
        "state_bytes": sum(part.nbytes for part in named_tensors(state).values()),
        "operations": case.passes * run_empty(case, window, case.history + 1)[0],
    }


def decode(case: StepCase, latents: int) -> Result:
    """Time and memory of some latent frames of a running stream.

    Raises:
        ImportError: diffusers is not installed.
    """
    vae = random_decoder(case)
    given = torch.randn(1, vae.channels, 1 + latents, *case.grid).to(case.device, case.dtype)
    with torch.inference_mode():
        _, state = vae.decode(given[:, :, :1], None)
        with measured(case.device) as found:
            frames, _ = vae.decode(given[:, :, 1:], state)
    weights = sum(weight.nbytes for weight in vae.parameters())
    return found | {"latents": latents, "frames": frames.shape[1], "weight_bytes": weights}


def run(
    case: StepCase, options: argparse.Namespace, console: Console
) -> Iterator[tuple[str, Result]]:
    """Name and result of each part that is asked for, as it is done."""
    if "roof" in options.parts:
        yield "roof", roof(case)
    if "load" in options.parts:
        yield "load", load(case, options.out)
    if "step" in options.parts:
        model = random_generator(case)
        if case.compiler:
            compile_step(model, case.compiler)
        for window in options.windows:
            yield "step", step(case, model, MemoryWindow(window))
        del model
    if "decode" in options.parts:
        try:
            yield "decode", decode(case, options.latents)
        except ImportError as error:
            console.print(f"decode left out: {error}", markup=False)


def table(results: Sequence[Result]) -> Table:
    """One row per part."""

    def gb(size: float | None) -> float | None:
        return None if size is None else size / 1e9

    def tera(value: float | None) -> float | None:
        return None if value is None else value / 1e12

    return Table.of(
        "Random weights: time and memory, no pictures",
        [
            {
                "part": one["part"]
                + ("" if "window" not in one else f" ({one['window'] or 'all'})"),
                "s": one.get("s"),
                "CPU s": one.get("cpu_s"),
                "TFLOP": tera(one.get("operations")),
                "TFLOP/s": tera(one.get("operations_per_s")),
                "weights, GB": gb(one.get("weight_bytes")),
                "state, GB": gb(one.get("state_bytes")),
                "peak, GB": gb(one.get("peak_bytes")),
                "peak / result": one.get("ratio"),
            }
            for one in results
        ],
    )


def _size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) == 2 and all(part.isdecimal() for part in parts):
        height, width = map(int, parts)
        if min(height, width) >= 2 * CELL and height % CELL == width % CELL == 0:
            return height, width
    raise argparse.ArgumentTypeError(
        f"given {text!r}; expected HEIGHTxWIDTH, multiples of {CELL}, two at least"
    )


def _window(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"given {text!r}; expected a number of chunks, or all")
    return int(text)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.released_step",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cuda = torch.cuda.is_available()
    parser.add_argument("--device", default="cuda" if cuda else "cpu", help="where to run")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--tiny", action="store_true", help="tiny networks, to try the script")
    parser.add_argument("--size", type=_size, help="frames, 704x1280 (tiny: 128x192)")
    parser.add_argument("--windows", nargs="+", type=_window, default=[2, None], help="2 all")
    parser.add_argument("--history", type=int, default=10, help="chunks before the one timed (10)")
    parser.add_argument("--passes", type=int, choices=(1, 5), default=5, help="1: the clean one")
    parser.add_argument("--compile", default="", help="backend of torch.compile for the blocks")
    parser.add_argument("--repeats", type=int, default=1, help="chunks; of several, one warms up")
    parser.add_argument("--latents", type=int, default=3, help="latent frames to decode (3)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--out", type=Path, default=Path("outputs/released_step"), help="folder")
    options = parser.parse_args(arguments)
    if min(options.history, options.repeats, options.latents) < 1:
        parser.error("history, repeats and latents are at least 1")
    if torch.device(options.device).type == "cuda" and not cuda:
        parser.error("no CUDA device; --device cpu")
    case = StepCase(
        options.tiny,
        getattr(torch, options.dtype),
        torch.device(options.device),
        options.size or ((128, 192) if options.tiny else (704, 1280)),
        options.history,
        options.passes,
        options.compile,
        options.repeats,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    console, results, path = Console(), [], options.out / "released_step.json"
    with progress(console) as bar:
        task = bar.add_task("measuring", total=None)
        for part, result in run(case, options, console):
            results.append({"part": part, "size": list(case.size)} | result)
            write_json(path, provenance("benchmarks.released_step") | {"results": results})
            bar.advance(task)
    table(results).print(console)
    console.print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
