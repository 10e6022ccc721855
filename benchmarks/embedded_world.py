"""Does the embedded world follow the camera, and does it look like the truth?

Rolls the learned world out on held-out walks, first frames and commands it was never trained on,
and compares every chunk with the exact renderer:

  likeness   PSNR to the true frames: following its own commands, following another clip's
             (shuffled), against repeating the first frame, and below what the codec alone loses
  camera     RotErr and TransErr of poses estimated from the generated pixels, against a
             motionless camera and against the same estimator on true frames (its floor)
  a minute   40 chunks without collapse, with image statistics inside those of the training walks
  new maps   likeness in maps that it was never trained on; no bound applies

    python -m benchmarks.embedded_world                      # the shipped weights, all 32 clips
    python -m benchmarks.embedded_world --clips 8 --long-clips 2      # a quick look
    python -m benchmarks.embedded_world --check              # exit status 1 on a missed bound

About eight minutes on an idle core. Writes OUT/embedded_world.json, OUT/strip.png and
OUT/minute.png. Squared error is averaged over clips before the logarithm; pose errors are averaged
over frames, then clips. Everything is seeded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.pictures import Strip, write_strips
from benchmarks.report import progress
from benchmarks.world_scores import (
    STATISTICS,
    Frames,
    Likeness,
    Margin,
    Obedience,
    Range,
    WatchedWorld,
    frame_statistics,
    obedience,
    psnr,
    repeat_first,
    score_clips,
    squared_errors,
    through_codec,
    training_statistics,
)
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY
from sana_wm_gym.metrics.estimators import LKBundleAdjustment
from sana_wm_gym.provenance import provenance, sha256, write_json
from sana_wm_gym.training.validation import HeldOutClip, held_out_clips, roll
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.sana_world import SanaWorld, world_of
from sana_wm_gym.world.world_model import CHUNK_FRAMES

LEAST_MARGIN_DB = 6.0
LARGEST_POSE_RATIO = 0.25
NEW_MAPS = tuple(range(1000, 1008))

# Training looks at the first held-out walks to report progress; scores use later ones.
_WATCHED_CLIPS = 16
_TRAINING_WALKS = 24
_PICTURED = 4


@dataclass(frozen=True)
class Verdict:
    """One number and the bound it should keep; `passed` is None where the number is missing."""

    name: str
    value: float | None
    bound: str
    passed: bool | None


@dataclass(frozen=True)
class Minute:
    """A long rollout.

    Attributes:
        likeness: Squared errors of every chunk.
        broken_chunks: Chunks with a latent that is NaN or infinite, shuffled rollouts included.
        statistics: Image statistics of the last chunk's frames.
        true_statistics: The same of the true frames.
    """

    likeness: Likeness
    broken_chunks: int
    statistics: Range
    true_statistics: Range


def likeness(
    world: SanaWorld, clips: Sequence[HeldOutClip], seed: int, bar: Progress, title: str
) -> tuple[Likeness, Frames, int]:
    """Roll out own and shuffled commands.

    Returns:
        Errors, the frames under own commands [b, 24 n + 1, H, W, 3], and the number of chunks
        that are not finite.
    """
    starts, commands = [clip.start for clip in clips], [clip.c2w for clip in clips]
    truth = np.stack([clip.truth for clip in clips])
    chunks = 2 * len(clips) * (truth.shape[1] // CHUNK_FRAMES)
    task = bar.add_task(title, total=chunks)
    watched = WatchedWorld(world, lambda made: bar.advance(task, made))
    own = roll(watched, starts, commands, seed)
    shuffled = roll(watched, starts, commands[1:] + commands[:1], seed)
    errors = Likeness(
        own=squared_errors(own, truth),
        shuffled=squared_errors(shuffled, truth),
        repeat=squared_errors(repeat_first(truth), truth),
        codec=squared_errors(through_codec(world.codec, truth), truth),
    )
    return errors, own, watched.broken


def verdicts(
    maps: Likeness, camera: Obedience, minute: Minute, chunks: Sequence[int]
) -> list[Verdict]:
    """Every bound the embedded world should keep."""
    found = []
    for other in ("repeat", "shuffled"):
        margin = Margin.of(maps.own, getattr(maps, other)).mean
        for chunk in chunks:
            value = float(margin[chunk - 1])
            found.append(
                Verdict(
                    f"PSNR over {other}, chunk {chunk}, dB",
                    value,
                    f">= {LEAST_MARGIN_DB:g}",
                    value >= LEAST_MARGIN_DB,
                )
            )
    for name in ("rot_err", "trans_err"):
        means = getattr(camera, name)
        ratio = None if means is None else means.ratio
        found.append(
            Verdict(
                f"{name} over motionless, {camera.convention}",
                ratio,
                f"<= {LARGEST_POSE_RATIO:g}",
                None if ratio is None else ratio <= LARGEST_POSE_RATIO,
            )
        )
    last = minute.likeness.own.shape[1]
    for other in ("repeat", "shuffled"):
        value = float(Margin.of(minute.likeness.own, getattr(minute.likeness, other)).mean[-1])
        found.append(Verdict(f"PSNR over {other}, chunk {last}, dB", value, "> 0", value > 0))
    broken, inside = minute.broken_chunks, minute.statistics.inside
    found.append(Verdict("chunks with NaN or inf", float(broken), "= 0", broken == 0))
    name = f"share of chunk {last} in training range"
    found.append(Verdict(name, inside, "= 1", inside == 1.0))
    return found


def likeness_table(title: str, errors: Likeness, chunks: Sequence[int]) -> Table:
    """PSNR per chunk, and margins with their intervals."""
    table = Table(title=title, title_justify="left")
    table.add_column("PSNR, dB", no_wrap=True)
    for chunk in chunks:
        table.add_column(f"chunk {chunk}", justify="right")
    for label, name in (
        ("own commands", "own"),
        ("shuffled commands", "shuffled"),
        ("repeat first frame", "repeat"),
        ("codec ceiling", "codec"),
    ):
        values = psnr(getattr(errors, name))
        table.add_row(label, *(f"{values[chunk - 1]:.2f}" for chunk in chunks))
    for other in ("repeat", "shuffled"):
        margin = Margin.of(errors.own, getattr(errors, other))
        at = [chunk - 1 for chunk in chunks]
        table.add_row(f"own over {other}", *(f"{margin.mean[i]:+.2f}" for i in at), style="bold")
        ends = (f"{margin.low[i]:+.1f} .. {margin.high[i]:+.1f}" for i in at)
        table.add_row("  95 % of resampled clips", *ends)
    return table


def camera_table(summaries: Sequence[Obedience]) -> Table:
    """Pose errors beside what a motionless camera and true frames score."""
    first = summaries[0]
    caption = (
        f"{first.clips_scored} of {first.clips_asked} clips and {first.frames_scored} of "
        f"{first.frames_asked} frames scored; floor from {first.floor_clips} clips; "
        f"modes: {_counts(first.modes)}; failures: {_counts(first.failures)}. Ratio of the means; "
        "in the last column a clip that failed counts as motionless."
    )
    table = Table(
        title="Camera, mean of the errors of each clip",
        title_justify="left",
        caption=caption,
        caption_justify="left",
    )
    for heading in ("convention", "error"):
        table.add_column(heading, no_wrap=True)
    for heading in ("generated", "motionless", "floor", "ratio", "ratio, all"):
        table.add_column(heading, justify="right")
    for summary in summaries:
        for label, means in (
            ("RotErr deg", summary.rot_err),
            ("TransErr m", summary.trans_err),
        ):
            if means is None:
                table.add_row(summary.convention, label, *["-"] * 5)
                continue
            table.add_row(
                summary.convention,
                label,
                f"{means.generated:.3f}",
                f"{means.motionless:.3f}",
                "-" if means.floor is None else f"{means.floor:.3f}",
                f"{means.ratio:.3f}",
                f"{means.ratio_with_failures:.3f}",
            )
    return table


def verdict_table(found: Sequence[Verdict]) -> Table:
    """Bounds, kept or missed."""
    table = Table(title="Bounds", title_justify="left")
    for heading in ("what", "value", "bound", ""):
        table.add_column(heading, justify="right" if heading == "value" else "left")
    words = {True: "[green]pass[/]", False: "[red]MISS[/]", None: "[red]no value[/]"}
    for verdict in found:
        value = "-" if verdict.value is None else f"{verdict.value:.3f}"
        table.add_row(verdict.name, value, verdict.bound, words[verdict.passed])
    return table


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items())) or "none"


def _plain(errors: Likeness) -> dict[str, Any]:
    values: dict[str, Any] = {
        f"psnr_{name}": psnr(getattr(errors, name)).tolist() for name in asdict(errors)
    }
    for other in ("repeat", "shuffled"):
        margin = Margin.of(errors.own, getattr(errors, other))
        values[f"own_over_{other}_db"] = {k: v.tolist() for k, v in asdict(margin).items()}
    return values


def _pictures(
    out: Path, clips: Sequence[HeldOutClip], short: Frames, long: Sequence[HeldOutClip], own: Frames
) -> None:
    """Draw a few clips of both lengths, truth over generated."""
    for name, shown, frames in (("strip", clips, short), ("minute", long, own)):
        last = frames.shape[1] - 1
        picks = np.linspace(0, last, 9).round().astype(int)
        strips = [
            Strip([("truth", clip.truth[picks]), ("generated", video[picks])])
            for clip, video in list(zip(shown, frames, strict=True))[:_PICTURED]
        ]
        write_strips(out / f"{name}.png", strips, [f"{index / 16:.1f} s" for index in picks])


def measure(options: argparse.Namespace, console: Console) -> list[Verdict]:
    """Run everything, print and write it."""
    world = world_of(read_world_file(options.weights))
    spec = world.spec
    size = (spec.height, spec.width)

    def held_out(scenes: Sequence[int], count: int, chunks: int) -> list[HeldOutClip]:
        clips = held_out_clips(
            scenes, _WATCHED_CLIPS + count, chunks, spec.intrinsics, size, spec.start_radius
        )
        return clips[_WATCHED_CLIPS:]

    estimator = LKBundleAdjustment()
    with progress(console) as bar:
        clips = held_out(spec.scenes, options.clips, options.chunks)
        maps, short, broken = likeness(world, clips, options.seed, bar, "shipped maps")
        task = bar.add_task("camera", total=len(clips))
        scores = score_clips(short, clips, spec.fps, estimator, lambda n: bar.advance(task, n))
        new = held_out_clips(
            NEW_MAPS, options.clips, options.chunks, spec.intrinsics, size, spec.start_radius
        )
        elsewhere, _, _ = likeness(world, new, options.seed, bar, "new maps")
        long = held_out(spec.scenes, options.long_clips, options.long_chunks)
        lasting, own, long_broken = likeness(world, long, options.seed, bar, "a minute")
    training = training_statistics(spec, _TRAINING_WALKS)
    ends = (own, np.stack([clip.truth for clip in long]))
    made, true = (
        Range.of(np.concatenate([frame_statistics(clip[-CHUNK_FRAMES:]) for clip in end]), training)
        for end in ends
    )
    minute = Minute(lasting, broken + long_broken, made, true)
    summaries = [obedience(scores, convention) for convention in (SCALE_ONLY, RELEASE)]
    every = range(1, options.chunks + 1)
    found = verdicts(maps, summaries[0], minute, [c for c in every if c >= 2])

    marks = sorted({c for c in (1, 2, 4, 10, 20, 40) if c < options.long_chunks})
    marks.append(options.long_chunks)
    seconds = options.long_chunks * CHUNK_FRAMES / spec.fps
    console.print(likeness_table(f"Shipped maps, {len(clips)} held-out clips", maps, every))
    console.print(camera_table(summaries))
    console.print(
        likeness_table(f"{seconds:.0f} s rollouts, {len(long)} held-out clips", lasting, marks)
    )
    console.print(likeness_table(f"Maps never trained on, {len(new)} clips", elsewhere, every))
    console.print(verdict_table(found))

    _pictures(options.out, clips, short, long, own)
    target = options.out / "embedded_world.json"
    write_json(
        target,
        {
            **provenance("benchmarks.embedded_world"),
            "weights": {
                "name": options.weights.name,
                "bytes": options.weights.stat().st_size,
                "sha256": sha256(options.weights),
                "parameters": sum(p.numel() for p in world.model.parameters()),
            },
            "seed": options.seed,
            "shipped_maps": {"scenes": spec.scenes, "clips": len(clips), **_plain(maps)},
            "camera": [asdict(summary) for summary in summaries],
            "camera_clips": [score.to_dict() for score in scores],
            "minute": {
                "clips": len(long),
                "chunks": options.long_chunks,
                "broken_chunks": minute.broken_chunks,
                "statistics": {
                    "names": STATISTICS,
                    "generated": minute.statistics.to_dict(),
                    "truth": minute.true_statistics.to_dict(),
                },
                **_plain(lasting),
            },
            "new_maps": {"scenes": NEW_MAPS, "clips": len(new), **_plain(elsewhere)},
            "bounds": [asdict(verdict) for verdict in found],
        },
    )
    console.print(f"wrote {target}, strip.png and minute.png")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.embedded_world",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--clips", type=int, default=32, help="held-out clips (32)")
    parser.add_argument("--chunks", type=int, default=4, help="chunks per clip (4)")
    parser.add_argument("--long-clips", type=int, default=8, help="long rollouts (8)")
    parser.add_argument("--long-chunks", type=int, default=40, help="their chunks (40: a minute)")
    parser.add_argument("--seed", type=int, default=0, help="source of all noise (0)")
    parser.add_argument("--out", type=Path, default=Path("outputs/embedded_world"), help="folder")
    parser.add_argument(
        "--weights",
        type=Path,
        default=EMBEDDED / "tiny.safetensors",
        help="a world file; by default the one in the package",
    )
    parser.add_argument("--check", action="store_true", help="exit 1 on a missed bound")
    options = parser.parse_args(arguments)
    if min(options.clips, options.long_clips) < 2:
        parser.error("at least 2 clips: commands are shuffled between clips")
    if min(options.chunks, options.long_chunks) < 1:
        parser.error("rollouts have at least 1 chunk")
    torch.set_num_threads(1)  # small networks: one thread is faster than threads that wait
    try:
        found = measure(options, Console())
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(options.check and not all(verdict.passed for verdict in found))


if __name__ == "__main__":
    sys.exit(main())
