"""Score somebody else's videos against a bench: no world, no GPU, nothing but video files.

    sana-wm score --videos DIR --bench DIR                  # published layout
    sana-wm score --videos DIR --bench DIR --split simple   # a folder of <scene>.mp4

DIR holds simple_60s/<scene>_generated.mp4 and hard_60s/..., as in SANA-WM-Bench results, or just
<scene>.mp4 (or <scene>_generated.mp4) for one split; .mov, .m4v, .mkv, .webm and .avi serve as
well, in any case. Videos may have any size and frame rate: they are matched with the commanded
poses by time, and intrinsics follow the resize and centre crop that brings the bench's first frame
to their size. A scene without a video is a failure with its code, and coverage stands next to every
mean. Videos that no scene is named after are listed.

OUT gets report.md with frames and camera paths, summary.json, scenes.csv,
scenes/<split>/<scene>.json, and eval_poses.json in the published layout. Stop it whenever you like:
the same command resumes.

Exit status: 0 all scenes scored, 1 some were not (see Failures), 2 nothing could be run.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console

from sana_wm_gym.evaluation.bench.hub import bench_root
from sana_wm_gym.evaluation.bench.layout import FOLDERS, PUBLIC_NAMES, Split, split_of
from sana_wm_gym.evaluation.bench.reader import list_scenes
from sana_wm_gym.evaluation.bench.results import MethodFolder, read_method_info
from sana_wm_gym.evaluation.control.report import run
from sana_wm_gym.evaluation.control.run_folder import claim, scoring_identity
from sana_wm_gym.evaluation.control.scene_job import SceneJob
from sana_wm_gym.evaluation.control.score_video import Scoring
from sana_wm_gym.flags import FlagParser
from sana_wm_gym.jobs import LAUNCHERS, Launcher
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.provenance import provenance

SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi")


def video_folders(videos: Path, asked: Sequence[str]) -> dict[Split, Path]:
    """Where the videos of each split are; `asked` lists splits, none for all that have a folder.

    Raises:
        ValueError: There is no such folder, or it does not show which split is where.
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
    missing = [split for split in splits if split not in found]
    if found and missing:
        raise ValueError(f"{videos} has no folder for split {', '.join(missing)}")
    if found:
        return {split: found[split] for split in dict.fromkeys(splits or found)}
    if len(splits) != 1:
        raise ValueError(
            f"{videos} has no folder {' or '.join(PUBLIC_NAMES.values())}, so its videos are of "
            "one split: say --split simple or --split hard"
        )
    return {splits[0]: videos}


def match_videos(folder: Path, scenes: Iterable[str]) -> tuple[dict[str, Path], list[str]]:
    """The video of each scene under either of its names, mp4 first, or where the published name
    would be; and the names of videos that belong to no scene."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES]
    found.sort(key=lambda path: (SUFFIXES.index(path.suffix.lower()), path), reverse=True)
    by_stem = {path.stem: path for path in found}
    videos = {}
    for scene in scenes:
        name = f"{scene}_generated"
        videos[scene] = by_stem.get(name) or by_stem.get(scene) or folder / f"{name}.mp4"
    return videos, sorted(path.name for path in {*by_stem.values()} - {*videos.values()})


def score(options: argparse.Namespace, console: Console) -> int:
    """Score all videos; returns the exit status.

    Raises:
        ValueError: A folder is not what it should be, or OUT holds other results.
        FileNotFoundError: A hub bench cannot be had.
        ImportError: A hub bench needs a package that is missing.
    """
    launcher = Launcher(options.launcher, options.workers, options.ray_address)
    folders, method = video_folders(options.videos, options.split), MethodFolder(options.videos)
    info = read_method_info(method) if method.info_file().is_file() else None
    name = info.model if info else options.videos.resolve().name
    out: Path = options.out or Path("outputs/score") / options.videos.resolve().name
    scoring = Scoring(
        LKBundleAdjustment(), options.interval, floor=options.floor, truncate=options.truncate
    )
    bench_name = Path(options.bench).name
    who = {"videos": name, "bench": bench_name, "fps": options.fps, **scoring_identity(scoring)}
    claim(out, who)
    bench = bench_root(
        options.bench, options.revision, splits=list(folders), offline=options.offline
    )
    jobs: list[SceneJob] = []
    for split, folder in folders.items():
        entries = list_scenes(bench, split)
        videos, unused = match_videos(folder, [entry.id for entry in entries])
        rates = {"fps": options.fps, "declared_fps": info.fps if info else None}
        jobs += [SceneJob(entry, out, scoring, videos[entry.id], **rates) for entry in entries]
        if unused:
            names = ", ".join(unused)
            console.print(f"not scored, no {split} scene has this name: {names}", soft_wrap=True)
    source = {**provenance("sana-wm score"), "run": who}
    return run(jobs, out, MethodFolder(out / "results"), name, source, launcher, console)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = FlagParser("sana-wm score", __doc__)
    add = parser.add_argument
    add("--videos", type=Path, required=True, help="folder of video files")
    add("--bench", required=True, help="folder or hub id of the bench")
    add("--split", action="append", default=[], help="simple or hard; repeatable")
    add("--out", type=Path, help="where results go (outputs/score/NAME)")
    add("--fps", type=float, help="rate of all videos, if the files are wrong, Hz")
    add("--truncate", action="store_true", help="score what there is of videos that end early")
    add("--interval", type=int, default=4, help="stride of the poses that count (4)")
    add("--no-floor", dest="floor", action="store_false", help="no poses from true videos")
    add("--revision", help="commit of a hub bench")
    add("--offline", action="store_true", help="hub bench from the cache only")
    add("--workers", type=int, default=2, help="videos at a time (2)")
    add("--launcher", choices=LAUNCHERS, default=LAUNCHERS[0], help="where they run (processes)")
    add("--ray-address", help="a Ray cluster that already runs, or auto")
    options = parser.parse_args(arguments)
    if options.interval < 1:
        parser.error("--interval counts from 1")
    if options.fps is not None and not 0 < options.fps < 1000:
        parser.error(f"--fps is {options.fps}, expected a rate in Hz")
    return score(options, Console())
