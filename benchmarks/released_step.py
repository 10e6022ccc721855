"""What does the released network take: to write, to load, to step one chunk?

The full-size Stage-1 network with random weights, in files of the released layout, through the
package's own loader. **The weights are noise: times and memory are real, pictures are none.**

  write   shards and model.pt, float32 as released
  load    seconds; peak memory over the size of the result
  roof    what the device reaches in a large matrix product and a large copy
  step    one chunk after ten others: four denoising passes and the clean one, for a memory window
          of two chunks and of all; on CUDA also compiled, and with fused kernels or plain torch
  decode  one chunk through the causal LTX-2 decoder

    python -m benchmarks.released_step                                # CUDA if there is any
    python -m benchmarks.released_step --device cpu --sizes 256x320
    python -m benchmarks.released_step --device cpu --parts step --passes 1 --windows 2
    python -m benchmarks.released_step --tiny                         # seconds; tells nothing
    python -m benchmarks.released_step --page docs/performance.md     # also renew the page's tables

Every case runs in a process of its own and leaves a json file; those that are there are not run
again, so a stopped run goes on; the tables show all that are there. Full size needs 21 GB of disk
(11 GB for one container), and on a CPU 11 GB of memory for model.pt, else 8 GB.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from benchmarks.released.cases import Case, Decode, Load, Roof, Write, as_json
from benchmarks.released.step import CELL, Step
from benchmarks.released.tables import renew_page, show
from benchmarks.released.weights import CONTAINERS
from benchmarks.report import progress
from sana_wm_gym.files import write_json
from sana_wm_gym.models.kernels import fused
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.released.streaming import GENERATOR

Result = dict[str, Any]
PARTS = ("write", "load", "roof", "step", "decode")


def cases(options: argparse.Namespace) -> list[Case]:
    """Everything the command line asks for, in the order in which it is run."""
    tiny, where, dtype = options.tiny, options.device, options.dtype
    cuda = torch.device(where).type == "cuda"
    found: list[Case] = []
    for container in options.containers:
        found.append(Write(tiny, container, options.stored))
        found.append(Load(tiny, container, dtype, where))
    found.append(Roof(dtype, where, 256 if tiny else 8192 if cuda else 2048))
    compilers = options.compilers or (["", "inductor"] if cuda else [""])
    kernels = (False, True) if cuda and fused() is not None else (False,)
    variants = product(options.sizes, compilers, kernels, options.windows)
    for (height, width), compiler, fast, window in variants:
        step = Step(
            tiny,
            options.containers[0],
            dtype,
            where,
            height,
            width,
            window,
            options.history,
            options.passes,
            compiler,
            fast,
            options.repeats or (4 if cuda or tiny else 1),
        )
        found.append(step)
    found += [
        Decode(dtype, where, height, width, options.latents, tiny)
        for height, width in options.sizes
    ]
    return [case for case in found if type(case).__name__.lower() in options.parts]


def file_of(folder: Path, case: Case) -> Path:
    """Where a case's record is kept; its name follows from all settings."""
    text = json.dumps(as_json(case), sort_keys=True)
    kind = type(case).__name__.lower()
    return folder / "cases" / f"{kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def run_case(case: Case, folder: Path) -> Result:
    """Run a case in a process of its own; a failure is a record with a reason."""
    command = [sys.executable, "-m", "benchmarks.released.cases"]
    done = subprocess.run(
        [*command, json.dumps(as_json(case)), str(folder.resolve())],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        record: Result = json.loads(done.stdout.splitlines()[-1])
        return record
    reason = (done.stderr.strip().splitlines() or [f"ended by signal {-done.returncode}"])[-1]
    return {"case": as_json(case), "failed": reason[:300]}


def measure(options: argparse.Namespace, console: Console) -> bool:
    """Run the cases that have no record yet; whether all went well. The network is written again
    where its files have gone."""
    wanted = [(case, file_of(options.out, case)) for case in cases(options)]
    pending = [(case, path) for case, path in wanted if not path.is_file()]
    well = True
    with progress(console) as bar:
        task = bar.add_task("", total=len(pending))
        for case, path in pending:
            bar.update(task, description=describe(case))
            if isinstance(case, Load | Step):
                _provide(case, options)
            record = run_case(case, options.out)
            if "failed" in record:
                well = False
                console.print(f"failed: {describe(case)}: {record['failed']}", markup=False)
            else:
                write_json(path, record)
            bar.advance(task)
    return well


def collect(folder: Path) -> list[Result]:
    """Every record in a folder, of this run and of earlier ones, by part and settings."""
    records = [json.loads(path.read_text()) for path in (folder / "cases").glob("*.json")]

    def place(record: Result) -> tuple[int, str]:
        case = record["case"]
        return PARTS.index(case["kind"]), json.dumps(case, sort_keys=True)

    return sorted(records, key=place)


def _provide(case: Load | Step, options: argparse.Namespace) -> None:
    """Write the weights that a case loads, if they are not there."""
    if not (options.out / case.container / GENERATOR).is_dir():
        run_case(Write(case.tiny, case.container, options.stored), options.out)


def describe(case: Case) -> str:
    """A case in a few words."""
    values = as_json(case)
    kind = values.pop("kind")
    shown = ", ".join(
        f"{name} {value}" for name, value in values.items() if value not in ("", False)
    )
    return f"{kind} ({shown})"


def _size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(side) for side in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"given {text!r}; expected HEIGHTxWIDTH") from None
    if min(height, width) < 2 * CELL or height % CELL or width % CELL:
        raise argparse.ArgumentTypeError(
            f"given {text!r}; expected multiples of {CELL}, two at least"
        )
    return height, width


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
    parser.add_argument("--dtype", default="bfloat16", help="type of the weights (bfloat16)")
    parser.add_argument("--stored", default="float32", help="type in the files (float32)")
    parser.add_argument("--tiny", action="store_true", help="a tiny network, to try the script")
    parser.add_argument("--sizes", nargs="+", type=_size, help="frames, 704x1280 (tiny: 128x192)")
    parser.add_argument("--windows", nargs="+", type=_window, default=[2, None], help="2 all")
    parser.add_argument("--history", type=int, default=10, help="chunks before the one timed (10)")
    parser.add_argument("--passes", type=int, choices=(1, 5), default=5, help="1: the clean one")
    parser.add_argument("--compilers", nargs="+", help='torch.compile backends, "" for none')
    parser.add_argument("--repeats", type=int, help="chunks per case; of several, one warms up")
    parser.add_argument("--latents", type=int, default=3, help="latent frames to decode (3)")
    parser.add_argument("--containers", nargs="+", choices=CONTAINERS, default=CONTAINERS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure")
    parser.add_argument("--out", type=Path, default=Path("outputs/released_step"), help="folder")
    parser.add_argument("--data", type=Path, help="json file (released_step.json in OUT)")
    parser.add_argument("--clean", action="store_true", help="delete the weights at the end")
    parser.add_argument("--page", type=Path, help="Markdown page whose tables are replaced")
    options = parser.parse_args(arguments)
    if options.sizes is None:
        options.sizes = [(128, 192) if options.tiny else (704, 1280)]
    if min(options.history, options.repeats or 1, options.latents) < 1:
        parser.error("history, repeats and latents are at least 1")
    if torch.device(options.device).type == "cuda" and not cuda:
        parser.error("no CUDA device; --device cpu")
    if options.page is not None and not options.page.is_file():
        parser.error(f"no page at {options.page}")
    console = Console()
    console.print("random weights: time and memory mean something, pictures do not")
    well = measure(options, console)
    result = provenance("benchmarks.released_step") | {"cases": collect(options.out)}
    show(result, console)
    data = options.data or options.out / "released_step.json"
    write_json(data, result)
    if options.page is not None:
        renew_page(options.page, result)
    if options.clean:
        for container in options.containers:
            shutil.rmtree(options.out / container, ignore_errors=True)
    console.print(f"wrote {data}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
