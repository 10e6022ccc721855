"""What does each number see, and what not? `python -m benchmarks.what_numbers_see`.

Films one commanded path in the exact world rightly, and in the ways a video model goes wrong: it
turns too little, turns the other way, moves too slowly, freezes, starts late, or loses the order of
its frames. Every video is scored with known poses and with poses read from its pixels. A second
table puts `paper_sim3` beside `release` on straight, curved and turning paths.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console
from scipy.spatial.transform import Rotation

from sana_wm_gym.evaluation.floor_clips import CLIPS, place
from benchmarks.report import progress
from sana_wm_gym.camera.se3 import relative_to_first
from sana_wm_gym.files import write_json, write_text
from sana_wm_gym.metrics import (
    PAPER_SIM3,
    RELEASE,
    SCALE_ONLY,
    Convention,
    DegenerateTrajectoryError,
    psnr,
    score_poses,
)
from sana_wm_gym.metrics.drift import frame_change
from sana_wm_gym.poses import LKBundleAdjustment
from sana_wm_gym.poses.protocol import PoseEstimator
from sana_wm_gym.provenance import provenance
from sana_wm_gym.world.procedural.renderer import default_intrinsics, render
from sana_wm_gym.world.procedural.scenes import Scene, generate_scene
from sana_wm_gym.world.world_model import CHUNK_FRAMES

Array = npt.NDArray[np.float64]
FPS = 16.0
COMMAND = "strafe_yaw"
STRICTNESS = (RELEASE, SCALE_ONLY)
SIDE_BY_SIDE = ("dolly", "s_curve", "strafe_yaw", "orbit", "pan")
NOISE_DEG, NOISE_M = 0.07, 0.005
"""Errors of a good estimator, put on known poses in the second table."""


# --- the ways a video goes wrong -----------------------------------------------------------


def right(poses: Array) -> Array:
    """As commanded."""
    return poses


def turned(poses: Array, share: float) -> Array:
    """The commanded places, every orientation's rotation from the first scaled by `share`."""
    angles = Rotation.from_matrix(poses[0, :3, :3].T @ poses[:, :3, :3]).as_rotvec()
    wrong = poses.copy()
    wrong[:, :3, :3] = poses[0, :3, :3] @ Rotation.from_rotvec(share * angles).as_matrix()
    return wrong


def at(poses: Array, frames: Array) -> Array:
    """The commanded pose of another frame at every instant."""
    return np.asarray(poses[np.rint(frames).astype(np.int64)])


def shuffled(poses: Array) -> Array:
    """All frames after the first in a random order."""
    order = np.random.default_rng(0).permutation(np.arange(1, len(poses)))
    return np.asarray(poses[np.concatenate([[0], order])])


WRONG: Mapping[str, Callable[[Array], Array]] = {
    "as commanded": right,
    "turns 10 % too little": lambda poses: turned(poses, 0.9),
    "turns the other way": lambda poses: turned(poses, -1.0),
    "half speed": lambda poses: at(poses, np.arange(len(poses)) / 2),
    "frozen": lambda poses: at(poses, np.zeros(len(poses))),
    "one chunk late": lambda poses: at(
        poses, np.maximum(np.arange(len(poses), dtype=np.float64) - CHUNK_FRAMES, 0)
    ),
    "frames shuffled": shuffled,
}


# --- numbers -------------------------------------------------------------------------------


def errors(
    estimate: Array,
    command: Array,
    convention: Convention,
    valid: npt.NDArray[np.bool_] | None = None,
) -> dict[str, Any]:
    """RotErr, TransErr, CamMC and scale under a convention, or the reason code of a refusal."""
    try:
        score = score_poses(estimate, command, convention, valid)
    except DegenerateTrajectoryError as error:
        return {"code": error.code}
    values = {
        "rot_err": score.rot_err,
        "trans_err": score.trans_err,
        "cam_mc": score.cam_mc,
        "scale": score.scale,
    }
    return {**values, "undefined": dict(score.undefined)}


@dataclass(frozen=True)
class Seen:
    """What every number says of one video.

    Attributes:
        name: How the video was made.
        known: Errors of its true poses, by convention.
        read: Errors of the poses read from its pixels, by convention; a code where they could not
            be read.
        psnr_db: To the video as commanded; None for that video itself.
        frame_change: Mean change from frame to frame over that of the video as commanded.
    """

    name: str
    known: Mapping[str, Mapping[str, Any]]
    read: Mapping[str, Mapping[str, Any]]
    psnr_db: float | None
    frame_change: float


