"""Does the embedded world follow the camera and the prompt, and does it look like the truth?

Rolls the learned world out on held-out walks with starts, commands and appearances it was never
trained on, and compares every chunk with the ground-truth renderer:

  PSNR         to the true frames, under own commands and under another clip's (shuffled), next to
               repeating the first frame and to the codec alone
  variants     whether a surface shows the variant that the prompt names
  ablations    the same clips with the true anchor, other prompts and several denoising steps
  localiser    its errors on held-out starts, and whether it recognises foreign pictures
  camera       RotErr and TransErr of poses estimated from the generated frames, next to those of a
               motionless camera and of the same estimator on true frames (its floor)
  a minute     40 chunks: PSNR, chunks that are not finite, image statistics
  speed        environment steps per second next to the architecture of the first version

    python -m benchmarks.embedded_world                      # the shipped weights, all 32 clips
    python -m benchmarks.embedded_world --clips 8 --long-clips 2      # a quick look
    python -m benchmarks.embedded_world --check              # exit status 1 on a missed bound
    python -m benchmarks.embedded_world --anchor true        # a world without a localiser

Some fifteen minutes on an idle core. Writes OUT/embedded_world.json, a csv file per table,
OUT/strip.png, OUT/rollout.webp and OUT/minute.png. Squared error is averaged over clips before the
logarithm; pose errors are averaged over frames, then clips. Everything but the speed is seeded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from benchmarks.first_version import speed_ratio
from sana_wm_gym.evaluation.conditions import Roller, conditions_of
from sana_wm_gym.evaluation.held_out import (
    held_out_clips,
    repeat_first,
    truth_of,
)
from sana_wm_gym.evaluation.localiser_scores import localiser_report
from sana_wm_gym.evaluation.variant_scores import LEAST_COVERAGE
from sana_wm_gym.evaluation.world_report import checks_of, draw, tables_of
from sana_wm_gym.evaluation.world_scores import (
    STATISTICS,
    agreements,
    camera_errors,
    frame_statistics,
    score_cameras,
    statistics_range,
    training_statistics,
)
from sana_wm_gym.files import sha256, write_json, write_text
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.tables import progress
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.scenes import generate_scene

# Training reports its progress on the first held-out walks; scores use later ones.
_WATCHED_CLIPS = 24
_TRAINING_WALKS = 24
_LOCALISER = ("overall", "recognition", "false_alarms_at_half", "missing")


def measure(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    """Run everything, print and write it; returns the checks."""
    world = world_of(read_world_file(options.weights))
    if options.start_radius is not None:
        world = replace(world, spec=replace(world.spec, start_radius=options.start_radius))
    spec = world.spec
    with progress(console) as bar:
        roller = Roller(world, options.seed, options.anchor == "true", bar)
        clips = held_out_clips(spec, options.clips, options.chunks, skip=options.skip)
        errors, short = roller.scored(clips, "rollouts")
        conditions = conditions_of(roller, clips, short)
        task = bar.add_task("camera", total=len(clips))
        estimator = LKBundleAdjustment()
        scores = score_cameras(short, clips, spec.fps, estimator, lambda n: bar.advance(task, n))
        long = held_out_clips(spec, options.long_clips, options.long_chunks, skip=options.skip)
        lasting, own = roller.scored(long, "a minute")
        localiser = None
        if world.localiser is not None:
            [scene] = [generate_scene(number) for number in spec.scenes]
            lens, starts = spec.intrinsics, options.starts
            localiser = localiser_report(world.localiser, scene, lens, starts, options.seed)
        task = bar.add_task("speed", total=None)
        speed = speed_ratio(world, options.pairs, lambda n: bar.advance(task, n))
    training = training_statistics(spec, _TRAINING_WALKS)
    made, true = (
        statistics_range(frame_statistics(np.concatenate(end)), training)
        for end in (part[:, -spec.frames_per_chunk :] for part in (own, truth_of(long)))
    )
    document: dict[str, Any] = {
        **provenance("benchmarks.embedded_world"),
        "weights": {
            "name": options.weights.name,
            "bytes": options.weights.stat().st_size,
            "sha256": sha256(options.weights),
            "parameters": sum(p.numel() for p in world.model.parameters()),
        },
        "seed": options.seed,
        "scenes": spec.scenes,
        "start_radius": spec.start_radius,
        "skipped_clips": options.skip,
        "anchor": options.anchor,
        "rollouts": {"clips": len(clips), **errors.to_dict()},
        "least_coverage": LEAST_COVERAGE,
        "conditions": conditions,
        "localiser": localiser and {k: localiser[k] for k in _LOCALISER},
        "camera": [camera_errors(scores, convention) for convention in (SCALE_ONLY, RELEASE)],
        "agreement": [
            {"video": name, **one.to_dict()}
            for name, videos in (
                ("generated", short),
                ("true frames", truth_of(clips)),
                ("first frame repeated", repeat_first(truth_of(clips))),
            )
            for one in agreements(videos, clips, spec.fps).values()
        ],
        "camera_clips": [score.to_dict() for score in scores],
        "minute": {
            "clips": len(long),
            "chunks": options.long_chunks,
            "broken_chunks": roller.broken,
            "statistics": {
                "names": STATISTICS,
                "generated": made,
                "truth": true,
            },
            **lasting.to_dict(),
        },
        "speed": asdict(speed),
    }
    checks = document["checks"] = checks_of(document)
    write_json(options.out / "embedded_world.json", document)
    for name, table in tables_of(document).items():
        table.print(console)
        write_text(options.out / f"{name}.csv", table.csv())
    draw(options.out, {"strip": (clips, short), "minute": (long, own)}, spec.fps)
    console.print(f"wrote embedded_world.json, csv files and pictures to {options.out}")
    return checks


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded_world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--clips", type=int, default=32, help="held-out clips (32)")
    add("--chunks", type=int, default=4, help="chunks per clip (4)")
    add("--long-clips", type=int, default=8, help="long rollouts (8)")
    add("--long-chunks", type=int, default=40, help="their chunks (40: a minute)")
    add("--starts", type=int, default=512, help="starts for the localiser (512)")
    add("--pairs", type=int, default=24, help="timed pairs of steps (24)")
    anchor_help = "where first frames are placed: by the world's localiser, or by their true pose"
    add("--anchor", choices=("estimated", "true"), default="estimated", help=anchor_help)
    radius_help = "largest distance of starts from the scene's most open spot, m (the world's)"
    add("--start-radius", type=float, help=radius_help)
    skip_help = f"held-out clips left out because training reports on them ({_WATCHED_CLIPS})"
    add("--skip", type=int, default=_WATCHED_CLIPS, help=skip_help)
    add("--seed", type=int, default=0, help="source of all noise (0)")
    add("--out", type=Path, default=Path("outputs/embedded_world"), help="folder")
    weights = EMBEDDED / "tiny.safetensors"
    add("--weights", type=Path, default=weights, help="a world file (the one in the package)")
    add("--check", action="store_true", help="exit 1 on a missed bound")
    options = parser.parse_args(arguments)
    if min(options.clips, options.long_clips) < 2:
        parser.error("at least 2 clips: commands are shuffled between clips")
    if min(options.chunks, options.long_chunks, options.pairs) < 1 or options.skip < 0:
        parser.error("at least 1 chunk and 1 pair, and 0 skipped clips")
    if options.starts < 16:
        parser.error("at least 16 starts: some are mirrored and recoloured")
    torch.set_num_threads(1)  # small networks: one thread is faster than threads that wait
    try:
        checks = measure(options, Console())
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(options.check and not all(check["passed"] for check in checks))


if __name__ == "__main__":
    sys.exit(main())
