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

Some fifteen minutes on an idle core. Writes OUT/embedded_world.json, OUT/strip.png,
OUT/rollout.webp and OUT/minute.png. Squared error is averaged over clips before the logarithm;
pose errors are averaged over frames, then clips. Everything but the speed is seeded.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.first_version import SpeedRatio, speed_ratio
from benchmarks.localiser import (
    BOUNDS,
    LEAST_RECOGNISED,
    LocaliserReport,
    localiser_report,
    pose_table,
    recognition_table,
)
from benchmarks.report import progress
from benchmarks.world_tables import (
    camera_table,
    check_table,
    condition_table,
    psnr_table,
    speed_line,
    stability_line,
    surface_table,
)
from sana_wm_gym.evaluation.pictures import Strip, write_moving, write_strips
from sana_wm_gym.evaluation.variant_scores import LEAST_COVERAGE, score_variants, surface_views
from sana_wm_gym.evaluation.world_scores import (
    STATISTICS,
    Check,
    Condition,
    Frames,
    Margin,
    PsnrErrors,
    Range,
    WatchedWorld,
    camera_errors,
    frame_statistics,
    psnr,
    repeat_first,
    score_clips,
    squared_errors,
    through_codec,
    training_statistics,
)
from sana_wm_gym.files import sha256, write_json
from sana_wm_gym.metrics import RELEASE, SCALE_ONLY
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance
from sana_wm_gym.training.validation import HeldOutClip, held_out_clips, roll
from sana_wm_gym.weights.world_file import EMBEDDED, read_world_file
from sana_wm_gym.world.learned.sana_world import SanaWorld
from sana_wm_gym.world.learned.schedule import NoiseSchedule, self_forcing
from sana_wm_gym.world.learned.world_files import world_of
from sana_wm_gym.world.procedural.appearance import prompt_of
from sana_wm_gym.world.procedural.scenes import generate_scene
from sana_wm_gym.world.world_model import CHUNK_FRAMES, WorldSpec

LEAST_PSNR_DB = 24.0
LEAST_MARGIN_DB = 10.0
LEAST_LONG_PSNR_DB = 21.0
LEAST_CODEC_DB = 31.0
LEAST_NEAREST = 0.9
LEAST_SPEED_RATIO = 1.5

# Training reports its progress on the first held-out walks; scores use later ones.
_WATCHED_CLIPS = 24
_TRAINING_WALKS = 24
_PICTURED = 4
_SEVERAL_STEPS = (1000, 500, 0)
_SEVERAL_STEPS_CLIPS = 8


@dataclass(frozen=True)
class Minute:
    """A long rollout.

    Attributes:
        errors: Squared errors of every chunk.
        broken_chunks: Chunks with a latent that is NaN or infinite, in any rollout.
        statistics: Image statistics of the last chunk's frames.
        true_statistics: The same of the true frames.
    """

    errors: PsnrErrors
    broken_chunks: int
    statistics: Range
    true_statistics: Range


