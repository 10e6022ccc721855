"""Pack a training run into the one file that ships: `python -m sana_wm_gym.training.export`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from safetensors.torch import load_file

from sana_wm_gym.models.numerics import EXACT
from sana_wm_gym.models.transformer import SanaWM
from sana_wm_gym.training.config import TINY, TrainConfig
from sana_wm_gym.training.run import load_codec, tiny_world
from sana_wm_gym.weights.world_file import EMBEDDED, WorldFile, write_world_file
from sana_wm_gym.world.sana_world import promise_of


def export(folder: Path, path: Path) -> None:
    """Write the averaged weights of a run as a world file that knows the run's own maps and size.

    Raises:
        FileNotFoundError: The run has no weights or no settings yet.
    """
    weights, settings = folder / "generator.safetensors", folder / "config.json"
    for needed in (weights, settings):
        if not needed.is_file():
            raise FileNotFoundError(f"no {needed.name} in {folder}; train first")
    told = json.loads(settings.read_text())
    config = TrainConfig(
        scenes=tuple(told["scenes"]), size=told["size"], start_radius=told["start_radius"]
    )
    generator = SanaWM(TINY, EXACT)
    generator.load_state_dict(load_file(weights))
    codec = load_codec(folder)
    world = tiny_world(generator, codec, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_world_file(path, WorldFile(generator, codec, promise_of(world)))


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
