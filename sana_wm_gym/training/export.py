"""Copy the weights of a training run to a world file, by default the one in this package.

    sana-wm export-world outputs/tiny --to outputs/tiny.safetensors

The file is read once before anything is written, so a damaged one is refused.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from sana_wm_gym.files import atomic_path
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.training.run import WEIGHTS
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file


def export(folder: Path, path: Path) -> None:
    """Copy a run's averaged weights to `path`, after reading them once.

    Raises:
        FileNotFoundError: The run has no weights yet.
        ValueError: They are damaged.
    """
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise FileNotFoundError(f"no {weights.name} in {folder}; train first")
    read_world_file(weights)
    with atomic_path(path) as partial:
        shutil.copy(weights, partial)


def main(arguments: Sequence[str]) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm export-world", __doc__)
    parser.add_argument("folder", type=Path, help="folder of the training run")
    parser.add_argument("--to", type=Path, default=EMBEDDED / "tiny.safetensors", help="world file")
    given = parser.parse_args(arguments)
    export(given.folder, given.to)
    print(f"wrote {given.to}: {given.to.stat().st_size / 1e6:.1f} MB")
    return 0
