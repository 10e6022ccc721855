"""What every measurement carries: command, commit, device and date; and files written whole."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

_CHECKOUT = Path(__file__).parents[1]


def provenance(module: str) -> dict[str, Any]:
    """Where numbers come from.

    Args:
        module: Name that `python -m` runs.
    """
    return {
        "command": " ".join(["python -m", module, *sys.argv[1:]]),
        "commit": commit(),
        "device": device(),
        "load_average": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).date().isoformat(),
    }


def commit() -> str:
    """Commit of this checkout, marked if files that it tracks have been edited since."""
    try:
        head = _git("rev-parse", "HEAD")
        edited = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
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


def sha256(path: Path) -> str:
    """Digest of a file, in hexadecimal."""
    with path.open("rb") as stream:  # weights may be larger than memory
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Write under a temporary name, then rename: a reader never sees half a file.

    Raises:
        ValueError: A number is NaN or infinite; json has neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, allow_nan=False) + "\n"
    temporary = path.with_name(path.name + ".partial")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


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


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=_CHECKOUT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