@dataclass
class Roller:
    """Rolls clips out in one world.

    Attributes:
        world: The world.
        seed: Source of all noise.
        true_anchor: Whether first frames are placed by their true pose.
        bar: Shows progress.
        broken: Chunks so far with a latent that is NaN or infinite.
    """

    world: SanaWorld
    seed: int
    true_anchor: bool
    bar: Progress
    broken: int = 0

    def __call__(
        self,
        clips: Sequence[HeldOutClip],
        title: str,
        *,
        shuffled: bool = False,
        true_anchor: bool = False,
        schedule: NoiseSchedule | None = None,
    ) -> Frames:
        """Frames [b, 24 n + 1, H, W, 3] under the clips' own or under each other's commands."""
        commands = [clip.c2w for clip in clips]
        if shuffled:
            commands = commands[1:] + commands[:1]
        chunks = len(clips) * ((len(commands[0]) - 1) // CHUNK_FRAMES)
        task = self.bar.add_task(title, total=chunks)
        watched = WatchedWorld(
            self.world,
            lambda made: self.bar.advance(task, made),
            true_anchor=true_anchor or self.true_anchor,
            schedule=schedule,
        )
        frames = roll(watched, [clip.start for clip in clips], commands, self.seed)
        self.broken += watched.broken
        return frames


def psnr_errors(
    roller: Roller, clips: Sequence[HeldOutClip], title: str
) -> tuple[PsnrErrors, Frames]:
    """Errors under own and shuffled commands, and the frames under own commands."""
    truth = np.stack([clip.truth for clip in clips])
    own = roller(clips, title)
    shuffled = roller(clips, f"{title}, shuffled", shuffled=True)
    errors = PsnrErrors(
        own=squared_errors(own, truth),
        shuffled=squared_errors(shuffled, truth),
        repeat=squared_errors(repeat_first(truth), truth),
        codec=squared_errors(through_codec(roller.world.codec, truth), truth),
    )
    return errors, own


def with_prompts(clips: Sequence[HeldOutClip], prompts: Sequence[str]) -> list[HeldOutClip]:
    """The clips under other prompts; first frames and ground truth stay."""
    return [
        replace(clip, start=replace(clip.start, prompt=prompt))
        for clip, prompt in zip(clips, prompts, strict=True)
    ]


def wrong_prompt(spec: WorldSpec, appearance: Sequence[int]) -> str:
    """A prompt that names another variant of every surface."""
    other = [
        (variant + 1) % len(surface.variants)
        for surface, variant in zip(spec.surfaces, appearance, strict=True)
    ]
    return prompt_of(spec.surfaces, other)


def conditions_of(roller: Roller, clips: Sequence[HeldOutClip], own: Frames) -> list[Condition]:
    """The clips as they are, whose frames are `own`, a baseline, and ablations."""
    spec, views = roller.world.spec, surface_views(clips)
    truth = np.stack([clip.truth for clip in clips])

    def scored(name: str, frames: Frames) -> Condition:
        errors = squared_errors(frames, truth[: len(frames)])
        return Condition(name, errors, score_variants(views, frames, spec.surfaces))

    found = [scored("own prompt", own), scored("repeat first frame", repeat_first(truth))]
    if not roller.true_anchor and roller.world.localiser is not None:
        found.append(scored("true anchor", roller(clips, "true anchor", true_anchor=True)))
    silent = with_prompts(clips, [""] * len(clips))
    if spec.surfaces:
        empty = roller(silent, "empty prompt")
        found.append(scored("empty prompt", empty))
        wrong = [wrong_prompt(spec, clip.start.appearance) for clip in clips]
        found.append(
            scored("every word wrong", roller(with_prompts(clips, wrong), "every word wrong"))
        )
    else:
        empty = own
    few = slice(min(_SEVERAL_STEPS_CLIPS, len(clips)))
    found.append(scored("empty prompt, first clips", empty[few]))
    levels = ", ".join(f"{level:g}" for level in _SEVERAL_STEPS[:-1])
    frames = roller(silent[few], "several steps", schedule=self_forcing(_SEVERAL_STEPS))
    found.append(scored(f"the same, steps at {levels}", frames))
    return found


def localiser_of(world: SanaWorld, starts: int, seed: int) -> LocaliserReport | None:
    """The world's localiser on its own; None where there is none."""
    if world.localiser is None:
        return None
    [scene] = world.spec.scenes
    return localiser_report(
        world.localiser, generate_scene(scene), world.spec.intrinsics, starts, seed
    )


def checks_of(
    errors: PsnrErrors,
    conditions: Sequence[Condition],
    minute: Minute,
    localiser: LocaliserReport | None,
    speed: SpeedRatio,
) -> list[Check]:
    """Everything that has a bound."""
    chunks = range(2, errors.own.shape[1] + 1)
    own = psnr(errors.own)
    found = [
        Check.at_least(f"PSNR, chunk {chunk}, dB", float(own[chunk - 1]), LEAST_PSNR_DB)
        for chunk in chunks
    ]
    for other in ("repeat", "shuffled"):
        margin = own - psnr(getattr(errors, other))
        found += [
            Check.at_least(
                f"PSNR over {other}, chunk {chunk}, dB", float(margin[chunk - 1]), LEAST_MARGIN_DB
            )
            for chunk in chunks
        ]
    last = minute.errors.own.shape[1]
    found += [
        Check.at_least(
            f"PSNR, chunk {last}, dB", float(psnr(minute.errors.own)[-1]), LEAST_LONG_PSNR_DB
        ),
        Check.at_least(
            "codec ceiling, lowest chunk, dB", float(psnr(errors.codec).min()), LEAST_CODEC_DB
        ),
    ]
    pose = None if localiser is None else localiser.overall
    for name, words in (
        ("metres", "localiser, median, m"),
        ("degrees", "localiser, median, deg"),
        ("metres_p95", "localiser, 95th percentile, m"),
        ("degrees_p95", "localiser, 95th percentile, deg"),
    ):
        value = None if pose is None else float(getattr(pose, name))
        found.append(Check.at_most(words, value, BOUNDS[name]))
    recognised = None if localiser is None else localiser.recognition[-1].at_false_alarms
    score = conditions[0].variants
    found += [
        Check.at_least("foreign pictures recognised", recognised, LEAST_RECOGNISED),
        Check.at_least(
            "named variant is the nearest one", None if score is None else score.true, LEAST_NEAREST
        ),
        Check.at_least("env steps/s over first version", speed.ratio, LEAST_SPEED_RATIO),
    ]
    broken, inside = minute.broken_chunks, minute.statistics.inside
    found += [
        Check.at_most("chunks with NaN or inf", float(broken), 0),
        Check.at_least(f"fraction of chunk {last} in range", inside, 1),
    ]
    return found


def spread(clips: Sequence[HeldOutClip], count: int) -> list[int]:
    """Indices of clips that begin far from each other: greedily, by position and heading."""
    poses = np.stack([clip.start.scene_c2w for clip in clips if clip.start.scene_c2w is not None])
    # Opposite headings are as far apart as 4 m.
    places = np.concatenate([poses[:, [0, 2], 3], 2 * poses[:, [0, 2], 2]], axis=1)
    chosen = [0]
    while len(chosen) < min(count, len(clips)):
        distance = np.linalg.norm(places[:, None] - places[chosen], axis=-1).min(axis=1)
        chosen.append(int(distance.argmax()))
    return chosen


def _pictures(
    out: Path,
    clips: Sequence[HeldOutClip],
    short: Frames,
    long: Sequence[HeldOutClip],
    own: Frames,
    fps: float,
) -> None:
    """Draw a few clips of both lengths, truth over generated, and play the short ones."""

    def pairs(shown: Sequence[HeldOutClip], frames: Frames, picks: Any) -> list[Strip]:
        return [
            Strip([("truth", shown[i].truth[picks]), ("generated", frames[i][picks])])
            for i in spread(shown, _PICTURED)
        ]

    for name, shown, frames in (("strip", clips, short), ("minute", long, own)):
        picks = np.linspace(0, frames.shape[1] - 1, 9).round().astype(int)
        times = [f"{index / fps:.1f} s" for index in picks]
        write_strips(out / f"{name}.png", pairs(shown, frames, picks), times)
    write_moving(out / "rollout.webp", pairs(clips, short, slice(None)), fps)


def _plain(errors: PsnrErrors) -> dict[str, Any]:
    values: dict[str, Any] = {
        f"psnr_{name}": psnr(getattr(errors, name)).tolist() for name in asdict(errors)
    }
    for other in ("repeat", "shuffled"):
        margin = Margin.of(errors.own, getattr(errors, other))
        values[f"own_over_{other}_db"] = {k: v.tolist() for k, v in asdict(margin).items()}
    return values


def _plain_condition(condition: Condition) -> dict[str, Any]:
    variants = condition.variants
    return {
        "name": condition.name,
        "clips": len(condition.own),
        "psnr_own": psnr(condition.own).tolist(),
        "variants": None if variants is None else asdict(variants),
    }


def _plain_localiser(report: LocaliserReport | None) -> dict[str, Any] | None:
    if report is None:
        return None
    return {
        "overall": asdict(report.overall),
        "recognition": [asdict(row) for row in report.recognition],
        "false_alarms_at_half": report.false_alarms,
        "missing": report.missing,
    }


def measure(options: argparse.Namespace, console: Console) -> list[Check]:
    """Run everything, print and write it."""
    world = world_of(read_world_file(options.weights))
    spec = world.spec
    size = (spec.height, spec.width)
    radius = spec.start_radius if options.start_radius is None else options.start_radius

    def held_out(count: int, chunks: int) -> list[HeldOutClip]:
        return held_out_clips(
            spec.scenes, count, chunks, spec.intrinsics, size, radius, skip=options.skip
        )

    estimator = LKBundleAdjustment()
    with progress(console) as bar:
        roller = Roller(world, options.seed, options.anchor == "true", bar)
        clips = held_out(options.clips, options.chunks)
        errors, short = psnr_errors(roller, clips, "rollouts")
        conditions = conditions_of(roller, clips, short)
        task = bar.add_task("camera", total=len(clips))
        scores = score_clips(short, clips, spec.fps, estimator, lambda n: bar.advance(task, n))
        long = held_out(options.long_clips, options.long_chunks)
        lasting, own = psnr_errors(roller, long, "a minute")
        localiser = localiser_of(world, options.starts, options.seed)
        task = bar.add_task("speed", total=None)
        speed = speed_ratio(world, options.pairs, lambda n: bar.advance(task, n))
    training = training_statistics(spec, _TRAINING_WALKS)
    ends = (own, np.stack([clip.truth for clip in long]))
    made, true = (
        Range.of(np.concatenate([frame_statistics(clip[-CHUNK_FRAMES:]) for clip in end]), training)
        for end in ends
    )
    minute = Minute(lasting, roller.broken, made, true)
    cameras = [camera_errors(scores, convention) for convention in (SCALE_ONLY, RELEASE)]
    checks = checks_of(errors, conditions, minute, localiser, speed)

    marks = sorted({c for c in (1, 2, 4, 10, 20, 40) if c < options.long_chunks})
    marks.append(options.long_chunks)
    seconds = options.long_chunks * CHUNK_FRAMES / spec.fps
    every = range(1, options.chunks + 1)
    title = f"{len(clips)} held-out rollouts, {options.anchor} anchor, own prompt"
    console.print(psnr_table(title, errors, every))
    console.print(condition_table(conditions))
    if conditions[0].variants is not None:
        # The last two are of the first clips alone.
        console.print(surface_table(conditions[:-2]))
    if localiser is not None:
        console.print(pose_table("Localiser, held-out starts", [localiser.overall]))
        console.print(recognition_table(localiser.recognition))
    console.print(camera_table(cameras))
    console.print(psnr_table(f"{seconds:.0f} s, {len(long)} held-out rollouts", lasting, marks))
    console.print(stability_line(options.long_chunks, minute.broken_chunks, minute.statistics))
    console.print(speed_line(speed))
    console.print(check_table(checks))

    _pictures(options.out, clips, short, long, own, spec.fps)
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
            "scenes": spec.scenes,
            "start_radius": radius,
            "skipped_clips": options.skip,
            "anchor": options.anchor,
            "rollouts": {"clips": len(clips), **_plain(errors)},
            "least_coverage": LEAST_COVERAGE,
            "conditions": [_plain_condition(condition) for condition in conditions],
            "localiser": _plain_localiser(localiser),
            "camera": [asdict(summary) for summary in cameras],
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
            "speed": asdict(speed),
            "checks": [asdict(check) for check in checks],
        },
    )
    console.print(f"wrote {target}, strip.png, rollout.webp and minute.png")
    return checks


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
    parser.add_argument("--starts", type=int, default=512, help="starts for the localiser (512)")
    parser.add_argument("--pairs", type=int, default=24, help="timed pairs of steps (24)")
    parser.add_argument(
        "--anchor",
        choices=("estimated", "true"),
        default="estimated",
        help="where first frames are placed: by the world's localiser, or by their true pose",
    )
    parser.add_argument(
        "--start-radius",
        type=float,
        help="starts at most this far from the scene's most open spot, metres (as the world's)",
    )
    parser.add_argument(
        "--skip",
        type=int,
        default=_WATCHED_CLIPS,
        help=f"held-out clips left out because training reports on them ({_WATCHED_CLIPS})",
    )
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
    return int(options.check and not all(check.passed for check in checks))


if __name__ == "__main__":
    sys.exit(main())