def watch(
    scene: Scene, command: Array, size: int, estimator: PoseEstimator, tick: Callable[[], None]
) -> list[Seen]:
    """Film and score every kind of video of a command.

    Args:
        scene: Where to film.
        command: Poses in scene axes, [n, 4, 4].
        size: Frame height and width in pixels.
        estimator: Reads poses from pixels.
        tick: Called after every video.
    """
    wanted = relative_to_first(command)
    intrinsics = np.array(default_intrinsics(size, size))
    truth = render(scene, command, intrinsics, (size, size))
    rows = []
    for name, make in WRONG.items():
        taken = make(command)
        video = render(scene, taken, intrinsics, (size, size))
        path = relative_to_first(taken)
        estimate = estimator.estimate(video, intrinsics, FPS)
        likeness = [psnr(a, b) for a, b in zip(video, truth, strict=True)]
        rows.append(
            Seen(
                name,
                {c.name: errors(path, wanted, c) for c in STRICTNESS},
                {c.name: errors(estimate.poses, wanted, c, estimate.valid) for c in STRICTNESS},
                None if np.array_equal(video, truth) else float(np.mean(likeness)),
                float(frame_change(video) / frame_change(truth)),
            )
        )
        tick()
    return rows


def side_by_side(frames: int) -> dict[str, dict[str, dict[str, Any]]]:
    """`paper_sim3` and `release` on paths whose poses carry a good estimator's errors."""
    rng, seconds = np.random.default_rng(0), np.arange(frames) / FPS
    table = {}
    for name in SIDE_BY_SIDE:
        command = relative_to_first(CLIPS[name](seconds))
        noisy = command.copy()
        turns = Rotation.from_rotvec(np.deg2rad(NOISE_DEG) * rng.normal(size=(frames, 3)))
        noisy[:, :3, :3] = command[:, :3, :3] @ turns.as_matrix()
        noisy[:, :3, 3] += NOISE_M * rng.normal(size=(frames, 3))
        table[name] = {c.name: errors(noisy, command, c) for c in (PAPER_SIM3, RELEASE)}
    return table


# --- tables --------------------------------------------------------------------------------


def cell(errors: Mapping[str, Any], key: str, digits: int) -> str:
    """A number, the reason why there is none, or a dash."""
    if "code" in errors:
        return f"`{errors['code']}`"
    if errors[key] is None:
        reason = errors.get("undefined", {}).get(key)
        return "-" if reason is None else f"`{reason}`"
    return f"{errors[key]:.{digits}f}"


def markdown(rows: list[Seen], paths: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Both tables."""
    lines = [
        "| the video | RotErr deg, known / read | TransErr m, known / read | strict RotErr deg, "
        "known / read | strict TransErr m, known / read | scale, known | PSNR dB | frame change |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        pairs = [
            f"{cell(row.known[c.name], key, digits)} / {cell(row.read[c.name], key, digits)}"
            for c in STRICTNESS
            for key, digits in (("rot_err", 2), ("trans_err", 3))
        ]
        scale = cell(row.known[SCALE_ONLY.name], "scale", 2)
        likeness = "equal" if row.psnr_db is None else f"{row.psnr_db:.1f}"
        cells = [row.name, *pairs, scale, likeness, f"{row.frame_change:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += [
        "",
        "| path | RotErr deg, `paper_sim3` | `release` | TransErr m, `paper_sim3` | `release` "
        "| CamMC, `paper_sim3` | `release` |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, scores in paths.items():
        cells = [
            cell(scores[c.name], key, digits)
            for key, digits in (("rot_err", 2), ("trans_err", 3), ("cam_mc", 3))
            for c in (PAPER_SIM3, RELEASE)
        ]
        lines.append("| " + " | ".join([name, *cells]) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128, help="pixels across (128)")
    parser.add_argument("--frames", type=int, default=97, help="frames of every video (97)")
    parser.add_argument("--scene", type=int, default=0, help="procedural scene (0)")
    parser.add_argument(
        "--out", type=Path, default=Path("outputs/what_numbers_see"), help="folder for the tables"
    )
    arguments = parser.parse_args()
    if arguments.size < 32 or arguments.frames <= CHUNK_FRAMES or arguments.scene < 0:
        parser.error(f"expected --size >= 32, --frames > {CHUNK_FRAMES} and --scene >= 0")
    console = Console()
    scene = generate_scene(arguments.scene)
    command = place(scene, CLIPS[COMMAND](np.arange(arguments.frames) / FPS), seed=0)
    with progress(console) as bar:
        task = bar.add_task("videos", total=len(WRONG))
        rows = watch(
            scene, command, arguments.size, LKBundleAdjustment(), lambda: bar.advance(task)
        )
    paths = side_by_side(arguments.frames)
    table = markdown(rows, paths)
    told = provenance("benchmarks.what_numbers_see")
    write_json(
        arguments.out / "what_numbers_see.json",
        {**told, "videos": [vars(row) for row in rows], "paths": paths},
    )
    write_text(arguments.out / "what_numbers_see.md", table)
    console.print(table, markup=False)
    console.print(f"wrote what_numbers_see.json and .md to {arguments.out}")


if __name__ == "__main__":
    main()
