"""What this machine and installation can run: the first thing to look at, and for bug reports.

    sana-wm doctor

Prints versions, devices, free memory and disk, caches, extras with the command that installs each
missing one, and the worlds of the catalogue with the reason where one cannot run. Nothing is
fetched; the worlds of the package are loaded once.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch

import sana_wm_gym
from sana_wm_gym import provenance
from sana_wm_gym.extras import extras, install_line, missing
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.weights.fetch import default_cache
from sana_wm_gym.weights.plan import options, rows
from sana_wm_gym.weights.preflight import gigabytes, this_machine
from sana_wm_gym.weights.releases import release
from sana_wm_gym.world.catalogue import WORLDS, load_world
from sana_wm_gym.world.learned.captions import default_prompts
from sana_wm_gym.world.released.files import BIDIRECTIONAL, CHUNK_CAUSAL, STREAMING, Layout

DISTRIBUTIONS: tuple[str, ...] = ("torch", "gymnasium", "numpy", "av", "stable-baselines3")
DISTRIBUTIONS += ("hydra-core", "huggingface-hub", "diffusers", "transformers")
DISTRIBUTIONS += ("flash-linear-attention",)


_FOLDER = Path(sana_wm_gym.__file__).parent

Lines = dict[str, str]


def versions() -> Lines:
    """Version of the package, of Python and of what matters among the dependencies."""
    found = {
        "sana_wm_gym": f"{sana_wm_gym.__version__}, {provenance.commit()}, {_FOLDER}",
        "python": f"{platform.python_version()}, {platform.platform()}",
    }
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    cuda = torch.version.cuda
    found["torch"] += f", {f'built for CUDA {cuda}' if cuda else 'built without CUDA'}"
    return found


def devices() -> Lines:
    """Each device and its memory."""
    memory = psutil.virtual_memory()
    found = {"cpu": f"{provenance.device()}, {_of(memory.available, memory.total)}"}
    for index in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(index)
        name = f"{torch.cuda.get_device_name(index)}, capability {major}.{minor}"
        found[f"cuda:{index}"] = f"{name}, {_of(*torch.cuda.mem_get_info(index))}"
    if torch.backends.mps.is_available():
        found["mps"] = "not supported"
    return found


def caches() -> Lines:
    """Folders that fill up."""
    found = {}
    for name, folder in {"hub": default_cache(), "prompts": default_prompts()}.items():
        holds, disk = gigabytes(_size(folder)), gigabytes(this_machine(folder).disk)
        found[name] = f"{folder}, holds {holds}, {disk} of disk free"
    return found


def extras_here() -> Lines:
    """Each extra: present, or what it lacks and how to get it."""
    found = {}
    for name, modules in extras().items():
        absent = missing(modules)
        lack = f"lacks {', '.join(absent)}: {install_line(name)}" if absent else "present"
        found[name] = lack
    return found or {"unknown": "the package is on the path and not installed"}


def worlds() -> Lines:
    """Each world of the catalogue: whether it runs here, and why not."""
    found = {}
    for name in sorted(WORLDS):
        try:
            load_world(name)
            found[name] = "runs"
        except (ImportError, OSError, ValueError) as error:
            found[name] = f"no: {error}"
    for layout in (STREAMING, CHUNK_CAUSAL, BIDIRECTIONAL):
        for refined in (False, True):
            name = f"{layout.release}-refined" if refined else layout.release
            found[name] = _released(layout, refined)
    return found


def _released(layout: Layout, refined: bool) -> str:
    try:
        layout.here(refined)
    except FileNotFoundError as error:
        if layout.variable in os.environ:
            return f"no: {error}"
        return f"no: not on this machine; sana-wm weights fetch {layout.release} --latest"
    cache, published = default_cache(), release(layout.release)
    machine = this_machine(cache)
    if machine.vram == 0:
        return "on the CPU: there is no CUDA device"
    settings = options(published, rows(published, cache), machine)
    fitting = [option.name for option in settings if option.fits is not False]
    return f"runs: {fitting[0]}" if fitting else f"no: {settings[-1].reason}"


def _of(free: int, total: int) -> str:
    return f"{gigabytes(free)} of {gigabytes(total)} free"


def _size(folder: Path) -> int:
    # Snapshots in the hub's cache are links to its blobs.
    files = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sum(file.stat().st_size for file in files if not file.is_symlink())


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    FlagParser("sana-wm doctor", __doc__).parse_args(arguments)
    parts = {"versions": versions, "devices": devices, "caches": caches, "extras": extras_here}
    for title, lines_of in {**parts, "worlds": worlds}.items():
        lines = lines_of()
        width = max(map(len, lines))
        print(f"{title}:", *(f"  {name:{width}}  {text}" for name, text in lines.items()), sep="\n")
    return 0
