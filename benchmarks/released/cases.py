"""What is measured, one frozen value per case; each runs in a process of its own.

A process of its own gives every case an untouched peak of memory, and a case that runs out of
memory ends alone. Results are json files written whole, so that a stopped run goes on.

    python -m benchmarks.released.cases '{"kind": "load", ...}' WORKDIR
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.released.decoder import decoder_operations, random_decoder
from benchmarks.released.meter import Meter, place
from benchmarks.released.step import CELL, SEED, Step, config_of, load_written
from benchmarks.released.weights import write_weights
from sana_wm_gym.models.transformer import SanaWMConfig
from sana_wm_gym.provenance import commit, device
from sana_wm_gym.weights.generator import generator_bytes
from sana_wm_gym.world.world_model import LATENTS_PER_CHUNK

Result = dict[str, Any]


@dataclass(frozen=True)
class Write:
    """Write random weights in the released layout.

    Attributes:
        tiny: Of the small network.
        container: `weights.CONTAINERS`.
        stored: Type in the files.
    """

    tiny: bool
    container: str
    stored: str

    def run(self, folder: Path) -> Result:
        """Seconds, and the size of the files."""
        meter = Meter(torch.device("cpu"))
        # With the entry that loaders drop: the released files carry it.
        config = replace(config_of(self.tiny), position_entries=SanaWMConfig().position_entries)
        with meter.timing():
            written = write_weights(
                folder / self.container, config, self.container, place(self.stored), SEED
            )
        return {
            "s": meter.seconds,
            "processor_s": meter.processor,
            "bytes": written.bytes,
            "tensors": written.tensors,
        }


@dataclass(frozen=True)
class Load:
    """Load them with the package's loader.

    Attributes:
        tiny: The small network.
        container: As written.
        dtype: Type in memory.
        device: Where to.
    """

    tiny: bool
    container: str
    dtype: str
    device: str

    def run(self, folder: Path) -> Result:
        """Seconds; peak memory while loading, beyond what the process had, over the result."""
        config = config_of(self.tiny)
        meter = Meter(torch.device(self.device))
        with meter.timing():
            model = load_written(folder, self.tiny, self.container, self.dtype, self.device)
        size = generator_bytes(config, place(self.dtype))
        peak = meter.peak()
        del model
        return {
            "s": meter.seconds,
            "processor_s": meter.processor,
            "bytes": size,
            "peak_bytes": peak,
            "ratio": peak / size,
        }


@dataclass(frozen=True)
class Roof:
    """What the device reaches: one large matrix product, one large copy.

    Attributes:
        dtype: Type of the matrices.
        device: Where.
        side: Their side.
    """

    dtype: str
    device: str
    side: int

    def run(self, folder: Path) -> Result:
        """Operations and bytes per second, the best of a few."""
        meter = Meter(torch.device(self.device))
        left = torch.randn(self.side, self.side, device=self.device).to(place(self.dtype))
        right = torch.randn(self.side, self.side, device=self.device).to(place(self.dtype))
        source = torch.zeros(16 * self.side**2 // 4, device=self.device)
        target = torch.empty_like(source)
        products, copies = [], []
        for _ in range(5):
            with meter.timing():
                left @ right
            products.append(meter.seconds)
            with meter.timing():
                target.copy_(source)
            copies.append(meter.seconds)
        return {
            "operations_per_s": 2 * self.side**3 / min(products),
            "bytes_per_s": 2 * source.nbytes / min(copies),
        }


@dataclass(frozen=True)
class Decode:
    """Pixels of one chunk: the causal LTX-2 decoder of the library's own settings.

    Attributes:
        dtype: Type of weights and latents.
        device: Where.
        height: Pixels.
        width: Pixels.
        latents: Latent frames to decode; 3 make a chunk.
        tiny: A small decoder, for tests.
    """

    dtype: str
    device: str
    height: int
    width: int
    latents: int = LATENTS_PER_CHUNK
    tiny: bool = False

    def run(self, folder: Path) -> Result:
        """Seconds per latent frame after the first, and peak memory."""
        where, dtype = torch.device(self.device), place(self.dtype)
        vae = random_decoder(self.dtype, where, self.tiny)
        rows, columns = self.height // CELL, self.width // CELL
        torch.manual_seed(SEED)
        latents = torch.randn(1, vae.channels, self.latents, rows, columns).to(where, dtype)
        with torch.inference_mode():
            _, state = vae.decode(latents[:, :, :1], None)
            meter = Meter(where)
            with meter.timing():
                frames, _ = vae.decode(latents, state)
        assert frames.shape[1] == self.latents * 8
        return {
            "s": meter.seconds,
            "processor_s": meter.processor,
            "frames": frames.shape[1],
            "peak_bytes": meter.peak(total=True),
            "working_bytes": meter.peak(),
            "weight_bytes": sum(weight.nbytes for weight in vae.parameters()),
            "state_bytes": sum(tail.nbytes for tail in state.tails),
            "operations": decoder_operations(self.height, self.width, self.latents, self.tiny),
            "finite": bool(torch.isfinite(frames).all()),
        }


Case = Write | Load | Roof | Step | Decode
KINDS: Mapping[str, type[Case]] = {
    kind.__name__.lower(): kind for kind in (Write, Load, Roof, Step, Decode)
}


def as_json(case: Case) -> Result:
    """A case as json values; `from_json` is the inverse."""
    return {"kind": type(case).__name__.lower(), **asdict(case)}


def from_json(values: Mapping[str, Any]) -> Case:
    """The case that `as_json` wrote."""
    left = dict(values)
    return KINDS[left.pop("kind")](**left)


def name_of(where: str) -> str:
    """The device in words: the GPU's name, or the processor and the threads in use."""
    if torch.device(where).type == "cuda":
        return f"{torch.cuda.get_device_name(where)}, torch {torch.__version__}"
    threads = torch.get_num_threads()
    return f"{threads} {'thread' if threads == 1 else 'threads'} on {device()}"


def main(case_text: str, folder: str) -> int:
    """Run one case and print its record as the last line."""
    case = from_json(json.loads(case_text))
    before = os.getloadavg()[0]
    began = time.time()
    result = case.run(Path(folder))
    bad = [key for key, value in result.items() if isinstance(value, float) and math.isnan(value)]
    record = {
        "case": as_json(case),
        "commit": commit(),
        "device": name_of(getattr(case, "device", "cpu")),
        "date": time.strftime("%Y-%m-%d", time.gmtime(began)),
        "load_average": [round(before, 2), round(os.getloadavg()[0], 2)],
        "result": {key: None if key in bad else value for key, value in result.items()},
    }
    print(json.dumps(record))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
