"""Score somebody else's videos against a bench: no world, no GPU, nothing but mp4 files.

    python -m benchmarks.score --videos DIR --bench DIR                  # published layout
    python -m benchmarks.score --videos DIR --bench DIR --split simple   # a folder of <scene>.mp4

DIR holds simple_60s/<scene>_generated.mp4 and hard_60s/..., as in SANA-WM-Bench results, or just
<scene>.mp4 (or <scene>_generated.mp4) for one split; .mov, .m4v, .mkv, .webm and .avi serve as
well, in any case. Videos may have any size and frame rate: they are matched with the commanded
poses by time, and intrinsics follow the resize and centre crop that brings the bench's first frame
to their size. A scene without a video is a failure with its code, and coverage stands next to every
mean. Videos that no scene is named after are listed.

OUT gets report.html, report.md, summary.json, scenes/<split>/<scene>.json, and eval_poses.json in
the published layout. Stop it whenever you like: the same command goes on where it stopped.

Exit status: 0 all scenes scored, 1 some were not (see Failures), 2 nothing could be run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from sana_wm_gym.evaluation.bench.hub import bench_root
from sana_wm_gym.evaluation.bench.layout import FOLDERS, PUBLIC_NAMES, Split, list_scenes, split_of
from sana_wm_gym.evaluation.bench.results import MethodFolder, MethodInfo, read_method_info
from sana_wm_gym.evaluation.control.jobs import Given, Job
from sana_wm_gym.evaluation.control.launchers import LAUNCHERS, launcher_of
from sana_wm_gym.evaluation.control.run_folder import RunFolder
from sana_wm_gym.evaluation.control.running import run, scoring_identity
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


def video_folders(videos: Path, asked: Sequence[str]) -> dict[Split, Path]:
    """Where the videos of each split are.

    Args:
        videos: What the user gave.
        asked: Splits to score; none for all that have a folder.

    Raises:
        ValueError: There is no such folder, no split can be told from it, or the one folder of
            videos is to serve two splits.
    """
    if not videos.is_dir():
        raise ValueError(f"no folder {videos}, expected one with videos")
    splits = [split_of(name) for name in asked]
    found = {
        split: videos / name
        for split in FOLDERS
        for name in (split, PUBLIC_NAMES[split])
        if (videos / name).is_dir()
    }
    if found:
        missing = [split for split in splits if split not in found]
        if missing:
            raise ValueError(f"{videos} has no folder for split {', '.join(missing)}")
        return {split: found[split] for split in dict.fromkeys(splits or found)}
    if len(splits) != 1:
        raise ValueError(
            f"{videos} has no folder {' or '.join(PUBLIC_NAMES.values())}, so its videos are of "
            "one split: say --split simple or --split hard"
        )
    return {splits[0]: videos}


def videos_in(folder: Path) -> dict[str, Path]:
    """Videos of a folder by name without suffix, mp4 first."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    found.sort(key=lambda path: (SUFFIXES.index(path.suffix.lower()), path), reverse=True)
    return {path.stem: path for path in found}


def video_of(folder: Path, scene: str) -> Path:
    """The video of a scene under either of its names; the published one where there is none."""
    found = videos_in(folder)
    published = f"{scene}_generated"
    return found.get(published) or found.get(scene) or folder / f"{published}.mp4"


def unused(folder: Path, scenes: Iterable[str]) -> list[str]:
    """Names of videos that belong to no scene."""
    used = {video_of(folder, scene) for scene in scenes}
    return sorted(path.name for path in set(videos_in(folder).values()) - used)


def method_info(videos: Path) -> MethodInfo | None:
    """What made the videos, where the folder says so.

    Raises:
        BenchDataError: method_info.json is damaged.
    """
    folder = MethodFolder(videos)
    return read_method_info(folder) if folder.info_file().is_file() else None


def score(options: argparse.Namespace, console: Console) -> int:
    """Score all videos; returns the exit status.

    Raises:
        ValueError: A folder is not what it should be, or OUT holds other results.
        FileNotFoundError: A hub bench cannot be had.
        ImportError: A hub bench needs a package that is missing.
    """
    folders = video_folders(options.videos, options.split)
    info = method_info(options.videos)
    name = info.model if info else options.videos.resolve().name
    out: Path = options.out or Path("outputs/score") / options.videos.resolve().name
    scoring = Scoring(
        LKBundleAdjustment(), options.interval, floor=options.floor, truncate=options.truncate
    )
    bench_name = Path(options.bench).name
    who = {"videos": name, "bench": bench_name, "fps": options.fps, **scoring_identity(scoring)}
    RunFolder(out).claim(who)
    bench = bench_root(
        options.bench, options.revision, splits=list(folders), offline=options.offline
    )
    declared = info.fps if info else None
    jobs = [
        Job(entry, out, Given(video_of(folder, entry.id), options.fps, declared), scoring)
        for split, folder in folders.items()
        for entry in list_scenes(bench, split)
    ]
    for split, folder in folders.items():
        if left := unused(folder, [job.entry.id for job in jobs if job.entry.split == split]):
            names = ", ".join(left)
            console.print(f"not scored, no {split} scene has this name: {names}", soft_wrap=True)
    source = {**provenance("benchmarks.score"), "run": who}
    launch = launcher_of(options.launcher, options.ray_address)
    return run(jobs, out, out / "results", name, source, options.workers, launch, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.score",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of mp4 files")
    parser.add_argument("--bench", required=True, help="folder or hub id of the bench")
    parser.add_argument("--split", action="append", default=[], help="simple or hard; repeatable")
    parser.add_argument("--out", type=Path, help="where results go (outputs/score/NAME)")
    parser.add_argument("--fps", type=float, help="rate of all videos, if the files are wrong, Hz")
    parser.add_argument(
        "--truncate", action="store_true", help="score what there is of videos that end early"
    )
    parser.add_argument("--interval", type=int, default=4, help="every how manieth pose counts (4)")
    parser.add_argument(
        "--no-floor",
        dest="floor",
        action="store_false",
        help="do not read the camera from true videos",
    )
    parser.add_argument("--revision", help="commit of a hub bench")
    parser.add_argument("--offline", action="store_true", help="hub bench from the cache only")
    parser.add_argument("--workers", type=int, default=2, help="videos at a time (2)")
    parser.add_argument(
        "--launcher", choices=LAUNCHERS, default=LAUNCHERS[0], help="where they run (processes)"
    )
    parser.add_argument("--ray-address", help="a Ray cluster that runs already, or auto")
    options = parser.parse_args(arguments)
    if min(options.interval, options.workers) < 1:
        parser.error("--interval and --workers count from 1")
    if options.fps is not None and not 0 < options.fps < 1000:
        parser.error(f"--fps is {options.fps}, expected a rate in Hz")
    try:
        return score(options, Console())
    except (ImportError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
