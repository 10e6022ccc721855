"""Pack a training run into the one file that ships: `python -m sana_wm_gym.training.export`."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from sana_wm_gym.files import atomic_path
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


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of the training run")
    parser.add_argument("--to", type=Path, default=EMBEDDED / "tiny.safetensors", help="world file")
    arguments = parser.parse_args()
    export(arguments.folder, arguments.to)
    print(f"wrote {arguments.to}: {arguments.to.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
