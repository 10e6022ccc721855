"""How long one video took to make, and the most memory it needed."""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report import peak_memory_mb

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Cost:
    """What making one video took.

    Attributes:
        frames: Frames made; the given first one does not count.
        seconds: Time inside the world, first frame's encoding included, video file excluded.
        peak_memory_mb: Largest resident size of the process meanwhile.
        peak_is_own: Whether that peak was reset before this video; otherwise it may stem from
            earlier work of the same process.
        peak_gpu_mb: Most memory of tensors on the CUDA device meanwhile; None without one.
        accelerator: Name of the CUDA device; None without one.
    """

    frames: int
    seconds: float
    peak_memory_mb: float
    peak_is_own: bool
    peak_gpu_mb: float | None
    accelerator: str | None

    @property
    def frames_per_s(self) -> float:
        """Throughput."""
        return self.frames / self.seconds


class Meter:
    """Starts when it is made; counts only time between `resume` and `pause`."""

    def __init__(self) -> None:
        self._cuda = _cuda()
        self._seconds, self._since = 0.0, 0.0
        self._reset = False
        with suppress(OSError):
            _CLEAR.write_text("5")  # Linux: forget the largest resident size so far
            self._reset = _STATUS.is_file()
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()

    def resume(self) -> None:
        """Count from now on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop counting, once the device has done what it was asked."""
        if self._cuda is not None:
            self._cuda.synchronize()
        self._seconds += time.perf_counter() - self._since

    def cost(self, frames: int) -> Cost:
        """What was measured, for a video of so many frames."""
        cuda = self._cuda
        return Cost(
            frames=frames,
            seconds=self._seconds,
            peak_memory_mb=_high_water_mb() if self._reset else peak_memory_mb(),
            peak_is_own=self._reset,
            peak_gpu_mb=None if cuda is None else cuda.max_memory_allocated() / 1e6,
            accelerator=None if cuda is None else cuda.get_device_name(),
        )


def _cuda() -> Any | None:
    """torch.cuda, if a world has brought torch along and there is a device."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_available() else None


def _high_water_mb() -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return peak_memory_mb()
