"""Time and peak memory of a stretch of work, on a CPU or a CUDA device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from benchmarks.report import peak_memory_mb, resident_mb

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def place(name: str) -> torch.dtype:
    """The floating-point type of a name such as "bfloat16".

    Raises:
        ValueError: There is no such type.
    """
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise ValueError(f"given type {name!r}; expected bfloat16, float16 or float32")
    return found


class Meter:
    """Measures from its making on.

    Memory is that of the device: what torch has handed out on CUDA, the resident size of the
    process elsewhere. Where the system cannot forget an earlier peak, that peak counts.

    Args:
        device: Where the work runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = self.processor = 0.0
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            self._before = torch.cuda.memory_allocated(device)
        else:
            with suppress(OSError):
                _CLEAR.write_text("5")  # forget the peak so far
            self._before = int(1e6 * resident_mb())

    @contextmanager
    def timing(self) -> Iterator[None]:
        """Set `seconds` to the time inside, the device's queue included, and `processor` to this
        process's processor time."""
        self._wait()
        began, busy = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self._wait()
            self.seconds = time.perf_counter() - began
            self.processor = time.process_time() - busy

    def peak(self, total: bool = False) -> int:
        """Largest memory in bytes since the start, beyond what there was; with `total`, all."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated(self.device)
        else:
            peak = _peak_resident()
        return peak if total else peak - self._before

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _peak_resident() -> int:
    if _STATUS.is_file():
        for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return int(1e6 * peak_memory_mb())
