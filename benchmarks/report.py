"""What benchmarks share beside provenance: memory of this process, and a bar while they run."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def resident_mb() -> float:
    """Resident size of this process now, in MB; the peak where the system does not tell."""
    statm = Path("/proc/self/statm")
    if not statm.is_file():
        return peak_memory_mb()
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6


def progress(console: Console) -> Progress:
    """A progress bar that leaves nothing behind, and nothing at all where nobody looks on."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
