"""What every measurement carries: command, commit, device and date."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from sana_wm_gym import __version__

_CHECKOUT = Path(__file__).parents[1]


def provenance(command: str) -> dict[str, Any]:
    """Where numbers come from.

    Args:
        command: Without its arguments: "sana-wm demo", or the name of a module that `python -m`
            runs.
    """
    start = command if " " in command else f"python -m {command}"
    return {
        "command": " ".join([start, *sys.argv[1:]]),
        "commit": commit(),
        "device": device(),
        "load_average": round(psutil.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """Commit of this checkout, marked if files that it tracks have been edited since; the version
    where the package is installed without one."""
    try:
        # An environment may be within the repository of something else.
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != _CHECKOUT.resolve():
            return f"version {__version__}"
        head = _git("rev-parse", "HEAD")
        edited = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return f"version {__version__}"
    return head + ("+edited" if edited else "")


def device() -> str:
    """The processor, in words."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_CHECKOUT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
