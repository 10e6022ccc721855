"""How well does a localiser estimate poses in its scene, and does it reject other pictures?

A localiser turns one frame into a camera pose in a scene, with a confidence. It is tested alone,
without the world that uses it, on starts it was never trained on:

  pose         position and rotation error, median and 95th percentile, over the scene, by distance
               to the nearest surface straight ahead, and by heading
  recognition  fraction of foreign pictures that are recognised when 5 % of the scene's own frames
               are (wrongly) taken for foreign, by kind of picture: renders of other scenes,
               photographs, noise, gradients, the scene's own frames mirrored and recoloured

    python -m benchmarks.localiser                              # the shipped world
    python -m benchmarks.localiser --world FILE.safetensors     # another world file
    python -m benchmarks.localiser --check                      # exit status 1 on a missed bound

Some ten seconds. Writes OUT/localiser.json and a csv file per table. Photographs
come with scikit-image and scikit-learn. Everything is seeded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from benchmarks.report import parser_of, write_report
from sana_wm_gym.evaluation.localiser_scores import bounds_kept, localiser_report
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import Table
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.procedural.scenes import generate_scene


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = parser_of("benchmarks.localiser", __doc__)
    add = parser.add_argument
    add("--world", default="tiny", help="world file, or name in the package (tiny)")
    add("--scene", type=int, help="number of the scene (what the world file names)")
    add("--starts", type=int, default=1024, help="held-out starts (1024)")
    add("--seed", type=int, default=0, help="source of starts and pictures (0)")
    add("--out", type=Path, default=Path("outputs/localiser"), help="folder")
    add("--check", action="store_true", help="exit 1 on a missed bound")
    options = parser.parse_args(arguments)
    if options.starts < 16:
        parser.error("at least 16 starts: some are mirrored and recoloured")
    torch.set_num_threads(1)  # a small network: one thread is faster than threads that wait
    path = Path(options.world)
    try:
        file = read_world_file(path if path.suffix else EMBEDDED / f"{path}.safetensors")
        if file.localiser is None:
            raise ValueError(f"{path} has no localiser; expected a world of one scene")
        scene = file.metadata["scenes"][0] if options.scene is None else options.scene
        lens = file.metadata["intrinsics"]
        report = localiser_report(
            file.localiser, generate_scene(scene), lens, options.starts, options.seed
        )
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    errors = [report["overall"], *report["by_distance"], *report["by_heading"]]
    bounds, console = bounds_kept(report), Console()
    tables = {
        "errors": Table.of(f"Scene {scene}, held-out starts", errors, digits=3),
        "recognition": Table.of("Foreign pictures recognised", report["recognition"]),
        "bounds": Table.of("Bounds", [{"bound": k, "passed": v} for k, v in bounds.items()]),
    }
    alarms = report["false_alarms_at_half"]
    console.print(f"the scene's own frames with confidence < 0.5: {alarms:.3f}")
    if report["missing"]:
        console.print(f"some photographs left out: pip install {' '.join(report['missing'])}")
    document = {
        **provenance("benchmarks.localiser"),
        "scene": scene,
        "parameters": sum(p.numel() for p in file.localiser.parameters()),
        "seed": options.seed,
        "report": report,
        "bounds": bounds,
    }
    write_report(options.out / "localiser.json", document, tables, console)
    return int(options.check and not all(bounds.values()))


if __name__ == "__main__":
    sys.exit(main())
