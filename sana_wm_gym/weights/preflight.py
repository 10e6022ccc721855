"""What a job needs against what the machine has free, before anything is read or fetched."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from sana_wm_gym import memory

GB = 10**9


@dataclass(frozen=True)
class Need:
    """Bytes that a job takes."""

    disk: int = 0
    ram: int = 0
    vram: int = 0


@dataclass(frozen=True)
class Machine:
    """What is free, in bytes; None where it is unknown, which then forbids nothing.

    Attributes:
        disk: Free space of the file system that is written to or read from.
        ram: Memory that processes may still take.
        vram: Free memory of the GPU, 0 without one.
        gpu: Its name.
        capability: Its CUDA compute capability.
    """

    disk: int | None
    ram: int | None
    vram: int | None
    gpu: str | None = None
    capability: tuple[int, int] | None = None


def this_machine(folder: Path, device: torch.device | str = "cuda") -> Machine:
    """What is free on this machine: on the file system of `folder`, which need not exist yet, in
    RAM and on the GPU `device`."""
    place = next((p for p in (folder.absolute(), *folder.absolute().parents) if p.exists()), None)
    disk = None if place is None else shutil.disk_usage(place).free
    if not torch.cuda.is_available():
        return Machine(disk, _free_ram(), vram=0)
    device = torch.device(device if torch.device(device).type == "cuda" else "cuda")
    free, _ = torch.cuda.mem_get_info(device)
    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    return Machine(disk, _free_ram(), free, name, capability)


def require(need: Need, machine: Machine, what: str) -> None:
    """Refuse the job `what` if it does not fit.

    Raises:
        ValueError: Disk, RAM or VRAM is short; all of it is named.
    """
    short = [
        f"{name}: needs {gigabytes(wanted)}, {gigabytes(free)} free"
        for name, wanted, free in (
            ("disk", need.disk, machine.disk),
            ("RAM", need.ram, machine.ram),
            ("VRAM", need.vram, machine.vram),
        )
        if free is not None and wanted > free
    ]
    if short:
        raise ValueError(
            f"not enough room for {what}: {'; '.join(short)}. "
            "`sana-wm weights plan RELEASE` lists what would fit"
        )


def gigabytes(size: int | None) -> str:
    """A number of bytes as text, in GB of 10^9 bytes; "unknown" for None."""
    if size is None:
        return "unknown"
    return f"{size / GB:.1f} GB" if size >= GB // 10 else f"{size / 10**6:.1f} MB"


def _free_ram() -> int:
    """Memory that is available, within the limit of a container where there is one."""
    free = [memory.available()]
    try:
        group = Path("/sys/fs/cgroup")
        limit = int((group / "memory.max").read_text(encoding="ascii"))
        free.append(limit - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no container, or "max": no limit
        pass
    return min(free)
