"""Memory of this process and machine, in bytes."""

from __future__ import annotations

import sys

import psutil


def resident() -> int:
    """Resident size of this process now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident() -> int:
    """Largest resident size of this process so far; the size now where the system keeps none."""
    info = psutil.Process().memory_info()
    # Windows reports it in the same call; elsewhere it is the `resource` module's.
    if hasattr(info, "peak_wset"):
        return int(info.peak_wset)
    try:
        import resource
    except ImportError:
        return int(info.rss)

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def available() -> int:
    """Memory that can be given to processes without swapping."""
    return int(psutil.virtual_memory().available)
